# mypy: disable-error-code="assignment, no-redef"
# ruff: noqa: UP018, RUF059 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""Rays against a mesh's bounding volume hierarchy: what is seen along a ray, and where an outline lies between two.

A ray is (x, y, z) in the camera frame with z = 1 where it looks forward; hits are returned as object points and depths
in units of the ray, so z = 1 makes them the camera's z.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})

FARTHEST = wp.constant(1.0e6)  # m
BISECTIONS = wp.constant(6)


@wp.func
def turned(rotation: wp.mat33, translation: wp.vec3, ray: wp.vec3):
    """Origin and unit direction of a camera ray in the object frame, and the ray's length."""
    back = wp.transpose(rotation)
    length = wp.length(ray)
    return -(back * translation), back * (ray / length), length


@wp.func
def texel(grey: wp.array(dtype=wp.uint8), start: int, width: int, height: int, u: float, v: float):
    """Bilinear sample of one level of the texture; it repeats, and v runs upwards."""
    x = (u - wp.floor(u)) * float(width) - 0.5
    y = (1.0 - (v - wp.floor(v))) * float(height) - 0.5
    left, top = int(wp.floor(x)), int(wp.floor(y))
    a, b = x - float(left), y - float(top)
    x0, x1 = (left + width) % width, (left + 1 + width) % width
    y0, y1 = (top + height) % height, (top + 1 + height) % height
    upper = float(grey[start + y0 * width + x0]) * (1.0 - a) + float(grey[start + y0 * width + x1]) * a
    lower = float(grey[start + y1 * width + x0]) * (1.0 - a) + float(grey[start + y1 * width + x1]) * a
    return upper * (1.0 - b) + lower * b


@wp.struct
class Surface:
    """What the mesh looks like, in grey: by corner of a face, (F, 3) ``shade`` without and ``uv`` with a texture."""

    shade: wp.array2d(dtype=wp.float32)
    uv: wp.array2d(dtype=wp.vec2)
    density: wp.array(dtype=wp.float32)  # (F) texels per metre
    levels: wp.array(dtype=wp.vec3i)  # (L) start, width, height of each level of the pyramid in ``texels``
    texels: wp.array(dtype=wp.uint8)


@wp.func
def sample(surface: Surface, face: int, a: float, b: float, per_metre: float):
    """Grey of a face at barycentric (a, b), as seen with so many pixels per metre."""
    c = 1.0 - a - b
    if surface.levels.shape[0] == 0:
        return a * surface.shade[face, 0] + b * surface.shade[face, 1] + c * surface.shade[face, 2]
    uv = a * surface.uv[face, 0] + b * surface.uv[face, 1] + c * surface.uv[face, 2]
    level = wp.log2(wp.max(surface.density[face] / per_metre, 1.0))
    level = wp.min(level, float(surface.levels.shape[0] - 1))
    fine = int(level)
    coarse = wp.min(fine + 1, surface.levels.shape[0] - 1)
    share = level - float(fine)
    i, j = surface.levels[fine], surface.levels[coarse]
    near = texel(surface.texels, i[0], i[1], i[2], uv[0], uv[1])
    far = texel(surface.texels, j[0], j[1], j[2], uv[0], uv[1])
    return near * (1.0 - share) + far * share


@wp.kernel
def cast(
    mesh: wp.uint64,
    surface: Surface,
    rotation: wp.mat33,
    translation: wp.vec3,
    focal: float,
    rays: wp.array(dtype=wp.vec3),
    points: wp.array(dtype=wp.vec3),
    depth: wp.array(dtype=wp.float32),
    face: wp.array(dtype=wp.int32),
    grey: wp.array(dtype=wp.float32),
):
    """What each ray meets first. ``depth`` 0 and ``face`` -1: nothing. ``grey`` may be empty: not wanted."""
    i = wp.tid()
    origin, direction, length = turned(rotation, translation, rays[i])
    hit = wp.mesh_query_ray(mesh, origin, direction, FARTHEST)
    depth[i] = 0.0
    face[i] = -1
    points[i] = wp.vec3(0.0, 0.0, 0.0)
    if hit.result:
        depth[i] = hit.t / length
        face[i] = hit.face
        points[i] = origin + hit.t * direction
    if grey.shape[0] > 0:
        grey[i] = 0.0
        if hit.result:
            grey[i] = sample(surface, hit.face, hit.u, hit.v, focal * length / hit.t)


@wp.kernel
def outline(
    mesh: wp.uint64,
    rotation: wp.mat33,
    translation: wp.vec3,
    inner: wp.array(dtype=wp.vec3),
    outer: wp.array(dtype=wp.vec3),
    points: wp.array(dtype=wp.vec3),
    found: wp.array(dtype=wp.int32),
):
    """The last surface point met on the way from each inner ray, which meets the mesh, to the outer one, which misses.

    ``found`` is 0 where the two are not so.
    """
    i = wp.tid()
    low, high = float(0.0), float(1.0)
    origin, direction, length = turned(rotation, translation, inner[i])
    hit = wp.mesh_query_ray(mesh, origin, direction, FARTHEST)
    best = origin + hit.t * direction
    origin, direction, length = turned(rotation, translation, outer[i])
    beyond = wp.mesh_query_ray(mesh, origin, direction, FARTHEST)
    found[i] = 0
    points[i] = wp.vec3(0.0, 0.0, 0.0)
    if hit.result and not beyond.result:
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            origin, direction, length = turned(rotation, translation, (1.0 - middle) * inner[i] + middle * outer[i])
            between = wp.mesh_query_ray(mesh, origin, direction, FARTHEST)
            if between.result:
                low = middle
                best = origin + between.t * direction
            else:
                high = middle
        points[i] = best
        found[i] = 1
