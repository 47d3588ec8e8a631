"""A headless renderer: meshes at poses seen by an OpenCV camera, in colour, with masks, depth and object coordinates.

One OpenGL context without a window (EGL: a GPU where there is one, software elsewhere) holds the meshes. Pixel centres
are at integer coordinates; the camera looks along z with x to the right and y down.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.objects.mesh import PLAIN_GREY, TriangleMesh
from pnp_ros.rendering.lens_warp import LensWarp
from pnp_ros.rendering.lighting import MAX_LIGHTS, Finish, Light, Lighting
from pnp_ros.rendering.shaders import COLOR_SHADER, GEOMETRY_SHADER, VERTEX_SHADER
from pnp_ros.rendering.shading_normals import FAR, corner_normals, edge_distances
from pnp_ros.types import Pose

if TYPE_CHECKING:
    import moderngl

Item = tuple[int, Pose | Tensor | NDArray]
MAX_ITEMS = 255  # a pixel's item is stored in a byte
_KEPT_TARGETS = 8  # framebuffers, one for each size
_FINISH = tuple(field.name for field in fields(Finish))


class RendererError(RuntimeError):
    """No image can be rendered on this machine; the message says what to install."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """One image and what is where in it.

    Args:
        rgb: (H, W, 3) uint8, edges smoothed.
        mask: (H, W) uint8, the item seen at the pixel's centre, counted from 1; 0 is background.
        object_coordinates: (H, W, 3) float32, that item's surface point in metres, its object frame; 0 elsewhere.
        depth: (H, W) float32, z in the camera frame in metres; 0 elsewhere.
        coverage: (H, W) uint8, share of the pixel that items cover, 255 is all of it.
    """

    rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    object_coordinates: NDArray[np.float32]
    depth: NDArray[np.float32]
    coverage: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class _Shape:
    """The vertices of the context: corners of faces that share their vertex, and nearly their normal, are one.

    Args:
        corners: (V) vertex of the mesh.
        normals: (V, 3).
        edges: (V, 3) distances from the face's sharp edges, metres.
        index: (3 F) of them, by corner of the mesh's faces.
    """

    corners: NDArray[np.int32]
    normals: NDArray[np.float32]
    edges: NDArray[np.float32]
    index: NDArray[np.int32]


class _Shapes:
    """Of a mesh and of its painted copies; made when first wanted, for edges are worn on few."""

    def __init__(self, mesh: TriangleMesh) -> None:
        self._mesh = mesh

    @functools.cached_property
    def new(self) -> _Shape:
        """As if no edge were sharp."""
        return _shape(self._mesh, np.full((3 * len(self._mesh.faces), 3), FAR, np.float32))

    @functools.cached_property
    def worn(self) -> _Shape:
        """With its edges."""
        return _shape(self._mesh, edge_distances(self._mesh).reshape(-1, 3))


@dataclass(eq=False)
class _MeshBuffers:
    """A mesh in the context's memory."""

    shapes: _Shapes
    has_edges: bool
    finish: Finish
    color: moderngl.VertexArray
    geometry: moderngl.VertexArray
    texture: moderngl.Texture
    resources: list[Any]
    center: NDArray[np.float32]
    radius: float


