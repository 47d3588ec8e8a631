# mypy: disable-error-code="assignment, no-redef"
# ruff: noqa: UP018, RUF046 - Warp's dialect: float(x) makes a variable, and all results of a call are named
"""Triangles into the window of a camera with any lens, on one core: depth buffer, surface points, grey values.

The edges of a triangle are straight in the plane z = 1, and each pixel knows the place there that its ray goes through.
So edge functions (Pineda, SIGGRAPH 1988) decide exactly whether a pixel sees a triangle, whatever the lens. Inverse
depth is linear in that plane (perspective-correct interpolation). The plane is measured in pixels of the window.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})

NEAREST = wp.constant(1.0e-6)  # m
BESIDE = wp.constant(1.0e-2)  # px beside a triangle's edge up to which pixels are asked: more than rounding errors
GAP = wp.constant(2.0e-3)  # px^2, twice an area by which a pixel may miss a triangle: neighbours leave no gap


@wp.func
def texel(grey: wp.array(dtype=wp.uint8), start: int, width: int, height: int, u: float, v: float):
    """Bilinear sample of one level of the texture; it repeats, and v runs upwards."""
    x = (u - wp.floor(u)) * float(width) - 0.5
    y = (1.0 - (v - wp.floor(v))) * float(height) - 0.5
    left, top = int(wp.floor(x)), int(wp.floor(y))
    a, b = x - float(left), y - float(top)
    x0 = wp.where(left < 0, width - 1, left)
    x1 = wp.where(left + 1 >= width, 0, left + 1)
    y0 = start + wp.where(top < 0, height - 1, top) * width
    y1 = start + wp.where(top + 1 >= height, 0, top + 1) * width
    upper = float(grey[y0 + x0]) * (1.0 - a) + float(grey[y0 + x1]) * a
    lower = float(grey[y1 + x0]) * (1.0 - a) + float(grey[y1 + x1]) * a
    return upper * (1.0 - b) + lower * b


@wp.struct
class Surface:
    """A mesh of F faces, and what it looks like in grey: by corner of a face, ``shade`` without and ``uv`` with a
    texture, which is a pyramid of L levels."""

    vertices: wp.array(dtype=wp.vec3)
    faces: wp.array(dtype=wp.vec3i)
    shade: wp.array2d(dtype=wp.float32)
    uv: wp.array2d(dtype=wp.vec2)
    density: wp.array(dtype=wp.float32)  # (F) texels per metre
    levels: wp.array(dtype=wp.vec3i)  # (L) start, width, height of each level in ``texels``
    texels: wp.array(dtype=wp.uint8)


@wp.struct
class Window:
    """H * W pixels, row by row, of a camera: ``plane`` is where their rays meet z = 1, in pixels.

    A pixel differs from its place in the plane by at most ``bend`` pixels in x and in y; ``scale`` and ``offset`` make
    pixels of metres in the plane.
    """

    width: int
    height: int
    bend: float
    scale: wp.vec2
    offset: wp.vec2
    rotation: wp.mat33  # T_camera_object
    translation: wp.vec3
    plane: wp.array(dtype=wp.vec2)  # may be empty: pixels are their own places


@wp.struct
class Pixels:
    """What is drawn, by pixel, 0 where nothing is; ``place``, ``nearness`` and ``corners`` are on the way there."""

    corners: wp.array(dtype=wp.vec3)  # (V) vertices: x, y in the window's plane, inverse depth
    place: wp.array(dtype=wp.vec2)  # barycentric coordinates in the window
    nearness: wp.array(dtype=wp.float32)  # inverse depth
    face: wp.array(dtype=wp.int32)  # -1: none
    points: wp.array(dtype=wp.vec3)  # object points
    depth: wp.array(dtype=wp.float32)
    grey: wp.array(dtype=wp.float32)  # may be empty: not wanted


@wp.func
def sample(surface: Surface, face: int, a: float, b: float, per_metre: float):
    """Grey of a face at barycentric (a, b), as seen with so many pixels per metre."""
    c = 1.0 - a - b
    if surface.levels.shape[0] == 0:
        return a * surface.shade[face, 0] + b * surface.shade[face, 1] + c * surface.shade[face, 2]
    uv = a * surface.uv[face, 0] + b * surface.uv[face, 1] + c * surface.uv[face, 2]
    # texels a pixel, halved level by level; what is left, 1 to 2, is the share of the next one: nearly its logarithm
    wide = surface.density[face] / per_metre
    fine = int(0)
    while wide >= 2.0 and fine < surface.levels.shape[0] - 1:
        wide = 0.5 * wide
        fine = fine + 1
    coarse = wp.min(fine + 1, surface.levels.shape[0] - 1)
    share = wp.clamp(wide - 1.0, 0.0, 1.0)
    i, j = surface.levels[fine], surface.levels[coarse]
    near = texel(surface.texels, i[0], i[1], i[2], uv[0], uv[1])
    far = texel(surface.texels, j[0], j[1], j[2], uv[0], uv[1])
    return near * (1.0 - share) + far * share


@wp.func
def across(a: wp.vec3, b: wp.vec3, q: wp.vec2):
    """Twice the area of the triangle (a, b, q) in the plane, with a sign."""
    return (b[0] - a[0]) * (q[1] - a[1]) - (b[1] - a[1]) * (q[0] - a[0])


@wp.func
def narrowed(reach: wp.vec2, a: wp.vec3, b: wp.vec3, y: float, side: float, bend: float):
    """The part of a row, from x to x, where ``across(a, b, .)`` may have this side's sign, and a little more."""
    step = side * (b[1] - a[1])
    # it grows by -step from pixel to pixel; both it and the place of a pixel are known to a little
    room = side * ((b[0] - a[0]) * (y - a[1]) + (b[1] - a[1]) * a[0])
    room += (wp.abs(b[0] - a[0]) + wp.abs(b[1] - a[1])) * (bend + BESIDE) + GAP
    left, right = reach[0], reach[1]
    if step > 0.0:
        right = wp.min(right, room / step)
    elif step < 0.0:
        left = wp.max(left, room / step)
    return wp.vec2(left, right)


