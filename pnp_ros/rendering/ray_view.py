"""A mesh seen along rays: no graphics context, any lens, single points as well as images, and exact outlines.

For one small object this costs less than a rasteriser in software, whose time grows with the number of triangles; and
it runs where there is no OpenGL.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.kernels import lm_launch, rays_warp
from pnp_ros.objects.mesh import PLAIN_GREY, TriangleMesh
from pnp_ros.types import Pose

_GRID = 24  # nodes per side at which a lens is inverted; in between rays are interpolated
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True, eq=False)
class View:
    """What a camera sees of a mesh.

    Args:
        points: (H, W, 3) float32, surface points in the object frame, metres; 0 where nothing is.
        depth: (H, W) float32, z in the camera frame, metres; 0 where nothing is.
        face: (H, W) int32, index of the triangle; -1 where nothing is.
        grey: (H, W) float32, the surface's own grey without light, 0 to 255; None if not asked for.
    """

    points: NDArray[np.float32]
    depth: NDArray[np.float32]
    face: NDArray[np.int32]
    grey: NDArray[np.float32] | None

    @property
    def mask(self) -> NDArray[np.uint8]:
        """(H, W) 1 where the mesh is seen, else 0."""
        return (self.face >= 0).astype(np.uint8)


class RayMesh:
    """A mesh to be looked at along rays, on the CPU.

    Args:
        mesh: in metres.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        lm_launch.initialise()
        self._mesh = wp.Mesh(
            wp.array(mesh.vertices, dtype=wp.vec3, device="cpu"),
            wp.array(mesh.faces.reshape(-1), dtype=wp.int32, device="cpu"),
        )
        self._surface = _surface(mesh)

    def view(self, pose: Pose, camera: Camera, with_grey: bool = False) -> View:
        """The image of the mesh at ``T_camera_object`` in a camera of any model (one, no batch)."""
        size = (camera.height, camera.width)
        focal = float(camera.intrinsics[:2].mean())
        points, depth, face, grey = self._cast(pose, image_rays(camera), focal, with_grey)
        shape = None if grey is None else grey.reshape(size)
        return View(points.reshape(*size, 3), depth.reshape(size), face.reshape(size), shape)

    def look(self, pose: Pose, rays: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Object points (N, 3) and depths (N), 0 for nothing, along rays (N, 3) of the camera frame with z = 1."""
        points, depth, _, _ = self._cast(pose, rays, 1.0, False)
        return points, depth

    def outline(
        self, pose: Pose, inner: NDArray[np.float32], outer: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Where the outline is crossed on the way from ``inner`` rays (N, 3), which meet the mesh, to ``outer`` ones.

        Returns:
            Object points (N, 3) at the outline, to a 64th of the way, and (N,) whether inner met it and outer did not.
        """
        n = len(inner)
        points, found = np.empty((n, 3), np.float32), np.empty(n, np.int32)
        inner_rays, outer_rays = (np.ascontiguousarray(rays, np.float32) for rays in (inner, outer))
        arguments = [self._mesh.id, *_placed(pose), *map(_vectors, (inner_rays, outer_rays, points)), _numbers(found)]
        wp.launch(rays_warp.outline, n, arguments, device="cpu")
        return points, found > 0

    def _cast(
        self, pose: Pose, rays: NDArray[np.float32], focal: float, with_grey: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32], NDArray[np.float32] | None]:
        n = len(rays)
        rays = np.ascontiguousarray(rays, np.float32)
        points, depth, face = np.empty((n, 3), np.float32), np.empty(n, np.float32), np.empty(n, np.int32)
        grey = np.empty(n if with_grey else 0, np.float32)
        arguments = [self._mesh.id, self._surface, *_placed(pose), focal, _vectors(rays), _vectors(points)]
        arguments += [_numbers(depth), _numbers(face), _numbers(grey)]
        wp.launch(rays_warp.cast, n, arguments, device="cpu")
        return points, depth, face, grey if with_grey else None


