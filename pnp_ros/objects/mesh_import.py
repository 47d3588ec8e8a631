"""Read mesh files through trimesh: parts placed by the scene graph, colours in sRGB, the file's own unit."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import PLAIN_GREY, MeshError
from pnp_ros.objects.mesh_sources import IMAGES, MeshSource
from pnp_ros.objects.saved_mesh import read_saved
from pnp_ros.objects.texture_atlas import Part, merge

if TYPE_CHECKING:
    import trimesh
    from PIL.Image import Image

FORMATS = (".obj", ".ply", ".stl", ".glb", ".gltf", ".dae", ".3mf", ".off", ".step", ".stp")
LARGEST_TEXTURE = 128_000_000  # pixels; more is refused by the image's header, before it is decoded
# turn from a Collada file's up axis to z up; a file that does not say is taken as it is
_UP_AXES = {"X_UP": [[0, 0, -1], [0, 1, 0], [1, 0, 0]], "Y_UP": [[1, 0, 0], [0, 0, -1], [0, 1, 0]]}


@dataclass(frozen=True, eq=False)
class ImportedMesh:
    """One surface in the file's units.

    Args:
        part: vertices, faces and colours.
        metres_per_unit: as the file says; None where it says nothing.
        missing: names of textures and material libraries that were not found.
        remarks: what was done, in words.
    """

    part: Part
    metres_per_unit: float | None
    missing: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def import_mesh(path: Path, max_texture_size: int, turn_up: bool = True) -> ImportedMesh:
    """The file as one surface.

    Args:
        path: of one of the ``FORMATS``.
        max_texture_size: larger textures are scaled down to this width or height in pixels.
        turn_up: whether a Collada file's up axis is made z; robot descriptions ignore it.

    Raises:
        MeshError: if the file cannot be read, or holds no triangles.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise MeshError(f"expected one of {', '.join(FORMATS)}, or robot.urdf#LINK")
    if suffix == ".ply" and (part := _saved(path, max_texture_size)) is not None:
        return ImportedMesh(part, 1.0, ())
    try:
        import trimesh
    except ImportError as error:
        raise MeshError("reading meshes needs the Python package trimesh") from error
    source = MeshSource(path)
    resolver: Any = source
    try:
        content = source.content()
        with _images_of_any_size():
            scene = trimesh.load_scene(io.BytesIO(content), file_type=suffix[1:], resolver=resolver, process=False)
    except ImportError as error:
        extra = "cad" if suffix in (".step", ".stp") else "train"
        raise MeshError(f"reading {suffix} needs more packages: pip install 'pnp-ros[{extra}]' ({error})") from error
    except MeshError:
        raise
    except Exception as error:  # trimesh passes on whatever its parsers raise
        missing = f"; not found: {', '.join(source.missing)}" if source.missing else ""
        raise MeshError(f"cannot be read as a mesh: {error}{missing}") from error
    if source.unreadable:
        raise MeshError(f"not readable as images: {', '.join(source.unreadable)}")
    parts = []
    for node in scene.graph.nodes_geometry:
        transform, geometry_name = scene.graph[node]
        geometry = scene.geometry[geometry_name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces) > 0:
            parts.append(_part(geometry, np.asarray(transform), max_texture_size, source))
    if not parts:
        raise MeshError("holds no triangles")
    part = merge(parts, max_texture_size)
    remarks = list(dict.fromkeys(source.remarks))
    images = [file.name for file in source.found if file.suffix.lower() in IMAGES]
    if images and part.texture is None:
        remarks.append(f"no face shows {', '.join(images)}")
    up = re.search(rb"<(?:\w+:)?up_axis>\s*([XY]_UP)", content[:20_000]) if suffix == ".dae" and turn_up else None
    if up is not None:
        part.vertices = part.vertices @ np.array(_UP_AXES[up[1].decode()], np.float64).T
        remarks.append(f"{up[1].decode()} is turned to z up")
    return ImportedMesh(part, _metres_per_unit(scene, suffix), tuple(dict.fromkeys(source.missing)), tuple(remarks))


def _saved(path: Path, max_texture_size: int) -> Part | None:
    """A mesh that we wrote ourselves; None for any other, and where its texture is not in order."""
    found = read_saved(path, path.read_bytes())
    if found is None:
        return None
    part, place = found
    if place is None:
        return part
    from PIL import Image as pil

    try:
        with _images_of_any_size(), pil.open(place) as image:
            part.texture = _limit_size(image, max_texture_size)
    except OSError:  # said in words on the long way
        return None
    return part


@contextmanager
def _images_of_any_size() -> Iterator[None]:
    """Pillow refuses large images where trimesh takes that for no image; here they are refused in words, undecoded."""
    from PIL import Image as pil

    before = pil.MAX_IMAGE_PIXELS
    pil.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        pil.MAX_IMAGE_PIXELS = before


def _metres_per_unit(scene: trimesh.Scene, suffix: str) -> float | None:
    from trimesh.units import unit_conversion

    if suffix in (".step", ".stp"):
        return 1.0  # the converter makes metres of what the file says
    if suffix not in (".dae", ".3mf") or not scene.units:
        return None
    return float(unit_conversion(scene.units, "meters"))


