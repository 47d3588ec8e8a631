"""The parts of a mesh file become one mesh: their textures are packed into one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import PLAIN_GREY, MeshError

LARGEST_TILING = 16  # tiles of a repeating texture that are laid out when it has to share an image with others
TILE_BORDER = 4  # texels around each packed image, so that mip maps do not bleed


@dataclass(eq=False)
class Part:
    """One surface with the texture or the colours it brings.

    Args:
        vertices: (V, 3) in the file's units.
        faces: (F, 3).
        uv: (V, 2), where there is a texture.
        texture: (H, W, 3) RGB.
        colors: (V, 3) RGB.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    uv: NDArray[np.float64] | None = None
    texture: NDArray[np.uint8] | None = None
    colors: NDArray[np.uint8] | None = None


def merge(parts: list[Part], max_texture_size: int) -> Part:
    """All parts as one, with one texture, or colours, or neither.

    Raises:
        MeshError: if a texture that has to share an image repeats too often.
    """
    texture: NDArray[np.uint8] | None = None
    uv: NDArray[np.float64] | None = None
    colors: NDArray[np.uint8] | None = None
    if len(parts) == 1:
        return parts[0]
    if any(part.texture is not None for part in parts):
        parts = [part if part.texture is not None else _paint(part) for part in parts]
        texture, uv = _pack(parts, max_texture_size)
    elif any(part.colors is not None for part in parts):
        grey = np.full(3, PLAIN_GREY, np.uint8)
        colors = np.concatenate(
            [np.broadcast_to(grey if p.colors is None else p.colors, (len(p.vertices), 3)) for p in parts]
        )
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets)])
    return Part(np.concatenate([part.vertices for part in parts]), faces, uv, texture, colors)


def _paint(part: Part) -> Part:
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
    return Part(
        part.vertices[part.faces].reshape(-1, 3), np.arange(part.faces.size).reshape(-1, 3), uv=uv, texture=texture
    )


def _pack(parts: list[Part], max_texture_size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
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


def _lay_out_repeats(part: Part) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part's texture, repeated as often as its coordinates ask, and coordinates in [0, 1] of that."""
    assert part.texture is not None
    assert part.uv is not None
    first = np.floor(part.uv.min(axis=0) + 1e-6)
    count = np.maximum(np.ceil(part.uv.max(axis=0) - 1e-6) - first, 1).astype(int)
    if count.prod() > LARGEST_TILING:
        raise MeshError(f"texture: one of several materials repeats its image {count.prod()} times; bake it first")
    return np.tile(part.texture, (count[1], count[0], 1)), (part.uv - first) / count
