"""Read mesh files through trimesh and merge their parts: placed by the scene graph, textures packed into one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import PLAIN_GREY, MeshError, TriangleMesh

if TYPE_CHECKING:
    import trimesh
    from PIL.Image import Image

LARGEST_TILING = 16  # tiles of a repeating texture that are laid out when it has to share an image with others
TILE_BORDER = 4  # texels around each packed image, so that mip maps do not bleed


@dataclass
class _Part:
    """One geometry of a scene with the texture or the colours it brings."""

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    uv: NDArray[np.float64] | None = None
    texture: NDArray[np.uint8] | None = None
    colors: NDArray[np.uint8] | None = None


def import_scene(path: Path, max_texture_size: int) -> TriangleMesh:
    """The file as one mesh in the file's own units.

    Raises:
        MeshError: if the file cannot be read, holds no triangles, or holds values that are not finite.
    """
    try:
        import trimesh
    except ImportError as error:
        raise MeshError(f"{path}: reading meshes needs the Python package trimesh") from error
    try:
        scene = trimesh.load_scene(path, process=False)
    except Exception as error:  # trimesh passes on whatever its parsers raise
        raise MeshError(f"{path}: cannot be read as a mesh: {error}") from error
    parts = []
    for node in scene.graph.nodes_geometry:
        transform, geometry_name = scene.graph[node]
        geometry = scene.geometry[geometry_name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces) > 0:
            parts.append(_part(geometry, np.asarray(transform), max_texture_size))
    if not parts:
        raise MeshError(f"{path}: holds no triangles")
    try:
        return _merge(parts, max_texture_size)
    except MeshError as error:
        raise MeshError(f"{path}: {error}") from error


def _part(geometry: trimesh.Trimesh, transform: NDArray[np.float64], max_texture_size: int) -> _Part:
    vertices = np.asarray(geometry.vertices) @ transform[:3, :3].T + transform[:3, 3]
    faces = np.asarray(geometry.faces)
    if np.linalg.det(transform[:3, :3]) < 0:  # a mirroring node turns the surface inside out
        faces = faces[:, ::-1]
    visual: Any = geometry.visual
    part = _Part(vertices, faces)
    if visual.kind == "texture" and visual.uv is not None and len(visual.uv) == len(vertices):
        image, color = _material(visual.material)
        if image is None:
            part.colors = np.broadcast_to(color, (len(vertices), 3))
        else:
            part.uv = np.asarray(visual.uv, dtype=np.float64)
            part.texture = _limit_size(image, max_texture_size, color)
    elif visual.kind == "texture":
        part.colors = np.broadcast_to(_material(visual.material)[1], (len(vertices), 3))
    elif visual.kind == "vertex":
        part.colors = np.asarray(visual.vertex_colors)[:, :3]
    elif visual.kind == "face":
        part = _Part(vertices[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3))
        part.colors = np.repeat(np.asarray(visual.face_colors)[:, :3], 3, axis=0)
    return part


def _material(material: object) -> tuple[Image | None, NDArray[np.uint8]]:
    """Image and colour of a trimesh material; the colour of an image is its factor (glTF), white for MTL."""
    image = getattr(material, "baseColorTexture", None)  # glTF
    if image is not None:
        factor = getattr(material, "baseColorFactor", None)
        return image, np.array(factor[:3] if factor is not None else [255] * 3, dtype=np.uint8)
    image = getattr(material, "image", None)  # MTL; its Kd is often left at a default that darkens the image
    color = np.array([255] * 3 if image is not None else getattr(material, "main_color", [PLAIN_GREY] * 3)[:3])
    return image, color.astype(np.uint8)


def _limit_size(image: Image, max_size: int, factor: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image as pil

    resized = image.convert("RGB")
    scale = max_size / max(resized.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in resized.size)
        resized = resized.resize((width, height), pil.Resampling.LANCZOS)
    return (np.asarray(resized).astype(np.uint16) * factor // 255).astype(np.uint8)


def _merge(parts: list[_Part], max_texture_size: int) -> TriangleMesh:
    textured = any(part.texture is not None for part in parts)
    texture: NDArray[np.uint8] | None = None
    uv: NDArray[np.float64] | None = None
    colors: NDArray[np.uint8] | None = None
    if textured and len(parts) == 1:
        texture, uv = parts[0].texture, parts[0].uv
    elif textured:
        parts = [part if part.texture is not None else _paint(part) for part in parts]
        texture, uv = _pack(parts, max_texture_size)
    elif any(part.colors is not None for part in parts):
        grey = np.full(3, PLAIN_GREY, np.uint8)
        colors = np.concatenate(
            [np.broadcast_to(grey if p.colors is None else p.colors, (len(p.vertices), 3)) for p in parts]
        )
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets)])
    return TriangleMesh(
        vertices=vertices.astype(np.float32),
        faces=faces.astype(np.int32),
        uv=None if uv is None else uv.astype(np.float32),
        texture=texture,
        vertex_colors=colors,
    )


def _paint(part: _Part) -> _Part:
    """Turn colours into a small texture of one texel block a colour, so that the part can join a textured mesh."""
    colors = np.full((len(part.vertices), 3), PLAIN_GREY) if part.colors is None else part.colors
    by_face = colors[part.faces].mean(axis=1).astype(np.int64) // 8 * 8 + 4  # 32 levels: at most 32768 blocks
    palette, index = np.unique(by_face, axis=0, return_inverse=True)
    side = int(np.ceil(np.sqrt(len(palette))))
    blocks = np.zeros((side * side, 3), np.uint8)
    blocks[: len(palette)] = palette
    texture = blocks.reshape(side, side, 3).repeat(4, axis=0).repeat(4, axis=1)
    row, column = np.divmod(index.reshape(-1), side)
    uv = np.stack([(column + 0.5) / side, 1.0 - (row + 0.5) / side], axis=1).repeat(3, axis=0)
    return _Part(
        part.vertices[part.faces].reshape(-1, 3), np.arange(part.faces.size).reshape(-1, 3), uv=uv, texture=texture
    )


def _pack(parts: list[_Part], max_texture_size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """One image of all the parts' textures, and the texture coordinates in it.

    Images are laid in rows, the tallest first; a part that repeats its image gets it laid out that many times.
    """
    from PIL import Image as pil

    tiles, local_uv = zip(*(_lay_out_repeats(part) for part in parts))
    sizes = np.array([tile.shape[:2] for tile in tiles], dtype=np.float64)
    scale = min(1.0, max_texture_size / np.sqrt((sizes + 2 * TILE_BORDER).prod(axis=1).sum()) / 1.2)
    sizes = np.maximum(np.round(sizes * scale), 1).astype(int)
    row_width = max(int(max_texture_size), sizes[:, 1].max() + 2 * TILE_BORDER)
    corners, x, y, row_height, width = np.zeros((len(tiles), 2), int), 0, 0, 0, 0
    for i in np.argsort(-sizes[:, 0], kind="stable"):
        height_i, width_i = sizes[i] + 2 * TILE_BORDER
        if x + width_i > row_width:
            x, y, row_height = 0, y + row_height, 0
        corners[i] = y + TILE_BORDER, x + TILE_BORDER
        x, row_height = x + width_i, max(row_height, height_i)
        width = max(width, x)
    height = y + row_height
    atlas = np.zeros((height, width, 3), np.uint8)
    uvs = []
    for tile, uv, size, corner in zip(tiles, local_uv, sizes, corners):
        resized = np.asarray(pil.fromarray(tile).resize((int(size[1]), int(size[0])), pil.Resampling.LANCZOS))
        bordered = np.pad(resized, ((TILE_BORDER,) * 2, (TILE_BORDER,) * 2, (0, 0)), mode="edge")
        top, left = corner - TILE_BORDER
        atlas[top : top + bordered.shape[0], left : left + bordered.shape[1]] = bordered
        column = corner[1] + uv[:, 0] * size[1]
        row = corner[0] + (1.0 - uv[:, 1]) * size[0]
        uvs.append(np.stack([column / width, 1.0 - row / height], axis=1))
    return atlas, np.concatenate(uvs)


def _lay_out_repeats(part: _Part) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part's texture, repeated as often as its coordinates ask, and coordinates in [0, 1] of that."""
    assert part.texture is not None
    assert part.uv is not None
    first = np.floor(part.uv.min(axis=0) + 1e-6)
    count = np.maximum(np.ceil(part.uv.max(axis=0) - 1e-6) - first, 1).astype(int)
    if count.prod() > LARGEST_TILING:
        raise MeshError(f"texture: one of several materials repeats its image {count.prod()} times; bake it first")
    return np.tile(part.texture, (count[1], count[0], 1)), (part.uv - first) / count