def image_rays(camera: Camera) -> NDArray[np.float32]:
    """(H * W, 3) rays of all pixels, row by row, with z = 1.

    A lens is inverted on a coarse grid: its rays bend so little in between that a hundredth of a pixel is not lost in
    the window of an object.
    """
    width, height = camera.width, camera.height
    fx, fy, cx, cy = camera.intrinsics.tolist()
    rays = np.ones((height, width, 3), np.float32)
    if camera.model is CameraModel.PINHOLE:
        rays[..., 0] = (np.arange(width) - cx) / fx
        rays[..., 1] = ((np.arange(height) - cy) / fy)[:, None]
        return rays.reshape(-1, 3)
    columns, rows = np.linspace(0, width - 1, _GRID), np.linspace(0, height - 1, _GRID)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    plane = pixel_rays(camera, grid)[:, :2].reshape(_GRID, _GRID, 2)
    across, down = (_hats(np.arange(size), nodes) for size, nodes in ((width, columns), (height, rows)))
    rays[..., :2] = np.einsum("yj,jiv,xi->yxv", down, plane, across, optimize=True)
    return rays.reshape(-1, 3)


def _hats(places: NDArray, nodes: NDArray) -> NDArray[np.float32]:
    """(P, G) shares of evenly spaced nodes in the linear interpolation at places."""
    distance = np.abs(places[:, None] - nodes[None]) / (nodes[1] - nodes[0])
    return np.maximum(1.0 - distance, 0.0).astype(np.float32)


def pixel_rays(camera: Camera, pixels: NDArray) -> NDArray[np.float32]:
    """(N, 3) rays through pixels (N, 2), with z = 1."""
    bearing = camera.unproject(torch.from_numpy(np.asarray(pixels)).to(camera.intrinsics)).numpy()
    return np.asarray(bearing / bearing[:, 2:], np.float32)


def _placed(pose: Pose) -> tuple[wp.mat33, wp.vec3]:
    return wp.mat33(pose.rotation.flatten().tolist()), wp.vec3(pose.translation.tolist())


def _vectors(array: NDArray[np.float32]) -> wp.array:
    return wp.array(ptr=array.ctypes.data, shape=(len(array),), dtype=wp.vec3, device="cpu", copy=False)


def _numbers(array: NDArray) -> wp.array:
    dtype = wp.int32 if array.dtype == np.int32 else wp.float32
    return wp.array(ptr=array.ctypes.data, shape=(len(array),), dtype=dtype, device="cpu", copy=False)


def _surface(mesh: TriangleMesh) -> rays_warp.Surface:
    """Grey values by corner, or the texture as a pyramid of grey images, each half as large as the one before."""
    surface = rays_warp.Surface()
    count = len(mesh.faces)
    shade: NDArray = np.full((count, 3), PLAIN_GREY, np.float32)
    uv: NDArray = np.zeros((count, 3, 2), np.float32)
    density: NDArray = np.zeros(count)
    levels: list[NDArray] = []
    if mesh.texture is not None and mesh.uv is not None:
        level = cv2.cvtColor(mesh.texture, cv2.COLOR_RGB2GRAY)
        while min(level.shape) >= 2:
            levels.append(level)
            level = cv2.resize(level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA)
        uv = mesh.uv[mesh.faces]
        (a, b, c), (height, width) = uv.swapaxes(0, 1), mesh.texture.shape[:2]
        (ux, uy), (vx, vy) = (b - a).T, (c - a).T
        texels = 0.5 * np.abs(ux * vy - uy * vx) * width * height
        density = np.sqrt(texels / np.maximum(mesh.face_areas, 1e-18))
    elif mesh.vertex_colors is not None:
        shade = (mesh.vertex_colors @ _LUMINANCE)[mesh.faces]
    starts = np.cumsum([0, *(level.size for level in levels)])
    table = [(start, level.shape[1], level.shape[0]) for start, level in zip(starts, levels)]
    texels = np.concatenate([level.reshape(-1) for level in levels]) if levels else np.zeros(0, np.uint8)
    surface.shade = wp.array(np.ascontiguousarray(shade, np.float32), dtype=wp.float32, ndim=2, device="cpu")
    surface.uv = wp.array(np.ascontiguousarray(uv, np.float32), dtype=wp.vec2, ndim=2, device="cpu")
    surface.density = wp.array(density.astype(np.float32), dtype=wp.float32, device="cpu")
    surface.levels = wp.array(np.array(table, np.int32).reshape(-1, 3), dtype=wp.vec3i, device="cpu")
    surface.texels = wp.array(texels, dtype=wp.uint8, device="cpu")
    return surface