class Renderer:
    """One headless OpenGL context and the meshes in it. To be used by the thread that made it.

    Args:
        supersampling: colours are rendered at this many times the width and height and averaged, against jagged edges.

    Raises:
        RendererError: if there is no OpenGL to be had; the message names the packages to install.
    """

    def __init__(self, supersampling: int = 2) -> None:
        self._context = _create_context()
        self._supersampling = supersampling
        with self._context as context:
            self._color_program = context.program(vertex_shader=VERTEX_SHADER, fragment_shader=COLOR_SHADER)
            self._geometry_program = context.program(vertex_shader=VERTEX_SHADER, fragment_shader=GEOMETRY_SHADER)
        self._meshes: dict[int, _MeshBuffers] = {}
        self._next_handle = 0
        self._targets: dict[tuple[int, int, str], moderngl.Framebuffer] = {}
        self._lenses: dict[tuple, LensWarp] = {}

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the context and all in it; the renderer cannot be used afterwards."""
        self._context.release()

    def add(self, mesh: TriangleMesh, finish: Finish | None = None, like: int | None = None) -> int:
        """Upload a mesh; the handle names it in :meth:`render`.

        Args:
            mesh: in metres.
            finish: default: matt and new.
            like: handle of a mesh of the same vertices and faces, whose normals it has: it is quicker so.
        """
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        with self._context:
            shapes = _Shapes(mesh) if like is None else self._meshes[like].shapes
            self._meshes[handle] = self._upload(mesh, shapes, finish or Finish())
        return handle

    def refinish(self, handle: int, finish: Finish) -> None:
        """Give a mesh another finish.

        Raises:
            ValueError: if its edges shall be worn and were not when it was added.
        """
        mesh = self._meshes[handle]
        if finish.wear > 0.0 and not mesh.has_edges:
            raise ValueError(f"finish: {handle} was added without worn edges, and can have none now")
        mesh.finish = finish

    def remove(self, handle: int) -> None:
        """Free a mesh."""
        with self._context:
            for resource in self._meshes.pop(handle).resources:
                resource.release()

    def render(
        self,
        items: Sequence[Item],
        camera: Camera,
        lighting: Lighting | None = None,
        background: ArrayLike | None = None,
    ) -> Rendering:
        """Render meshes at poses.

        Args:
            items: pairs of a handle and ``T_camera_object`` (a :class:`Pose` or a 4x4 matrix, metres).
            camera: one camera of any lens model. A distorted image is warped from a pinhole one; its mask,
                coordinates and depth are then those of the nearest pinhole pixel.
            lighting: default :class:`Lighting`.
            background: (H, W, 3) uint8, or one RGB colour; default black.

        Raises:
            ValueError: if there are more than ``MAX_ITEMS`` items, an unknown handle, or a malformed pose or
                background.
        """
        lens = None if camera.model is CameraModel.PINHOLE else self._lens(camera)
        view = self._view(items, camera if lens is None else lens.pinhole)
        with self._context:
            rgba = self._draw_color(view, lighting or Lighting())
            geometry, mask = self._draw_geometry(view)
        if lens is not None:
            rgba, geometry, mask = lens.warp(rgba), lens.warp_nearest(geometry), lens.warp_nearest(mask)
        rgb = np.ascontiguousarray(rgba[..., :3]) if background is None else composite(rgba, background)
        return Rendering(
            rgb=rgb,
            mask=mask,
            object_coordinates=np.ascontiguousarray(geometry[..., :3]),
            depth=np.ascontiguousarray(geometry[..., 3]),
            coverage=np.ascontiguousarray(rgba[..., 3]),
        )

    def render_rgba(self, items: Sequence[Item], camera: Camera, lighting: Lighting | None = None) -> NDArray[np.uint8]:
        """(H, W, 4) uint8 colour times coverage, and coverage: the quick way to training images; pinhole only.

        Raises:
            ValueError: as :meth:`render`, and if the camera is no pinhole.
        """
        if camera.model is not CameraModel.PINHOLE:
            raise ValueError(f"camera: expected a pinhole, got {camera.model.value}")
        with self._context:
            return self._draw_color(self._view(items, camera), lighting or Lighting())

    def _upload(self, mesh: TriangleMesh, shapes: _Shapes, finish: Finish) -> _MeshBuffers:
        shape = shapes.worn if finish.wear > 0.0 else shapes.new
        context, corners = self._context, shape.corners
        vertices = np.ones((len(corners), 14), np.float32)
        vertices[:, :3] = mesh.vertices[corners]
        vertices[:, 3:6], vertices[:, 11:] = shape.normals, shape.edges
        texture = np.full((1, 1, 3), 255, np.uint8)
        if mesh.texture is not None and mesh.uv is not None:
            texture = mesh.texture
            vertices[:, 6:8] = mesh.uv[corners]
        elif mesh.vertex_colors is not None:
            vertices[:, 8:11] = mesh.vertex_colors[corners] / np.float32(255)
        else:
            vertices[:, 8:11] = PLAIN_GREY / 255
        vertex_buffer = context.buffer(vertices)
        index_buffer = context.buffer(shape.index)
        image = context.texture(texture.shape[1::-1], 3, np.ascontiguousarray(texture[::-1]), alignment=1)
        image.build_mipmaps()  # no anisotropic filter: Mesa 22.3 software GL can loop without end in it
        names = ("position", "normal", "uv", "color", "edges")
        color = context.vertex_array(self._color_program, [(vertex_buffer, "3f 3f 2f 3f 3f", *names)], index_buffer)
        geometry = context.vertex_array(self._geometry_program, [(vertex_buffer, "3f 44x", "position")], index_buffer)
        low, high = mesh.bounds
        return _MeshBuffers(
            shapes=shapes,
            has_edges=finish.wear > 0.0,
            finish=finish,
            color=color,
            geometry=geometry,
            texture=image,
            resources=[color, geometry, image, vertex_buffer, index_buffer],
            center=(low + high) / 2,
            radius=float(np.linalg.norm(high - low) / 2),
        )

    def _view(self, items: Sequence[Item], camera: Camera) -> _View:
        if len(items) > MAX_ITEMS:
            raise ValueError(f"items: expected at most {MAX_ITEMS}, got {len(items)}")
        meshes, matrices = [], []
        near, far = np.inf, 0.0
        for handle, pose in items:
            if handle not in self._meshes:
                raise ValueError(f"items: {handle} is no handle of this renderer's meshes")
            mesh, matrix = self._meshes[handle], _matrix(pose)
            z = float(matrix[2, :3] @ mesh.center + matrix[2, 3])
            near, far = min(near, z - mesh.radius), max(far, z + mesh.radius)
            meshes.append(mesh)
            matrices.append(matrix)
        far = max(far * 1.01, 1e-3)
        near = float(np.clip(near * 0.99, far * 1e-4, far * 0.99))
        return _View(meshes, matrices, _projection(camera, near, far), (camera.width, camera.height))

    def _draw_color(self, view: _View, lighting: Lighting) -> NDArray[np.uint8]:
        program = self._color_program
        for name in ("sky", "ground", "up", "specular", "shininess", "exposure"):
            _set(program, name, getattr(lighting, name))
        lights = [*lighting.lights, *[Light((0.0, 0.0, 0.0))] * (MAX_LIGHTS - len(lighting.lights))]
        _set(program, "num_lights", len(lighting.lights))
        _set(program, "light_vector", [(*light.vector, float(light.point)) for light in lights])
        _set(program, "light_color", [light.color for light in lights])
        factor = self._supersampling
        size = (view.size[0] * factor, view.size[1] * factor)
        pixels = _read(self._draw(view, program, "color", size), 4, 0, np.uint8)
        if factor == 1:
            return pixels
        import cv2

        return np.asarray(cv2.resize(pixels, view.size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def _draw_geometry(self, view: _View) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        target = self._draw(view, self._geometry_program, "geometry", view.size)
        return _read(target, 4, 0, np.float32), _read(target, 1, 1, np.uint8)[..., 0]

    def _draw(self, view: _View, program: moderngl.Program, kind: str, size: tuple[int, int]) -> moderngl.Framebuffer:
        target = self._target(size, kind)
        target.use()
        target.clear()
        self._context.enable_only(self._context.DEPTH_TEST)
        _set(program, "projection", view.projection.T)
        for index, (mesh, matrix) in enumerate(zip(view.meshes, view.matrices)):
            _set(program, "T_camera_object", matrix.T)
            _set(program, "item", (index + 1) / 255.0)
            if kind == "color":
                for name in _FINISH:
                    _set(program, name, getattr(mesh.finish, name))
            mesh.texture.use(0)
            (mesh.color if kind == "color" else mesh.geometry).render()
        return target

    def _target(self, size: tuple[int, int], kind: str) -> moderngl.Framebuffer:
        key = (*size, kind)
        if key not in self._targets:
            if len(self._targets) == _KEPT_TARGETS:
                oldest: Any = self._targets.pop(next(iter(self._targets)))
                for part in (*oldest.color_attachments, oldest.depth_attachment, oldest):
                    part.release()
            context = self._context
            pixels = [context.renderbuffer(size, 4)]
            if kind == "geometry":
                pixels = [context.renderbuffer(size, 4, dtype="f4"), context.renderbuffer(size, 1)]
            self._targets[key] = context.framebuffer(pixels, context.depth_renderbuffer(size))
        return self._targets[key]

    def _lens(self, camera: Camera) -> LensWarp:
        key = (camera.model, *camera.intrinsics.tolist(), *camera.distortion.tolist(), camera.width, camera.height)
        if key not in self._lenses:
            self._lenses.clear()  # one camera at a time; its maps are as large as images
            self._lenses[key] = LensWarp(camera)
        return self._lenses[key]


@dataclass(frozen=True, eq=False)
class _View:
    """The meshes to draw, checked, and the projection to draw them with."""

    meshes: list[_MeshBuffers]
    matrices: list[NDArray[np.float32]]
    projection: NDArray[np.float32]
    size: tuple[int, int]


def _shape(mesh: TriangleMesh, edges: NDArray[np.float32]) -> _Shape:
    """With the distances (3 F, 3) of its corners from sharp edges."""
    corners, normals = mesh.faces.reshape(-1), corner_normals(mesh).reshape(-1, 3)
    keys = corners.astype(np.int64)
    for axis in range(3):
        keys = (keys << 13) | np.round((normals[:, axis] + 1.0) * 4095.0).astype(np.int64)
    alone = np.flatnonzero((edges < FAR).any(1))
    keys[alone] = -1 - alone  # distances are a face's own
    _, first, index = np.unique(keys, return_index=True, return_inverse=True)
    return _Shape(corners[first], normals[first], edges[first], index.reshape(-1).astype(np.int32))


def composite(rgba: NDArray[np.uint8], background: ArrayLike) -> NDArray[np.uint8]:
    """Lay an image over a background.

    Args:
        rgba: (H, W, 4) uint8, colour already multiplied by coverage, as :meth:`Renderer.render_rgba` gives it.
        background: (H, W, 3) uint8, or one RGB colour.

    Raises:
        ValueError: if the background has another size.
    """
    below = np.asarray(background)
    if below.shape not in ((3,), (*rgba.shape[:2], 3)):
        raise ValueError(f"background: expected shape (3,) or ({rgba.shape[0]}, {rgba.shape[1]}, 3), got {below.shape}")
    through = below.astype(np.uint16) * (255 - rgba[..., 3:].astype(np.uint16)) // 255
    return np.minimum(rgba[..., :3] + through, 255).astype(np.uint8)


def _create_context() -> moderngl.Context:
    # llvmpipe's threads cost more than they give on images this small, and several renderers share the cores
    os.environ.setdefault("LP_NUM_THREADS", "0")
    _load_triton()
    try:
        import moderngl

        settings: dict[str, Any] = {"backend": "egl"}
        context = moderngl.create_context(standalone=True, require=330, **settings)
    except ImportError as error:
        raise RendererError("rendering needs the Python package moderngl: pip install 'pnp-ros[train]'") from error
    except Exception as error:  # glcontext raises bare Exceptions
        raise RendererError(
            f"no headless OpenGL ({error}). On Debian or Ubuntu: apt install libegl1 libegl-mesa0 libgl1-mesa-dri"
        ) from error
    return context


def _load_triton() -> None:
    """Before Mesa: torch's optimisers import Triton, and its LLVM crashes the process if Mesa's is there first."""
    triton = find_spec("triton")
    for folder in (triton and triton.submodule_search_locations) or ():
        for library in Path(folder).glob("_C/libtriton*.so"):
            with contextlib.suppress(OSError):  # then it fails where it is used, in its own words
                ctypes.CDLL(str(library))


def _matrix(pose: Pose | Tensor | NDArray) -> NDArray[np.float32]:
    if isinstance(pose, Pose):
        pose = pose.matrix()
    array = pose.detach().cpu().numpy() if isinstance(pose, Tensor) else np.asarray(pose)
    if array.shape != (4, 4) or not np.isfinite(array).all():
        raise ValueError(f"items: expected a finite 4x4 pose, got shape {array.shape}")
    return array.astype(np.float32)


def _projection(camera: Camera, near: float, far: float) -> NDArray[np.float32]:
    """Clip coordinates of camera points. The first row of the image is OpenGL's lowest, so reading needs no flip."""
    fx, fy, cx, cy = camera.intrinsics.reshape(4).tolist()
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[0, 2] = 2 * fx / camera.width, 2 * (cx + 0.5) / camera.width - 1
    matrix[1, 1], matrix[1, 2] = 2 * fy / camera.height, 2 * (cy + 0.5) / camera.height - 1
    matrix[2, 2], matrix[2, 3] = (far + near) / (far - near), -2 * far * near / (far - near)
    matrix[3, 2] = 1.0
    return matrix.astype(np.float32)


def _set(program: moderngl.Program, name: str, value: Any) -> None:
    if name in program:  # a compiler drops what it finds unused
        uniform: Any = program[name]
        uniform.write(np.asarray(value, dtype=np.int32 if isinstance(value, int) else np.float32).tobytes())


def _read(target: moderngl.Framebuffer, channels: int, attachment: int, dtype: type) -> NDArray:
    pixels: NDArray = np.empty((target.height, target.width, channels), dtype)
    kind = "f1" if dtype is np.uint8 else "f4"
    target.read_into(pixels, components=channels, attachment=attachment, dtype=kind)
    return pixels
