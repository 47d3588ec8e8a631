"""A mesh seen on the CPU: images, single rays and exact outlines. No graphics context, any lens.

For one small object this costs less than a rasteriser in software, and it runs where there is no OpenGL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import rays_warp
from pnp_ros.objects.mesh import TriangleMesh, once_a_mesh
from pnp_ros.rendering.raster_view import Drawing, View, on, placed
from pnp_ros.types import Pose


class RayMesh:
    """A mesh to be looked at on the CPU. For one thread.

    Args:
        mesh: in metres.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        self._drawing = Drawing(mesh)
        self.face_normals = mesh.face_normals
        self._mesh = _searched(mesh)
        ways: Any = rays_warp.Crossings()  # as a drawing, recorded once
        ways.mesh, one = self._mesh.id, np.zeros((1, 3), np.float32)
        ways.inner = ways.outer = ways.points = on(one, wp.vec3)
        ways.found = on(np.zeros(1, np.int32), wp.int32)
        self._ways = ways.__ctype__()
        self._crossed = wp.launch(rays_warp.outline, 1, [ways], device="cpu", record_cmd=True)
        self._crossed.set_param_at_index_from_ctype(0, self._ways)

    def view(self, pose: Pose, camera: Camera, with_grey: bool = False) -> View:
        """The image of the mesh at ``T_camera_object`` in a camera of any model (one, no batch).

        Triangles that reach behind the camera are left out.
        """
        return self._drawing(pose, camera, with_grey)

    def look(self, pose: Pose, rays: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Object points (N, 3) and depths (N), 0 for nothing, along rays (N, 3) of the camera frame with z = 1."""
        rays = np.ascontiguousarray(rays, np.float32)
        points, depth = np.empty((len(rays), 3), np.float32), np.empty(len(rays), np.float32)
        arrays = on(rays, wp.vec3), on(points, wp.vec3), on(depth, wp.float32)
        wp.launch(rays_warp.cast, len(rays), [self._mesh.id, *placed(pose), *arrays], device="cpu")
        return points, depth

    def outline(
        self, pose: Pose, inner: NDArray[np.float32], outer: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Where the outline is crossed on the way from ``inner`` rays (N, 3), which meet the mesh, to ``outer`` ones.

        Returns:
            Object points (N, 3) at the outline, to a 64th of the way, and (N,) whether inner met it and outer did not.
        """
        inner, outer = (np.ascontiguousarray(rays, np.float32) for rays in (inner, outer))
        points, found = np.empty((len(inner), 3), np.float32), np.empty(len(inner), np.int32)
        ways = self._ways
        ways.rotation, ways.translation = placed(pose)
        for field, array in ((ways.inner, inner), (ways.outer, outer), (ways.points, points), (ways.found, found)):
            field.data, field.shape[0] = array.ctypes.data, len(inner)
        self._crossed.set_dim(len(inner))
        self._crossed.launch()
        return points, found > 0


@once_a_mesh
def _searched(mesh: TriangleMesh) -> wp.Mesh:
    """The triangles in a tree of boxes, for rays to be cast at."""
    return wp.Mesh(
        wp.array(mesh.vertices, dtype=wp.vec3, device="cpu"),
        wp.array(mesh.faces.reshape(-1), dtype=wp.int32, device="cpu"),
    )