@wp.func
def cover(face: int, side: float, a: wp.vec3, b: wp.vec3, c: wp.vec3, window: Window, pixels: Pixels):
    """Draw one triangle where it is nearer than what is drawn already, if it is seen from this side (1 or -1)."""
    area = across(a, b, wp.vec2(c[0], c[1]))
    if area * side > 0.0:
        inverse, least = 1.0 / area, -GAP / wp.abs(area)
        left = wp.max(wp.ceil(wp.min(wp.min(a[0], b[0]), c[0]) - window.bend), 0.0)
        right = wp.min(wp.floor(wp.max(wp.max(a[0], b[0]), c[0]) + window.bend), float(window.width - 1))
        top = wp.max(int(wp.ceil(wp.min(wp.min(a[1], b[1]), c[1]) - window.bend)), 0)
        bottom = wp.min(int(wp.floor(wp.max(wp.max(a[1], b[1]), c[1]) + window.bend)), window.height - 1)
        nearest = wp.max(wp.max(a[2], b[2]), c[2])
        for y in range(top, bottom + 1):
            reach = narrowed(wp.vec2(left, right), a, b, float(y), side, window.bend)
            reach = narrowed(reach, b, c, float(y), side, window.bend)
            reach = narrowed(reach, c, a, float(y), side, window.bend)
            row = y * window.width
            for i in range(row + int(wp.ceil(reach[0])), row + int(wp.floor(reach[1])) + 1):
                drawn = pixels.nearness[i]
                if nearest > drawn:
                    q = wp.vec2(float(i - row), float(y))
                    if window.plane.shape[0] > 0:
                        q = window.plane[i]
                    u, v = across(b, c, q) * inverse, across(c, a, q) * inverse
                    w = 1.0 - u - v
                    if wp.min(wp.min(u, v), w) >= least:
                        near = u * a[2] + v * b[2] + w * c[2]
                        if near > drawn:
                            pixels.nearness[i] = near
                            pixels.face[i] = face
                            pixels.place[i] = wp.vec2(u, v)


@wp.func
def cover_all(side: float, surface: Surface, window: Window, pixels: Pixels):
    """All triangles seen from this side that lie in front of the camera."""
    for i in range(surface.faces.shape[0]):
        f = surface.faces[i]
        a, b, c = pixels.corners[f[0]], pixels.corners[f[1]], pixels.corners[f[2]]
        if wp.min(wp.min(a[2], b[2]), c[2]) > 0.0:
            cover(i, side, a, b, c, window, pixels)


@wp.func
def shade(i: int, surface: Surface, window: Window, pixels: Pixels):
    """Object point, depth and grey of a pixel where something is drawn."""
    face = pixels.face[i]
    if face >= 0:
        f = surface.faces[face]
        place, near = pixels.place[i], pixels.nearness[i]
        u = place[0] * pixels.corners[f[0]][2] / near
        v = place[1] * pixels.corners[f[1]][2] / near
        pixels.depth[i] = 1.0 / near
        a, b, c = surface.vertices[f[0]], surface.vertices[f[1]], surface.vertices[f[2]]
        pixels.points[i] = u * a + v * b + (1.0 - u - v) * c
        if pixels.grey.shape[0] > 0:
            pixels.grey[i] = sample(surface, face, u, v, 0.5 * (window.scale[0] + window.scale[1]) * near)


@wp.kernel
def draw(surface: Surface, window: Window, pixels: Pixels):
    """All triangles that lie in front of the camera, in one thread, on pixels that show nothing."""
    for i in range(surface.vertices.shape[0]):
        seen = window.rotation * surface.vertices[i] + window.translation
        near = float(0.0)
        if seen[2] > NEAREST:
            near = 1.0 / seen[2]
        plane = wp.cw_mul(wp.vec2(seen[0] * near, seen[1] * near), window.scale) + window.offset
        pixels.corners[i] = wp.vec3(plane[0], plane[1], near)
    cover_all(-1.0, surface, window, pixels)  # what faces the camera; little of a body's far side is then looked at
    cover_all(1.0, surface, window, pixels)
    for i in range(window.width * window.height):
        shade(i, surface, window, pixels)
