"""What a camera sees of a mesh, drawn on the CPU without a graphics context, for a window of any lens."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.kernels import lm_launch, raster_warp
from pnp_ros.objects.mesh import PLAIN_GREY, TriangleMesh, once_a_mesh
from pnp_ros.types import Pose

_GRID = 16  # nodes per side at which a lens is inverted; in between rays are interpolated
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

    @functools.cached_property
    def mask(self) -> NDArray[np.uint8]:
        """(H, W) 1 where the mesh is seen, else 0."""
        return (self.face >= 0).astype(np.uint8)


class Drawing:
    """A mesh, and the launch that draws it: recorded once, a view only changes pointers and sizes in its arguments.

    For one thread.

    Args:
        mesh: in metres.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        lm_launch.initialise()
        self._surface, self._corners = _surface(mesh), np.empty((len(mesh.vertices), 3), np.float32)
        window: Any = raster_warp.Window()
        pixels: Any = raster_warp.Pixels()
        one = np.empty(3, np.float32)
        window.plane = pixels.place = on(one[:2], wp.vec2)
        pixels.points = on(one, wp.vec3)
        pixels.corners = on(self._corners, wp.vec3)
        pixels.nearness = pixels.depth = pixels.grey = on(one, wp.float32)
        pixels.face = on(np.empty(1, np.int32), wp.int32)
        self._window, self._pixels = window.__ctype__(), pixels.__ctype__()
        arguments = [self._surface, window, pixels]
        self._launch = wp.launch(raster_warp.draw, 1, arguments, device="cpu", record_cmd=True)
        self._launch.set_param_at_index_from_ctype(1, self._window)
        self._launch.set_param_at_index_from_ctype(2, self._pixels)

    def __call__(self, pose: Pose, camera: Camera, with_grey: bool = False) -> View:
        """The image of the mesh at ``T_camera_object``; triangles that reach behind the camera are left out."""
        height, width = camera.height, camera.width
        plane, scale, offset, bend = pixel_plane(camera)
        window, pixels = self._window, self._pixels
        window.width, window.height, window.bend = width, height, bend
        window.scale, window.offset = wp.vec2(*scale), wp.vec2(*offset)
        window.rotation, window.translation = placed(pose)
        window.plane.data, window.plane.shape[0] = (0, 0) if plane is None else (plane.ctypes.data, width * height)
        arrays = {"place": np.empty((height, width, 2), np.float32), "points": np.zeros((height, width, 3), np.float32)}
        arrays |= {name: np.zeros((height, width), np.float32) for name in ("nearness", "depth", "grey")}
        face = np.full((height, width), -1, np.int32)
        for name, array in {**arrays, "face": face}.items():
            getattr(pixels, name).data = array.ctypes.data
        pixels.grey.shape[0] = width * height if with_grey else 0
        self._launch.launch()
        return View(arrays["points"], arrays["depth"], face, arrays["grey"] if with_grey else None)


Plane = tuple[NDArray[np.float32] | None, tuple[float, float], tuple[float, float], float]


def pixel_plane(camera: Camera) -> Plane:
    """Where all pixels' rays meet the plane z = 1: (H, W, 2), scale, offset and bend of :class:`raster_warp.Window`.

    None for the first where these are the pixels themselves.

    A lens is inverted on a coarse grid: its rays bend so little in between that a hundredth of a pixel is not lost in
    the window of an object. The plane is scaled so that it differs from the pixels as little as possible.
    """
    if camera.model is CameraModel.PINHOLE:
        fx, fy, cx, cy = camera.intrinsics.tolist()
        return None, (fx, fy), (cx, cy), 0.0
    columns, rows = np.linspace(0, camera.width - 1, _GRID), np.linspace(0, camera.height - 1, _GRID)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1)
    nodes = pixel_rays(camera, grid.reshape(-1, 2))[:, :2].reshape(grid.shape).astype(np.float64)
    (a, b), (c, d) = (np.polyfit(nodes[..., k].ravel(), grid[..., k].ravel(), 1) for k in (0, 1))
    nodes = nodes * (a, c) + (b, d)
    across, down = (_hats(np.arange(size), at) for size, at in ((camera.width, columns), (camera.height, rows)))
    plane = np.stack([down @ nodes[..., k] @ across.T for k in (0, 1)], -1).astype(np.float32)
    return np.ascontiguousarray(plane), (a, c), (b, d), float(np.abs(nodes - grid).max()) + 0.01


def _hats(places: NDArray, nodes: NDArray) -> NDArray[np.float64]:
    """(P, G) shares of evenly spaced nodes in the linear interpolation at places."""
    distance = np.abs(places[:, None] - nodes[None]) / (nodes[1] - nodes[0])
    return np.maximum(1.0 - distance, 0.0)


def pixel_rays(camera: Camera, pixels: NDArray) -> NDArray[np.float32]:
    """(N, 3) rays through pixels (N, 2), with z = 1."""
    if camera.model is CameraModel.PINHOLE:
        fx, fy, cx, cy = camera.intrinsics.tolist()
        rays = np.ones((len(pixels), 3), np.float32)
        rays[:, :2] = (np.asarray(pixels) - (cx, cy)) / (fx, fy)
        return rays
    bearing = camera.unproject(torch.from_numpy(np.asarray(pixels)).to(camera.intrinsics)).numpy()
    return np.asarray(bearing / bearing[:, 2:], np.float32)


def placed(pose: Pose) -> tuple[wp.mat33, wp.vec3]:
    """Rotation and translation of a pose for a kernel."""
    return wp.mat33(pose.rotation.flatten().tolist()), wp.vec3(pose.translation.tolist())


def on(array: NDArray, dtype: type) -> wp.array:
    """The memory of an array as a Warp array (N) on the CPU."""
    return wp.array(ptr=array.ctypes.data, shape=(len(array),), dtype=dtype, device="cpu", copy=False)


@once_a_mesh  # all instances of an object are drawn of it
def _surface(mesh: TriangleMesh) -> raster_warp.Surface:
    """Grey values by corner, or the texture as a pyramid of grey images, each half as large as the one before."""
    surface = raster_warp.Surface()
    surface.vertices = wp.array(mesh.vertices, dtype=wp.vec3, device="cpu")
    surface.faces = wp.array(mesh.faces, dtype=wp.vec3i, device="cpu")
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
