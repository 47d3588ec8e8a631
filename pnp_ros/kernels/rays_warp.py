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


@wp.kernel
def cast(
    mesh: wp.uint64,
    rotation: wp.mat33,
    translation: wp.vec3,
    rays: wp.array(dtype=wp.vec3),
    points: wp.array(dtype=wp.vec3),
    depth: wp.array(dtype=wp.float32),
):
    """What each ray meets first. ``depth`` 0: nothing."""
    i = wp.tid()
    origin, direction, length = turned(rotation, translation, rays[i])
    hit = wp.mesh_query_ray(mesh, origin, direction, FARTHEST)
    depth[i] = 0.0
    points[i] = wp.vec3(0.0, 0.0, 0.0)
    if hit.result:
        depth[i] = hit.t / length
        points[i] = origin + hit.t * direction


@wp.struct
class Crossings:
    """N ways across the outline of a mesh at a pose, and where they cross it."""

    mesh: wp.uint64
    rotation: wp.mat33  # T_camera_object
    translation: wp.vec3
    inner: wp.array(dtype=wp.vec3)  # rays that meet the mesh
    outer: wp.array(dtype=wp.vec3)  # rays that miss it
    points: wp.array(dtype=wp.vec3)  # the last object point met from each inner ray to the outer one
    found: wp.array(dtype=wp.int32)  # 0 where the rays are not so


@wp.kernel
def outline(ways: Crossings):
    """See :class:`Crossings`."""
    i = wp.tid()
    inner, outer = ways.inner[i], ways.outer[i]
    low, high = float(0.0), float(1.0)
    origin, direction, length = turned(ways.rotation, ways.translation, inner)
    hit = wp.mesh_query_ray(ways.mesh, origin, direction, FARTHEST)
    best = origin + hit.t * direction
    origin, direction, length = turned(ways.rotation, ways.translation, outer)
    beyond = wp.mesh_query_ray(ways.mesh, origin, direction, FARTHEST)
    ways.found[i] = 0
    ways.points[i] = wp.vec3(0.0, 0.0, 0.0)
    if hit.result and not beyond.result:
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            origin, direction, length = turned(ways.rotation, ways.translation, (1.0 - middle) * inner + middle * outer)
            between = wp.mesh_query_ray(ways.mesh, origin, direction, FARTHEST)
            if between.result:
                low = middle
                best = origin + between.t * direction
            else:
                high = middle
        ways.points[i] = best
        ways.found[i] = 1