def _part(geometry: trimesh.Trimesh, transform: NDArray[np.float64], max_texture_size: int, source: MeshSource) -> Part:
    vertices = np.asarray(geometry.vertices) @ transform[:3, :3].T + transform[:3, 3]
    faces = np.asarray(geometry.faces)
    if np.linalg.det(transform[:3, :3]) < 0:  # a mirroring node turns the surface inside out
        faces = faces[:, ::-1]
    visual: Any = geometry.visual
    part = Part(vertices, faces)
    of_material = visual.kind == "texture" and not _is_filler(visual.material, source)
    image, factor = _material(visual.material) if of_material else (None, None)
    uv = getattr(visual, "uv", None)
    colors, of_faces = _own_colors(geometry)
    linear = source.path.suffix.lower() in (".glb", ".gltf")
    if of_material and colors is not None and (colors == colors[:1]).all() and not (linear and image is None):
        colors = None  # one colour for all is what a program writes by itself: the material says more
    if image is not None and factor is not None and uv is not None and len(uv) == len(vertices):
        move = source.texture_moves.get(str(getattr(visual.material, "name", None)))
        part.uv = _moved(np.asarray(uv, dtype=np.float64), move)
        part.texture = _times_factor(_limit_size(image, max_texture_size), factor)
        if colors is not None:
            source.remarks.append("its colours of vertices or faces are left out beside its texture")
    elif colors is not None and len(colors) == len(faces if of_faces else vertices):
        shown = _srgb(colors * (1.0 if factor is None else factor)) if linear else _eight_bits(colors)
        if of_faces:
            part = Part(vertices[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3))
        part.colors = np.repeat(shown, 3, axis=0) if of_faces else shown
    elif factor is not None:
        part.colors = np.broadcast_to(_srgb(factor), (len(vertices), 3))
        if image is not None:
            source.remarks.append("a texture is not shown: its faces have no texture coordinates")
    return part


def _own_colors(geometry: trimesh.Trimesh) -> tuple[NDArray[np.float64] | None, bool]:
    """RGB in [0, 1] of each vertex, or else of each face, and whether they are of the faces.

    Where trimesh has split vertices at the seams of a texture it still gives the colours of those in the file.
    """
    visual: Any = geometry.visual
    if visual.kind == "vertex":
        return _fractions(visual.vertex_colors), False
    if visual.kind == "face":
        return _fractions(visual.face_colors), True
    places: Any = (getattr(visual, "vertex_attributes", {}), geometry.vertex_attributes, geometry.face_attributes)
    for place in places:
        if "color" in place:
            return _fractions(place["color"]), place is geometry.face_attributes
    return None, False


def _fractions(colors: Any) -> NDArray[np.float64]:
    values = np.asarray(colors)[:, :3]
    return np.asarray(np.clip(values / (np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1.0), 0.0, 1.0))


def _moved(uv: NDArray[np.float64], move: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """By a matrix (2, 3) for coordinates whose v points down."""
    if move is None:
        return uv
    u, v = move @ np.stack([uv[:, 0], 1.0 - uv[:, 1], np.ones(len(uv))])
    return np.stack([u, 1.0 - v], axis=1)


def _is_filler(material: Any, source: MeshSource) -> bool:
    """Whether trimesh made the material up, for texture coordinates that no material belongs to."""
    image = getattr(material, "image", None)
    if image is None or image.size != (2, 2) or image.info.get("file_path"):
        return False
    return not any(path.suffix.lower() != ".mtl" for path in source.found) or source.path.suffix.lower() == ".obj"


def _material(material: Any) -> tuple[Image | None, NDArray[np.float64]]:
    """Image and linear colour (3) in [0, 1] of a trimesh material; the colour of an image is its factor."""
    if hasattr(material, "baseColorFactor"):  # glTF, whose factor is linear
        factor = material.baseColorFactor
        return material.baseColorTexture, np.ones(3) if factor is None else np.asarray(factor[:3]) / 255.0
    image = getattr(material, "image", None)
    if image is not None:  # MTL, whose Kd is often left at a default that darkens the image
        return image, np.ones(3)
    color = np.asarray(getattr(material, "main_color", [PLAIN_GREY] * 3)[:3], dtype=np.float64) / 255.0
    return None, np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def _srgb(linear: NDArray[np.float64]) -> NDArray[np.uint8]:
    """IEC 61966-2-1, to 8 bits."""
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0) ** (1 / 2.4) - 0.055)
    return _eight_bits(curve)


def _eight_bits(colors: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.round(255.0 * np.clip(colors, 0.0, 1.0)).astype(np.uint8)


def _times_factor(texture: NDArray[np.uint8], factor: NDArray[np.float64]) -> NDArray[np.uint8]:
    if (factor == 1.0).all():
        return texture
    value = np.arange(256)[:, None] / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.take_along_axis(_srgb(linear * factor), texture.reshape(-1, 3), axis=0).reshape(texture.shape))


def _limit_size(image: Image, max_size: int) -> NDArray[np.uint8]:
    from PIL import Image as pil

    width, height = image.size
    if width * height > LARGEST_TEXTURE:
        name = image.info.get("file_path", "texture")
        raise MeshError(f"{name}: {width}x{height} pixels, more than {LARGEST_TEXTURE // 1_000_000} million; scale it")
    scale = max_size / max(width, height)
    size = tuple(max(1, round(side * scale)) for side in (width, height))
    if scale < 1:
        image.draft("RGB", (2 * size[0], 2 * size[1]))  # a JPEG is decoded no larger than needed
    try:
        resized = _of_eight_bits(image).convert("RGB")
    except OSError as error:
        raise MeshError(f"{image.info.get('file_path', 'texture')}: cannot be decoded ({error})") from error
    return np.asarray(resized.resize((size[0], size[1]), pil.Resampling.LANCZOS) if scale < 1 else resized)


def _of_eight_bits(image: Image) -> Image:
    """Pillow cuts off what is above 255 in a grey image of 16 bits."""
    from PIL import Image as pil

    if image.mode == "F":
        raise MeshError(
            f"{image.info.get('file_path', 'texture')}: an image of floats is not read: save it with 8 bits"
        )
    if not image.mode.startswith("I"):
        return image
    return pil.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
