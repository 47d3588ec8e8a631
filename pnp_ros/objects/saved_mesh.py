"""Read back the PLY files that :func:`pnp_ros.objects.mesh_files.save_mesh` writes, which all object packages hold.

trimesh reads them as well, but importing it takes longer than all else that loading a package does.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pnp_ros.objects.texture_atlas import Part

_HEADER = re.compile(
    rb"ply\nformat binary_little_endian 1\.0\ncomment units metres\n(?:comment TextureFile (?P<texture>[^\n/]+)\n)?"
    rb"element vertex (?P<vertices>[1-9]\d{0,8})\nproperty float x\nproperty float y\nproperty float z\n"
    rb"(?P<uv>property float texture_u\nproperty float texture_v\n)?"
    rb"(?P<colors>property uchar red\nproperty uchar green\nproperty uchar blue\n)?"
    rb"element face (?P<faces>[1-9]\d{0,8})\nproperty list uchar int vertex_indices\nend_header\n"
)


def read_saved(path: Path, content: bytes) -> tuple[Part, Path | None] | None:
    """The surface, without its texture, and the path of that; None if the file is not exactly of this kind."""
    header = _HEADER.match(content)
    if header is None or (header["uv"] is None) != (header["texture"] is None):
        return None
    columns = [("xyz", "<f4", 3)]
    columns += [("uv", "<f4", 2)] if header["uv"] else []
    columns += [("colors", "u1", 3)] if header["colors"] else []
    vertex, face = np.dtype(columns), np.dtype([("count", "u1"), ("index", "<i4", 3)])
    count, faces = int(header["vertices"]), int(header["faces"])
    if len(content) != header.end() + count * vertex.itemsize + faces * face.itemsize:
        return None
    vertices = np.frombuffer(content, vertex, count, header.end())
    triangles = np.frombuffer(content, face, faces, header.end() + vertices.nbytes)
    index = triangles["index"].astype(np.int64)
    if (triangles["count"] != 3).any() or index.min() < 0 or index.max() >= count:
        return None
    part = Part(vertices["xyz"].astype(np.float64), index)
    if header["colors"]:
        part.colors = vertices["colors"].copy()
    if not header["uv"]:
        return part, None
    part.uv = vertices["uv"].astype(np.float64)
    return part, path.with_name(header["texture"].decode(errors="replace"))
