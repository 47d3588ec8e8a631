"""Mesh files whose faces have more than three corners, made files of triangles: trimesh cuts all of them into fans.

What a corner or a face has besides its place goes with it: texture coordinates, normals, colours. A file that holds
triangles alone stays as it is.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import MeshError
from pnp_ros.objects.polygons import triangulated

_Elements = list[tuple[str, int, list[list[str]]]]  # of a PLY file: name, count, words of each property
_Rows = list[list[list[bytes]]]  # of each face the items of each property, as they are written
_OBJ_FACE_TO_CHANGE = re.compile(r"^f[ \t](?:.*-|[ \t]*(?:\S+[ \t]+){3}\S)", re.MULTILINE)
_INDICES = ("vertex_indices", "vertex_index")  # what PLY files call a face's corners
_PLY_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"}
_PLY_TYPES |= {"double": "f8", "float32": "f4", "float64": "f8", "float16": "f2"}
_PLY_TYPES |= {f"{sign}int{8 * size}": f"{sign or 'i'}{size}" for sign in ("", "u") for size in (1, 2, 4, 8)}


def obj_of_triangles(text: str) -> str:
    """An OBJ file; references that count back from the last vertex are made plain numbers, too."""
    text = text.replace("\r\n", "\n").replace("\\\n", "")
    if not _OBJ_FACE_TO_CHANGE.search(text):
        return text
    lines = text.split("\n")
    faces = {i: line.split()[1:] for i, line in enumerate(lines) if line[:2] in ("f ", "f\t")}
    if any("-" in lines[i] for i in faces):
        faces = _counted_from_the_start(lines, faces)
    places = np.array([line.split()[1:4] for line in lines if line[:2] == "v "], dtype=np.float64)
    corners = [corner for face in faces.values() for corner in face]
    points = places[[int(corner.split("/")[0]) - 1 for corner in corners]]
    triangles, owners = triangulated(points, np.array([len(face) for face in faces.values()]))
    written: dict[int, list[str]] = {i: [] for i in faces}
    numbers = list(faces)
    for owner, triangle in zip(owners.tolist(), triangles.tolist()):
        written[numbers[owner]].append("f " + " ".join(corners[corner] for corner in triangle))
    return "\n".join("\n".join(written[i]) if i in written else line for i, line in enumerate(lines))


def _counted_from_the_start(lines: list[str], faces: dict[int, list[str]]) -> dict[int, list[str]]:
    seen = {"v": 0, "vt": 0, "vn": 0}
    result = {}
    for i, line in enumerate(lines):
        kind = line.split(" ", 1)[0]
        if kind in seen:
            seen[kind] += 1
        elif i in faces:
            result[i] = [
                "/".join(
                    str(int(number) + count + 1) if number.startswith("-") else number
                    for number, count in zip(corner.split("/"), seen.values())
                )
                for corner in faces[i]
            ]
    return result


def off_of_triangles(vertices: Sequence[Sequence[str]], faces: Sequence[Sequence[str]]) -> bytes:
    """An OFF file of the words of its lines."""
    places = np.array([words[:3] for words in vertices], dtype=np.float64)
    sizes = [int(words[0]) for words in faces]
    corners = np.array([word for words, size in zip(faces, sizes) for word in words[1 : size + 1]], dtype=np.int64)
    triangles, _ = triangulated(places[corners], np.array(sizes, dtype=np.int64))
    lines = ["OFF", f"{len(vertices)} {len(triangles)} 0", *(" ".join(words[:3]) for words in vertices)]
    return "\n".join([*lines, *(f"3 {a} {b} {c}" for a, b, c in corners[triangles].tolist()), ""]).encode()


def ply_of_triangles(data: bytes) -> bytes:
    """A PLY file, text or binary. A list of two numbers for each corner is taken for texture coordinates."""
    head = re.search(rb"^end_header[ \t]*\r?\n", data, re.MULTILINE)
    if head is None:
        return data
    lines = [line.split() for line in data[: head.end()].decode("latin-1").splitlines()]
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(lines[1][1] if len(lines[1]) > 1 else "")
    elements: _Elements = []
    for words in lines:
        if words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            elements[-1][2].append(words[1:])
    names = [name for name, _, _ in elements]
    if "vertex" not in names or "face" not in names[names.index("vertex") :]:
        return data
    before = elements[: names.index("face")]
    count, properties = elements[len(before)][1:]
    index = next((i for i, words in enumerate(properties) if words[0] == "list" and words[-1] in _INDICES), None)
    if index is None or any(words[0] == "list" for _, _, of_before in before for words in of_before):
        return data
    if order is not None and _holds_triangles(data[head.end() :], before, count, properties, order):
        return data
    reader = _ply_text if order is None else _ply_binary
    places, rows, first, last = reader(data, head.end(), before, count, properties, order or "<")
    if all(len(row[index]) == 3 for row in rows):
        return data
    sizes = np.array([len(row[index]) for row in rows])
    if order is None:
        corners = np.array([item for row in rows for item in row[index]], dtype=np.int64)
    else:
        kind = order + _PLY_TYPES[properties[index][2]]
        corners = np.frombuffer(b"".join(item for row in rows for item in row[index]), kind).astype(np.int64)
    begins = (np.cumsum(sizes) - sizes).tolist()
    triangles, owners = triangulated(places[corners], sizes)
    written = []
    for owner, triangle in zip(owners.tolist(), triangles.tolist()):
        row, chosen = rows[owner], [corner - begins[owner] for corner in triangle]
        for words, items in zip(properties, row):
            if words[0] == "list" and len(items) == len(row[index]):
                items = [items[i] for i in chosen]
            elif words[0] == "list" and len(items) == 2 * len(row[index]):
                items = [items[2 * i + k] for i in chosen for k in range(2)]
            if words[0] == "list":
                written.append(_ply_count(len(items), words[1], order))
            written += items
        if order is None:
            written.append(b"\n")
    new_head = re.sub(rb"(element\s+face\s+)\d+", rb"\g<1>%d" % len(triangles), data[: head.end()])
    return new_head + data[head.end() : first] + (b"" if order else b" ").join(written) + data[last:]


def _holds_triangles(body: bytes, before: _Elements, count: int, properties: list[list[str]], order: str) -> bool:
    """Whether all lists are as long as triangles have them: known without going through the faces one by one."""
    start = sum(length * _row(columns, order).itemsize for _, length, columns in before)
    row = _row(properties, order)
    if start + count * row.itemsize > len(body):
        return False
    table = np.frombuffer(body, row, count, start)
    lists = [words for words in properties if words[0] == "list"]
    return all((table[f"{words[-1]} count"] == _of_a_triangle(words)).all() for words in lists)


def _row(properties: list[list[str]], order: str) -> np.dtype[np.void]:
    """Of an element whose lists are those of triangles."""
    columns: list[tuple[Any, ...]] = []
    for words in properties:
        if words[0] == "list":
            columns += [(f"{words[-1]} count", order + _PLY_TYPES[words[1]])]
            columns += [(words[-1], order + _PLY_TYPES[words[2]], _of_a_triangle(words))]
        else:
            columns += [(words[-1], order + _PLY_TYPES[words[0]])]
    return np.dtype(columns)


def _of_a_triangle(words: list[str]) -> int:
    return 3 if words[-1] in _INDICES else 6


def _ply_count(count: int, kind: str, order: str | None) -> bytes:
    return b"%d" % count if order is None else np.array(count, order + _PLY_TYPES[kind]).tobytes()


def _ply_text(
    data: bytes, start: int, before: _Elements, count: int, properties: list[list[str]], order: str
) -> tuple[NDArray[np.float64], _Rows, int, int]:
    """Places of the vertices, rows of the faces, where these begin and end."""
    lines = data[start:].splitlines(keepends=True)
    ends = list(accumulate((len(line) for line in lines), initial=start))
    places, at = np.zeros((0, 3)), 0
    for name, length, columns in before:
        if name == "vertex":
            named = [words[-1] for words in columns]
            chosen = [named.index(axis) for axis in "xyz"]
            words_of = (line.split() for line in lines[at : at + length])
            places = np.array([[words[i] for i in chosen] for words in words_of], dtype=np.float64)
        at += length
    rows = []
    for line in lines[at : at + count]:
        items, row, i = line.split(), [], 0
        for words in properties:
            size = int(items[i]) if words[0] == "list" and i < len(items) else 1
            i += words[0] == "list"
            row.append(items[i : i + size])
            i += size
        if i > len(items):
            break
        rows.append(row)
    if len(rows) < count:
        raise MeshError(f"is cut short: {count} faces announced, {len(rows)} there")
    return places, rows, ends[at], ends[at + len(rows)]


def _ply_binary(
    data: bytes, start: int, before: _Elements, count: int, properties: list[list[str]], order: str
) -> tuple[NDArray[np.float64], _Rows, int, int]:
    """Places of the vertices, rows of the faces, where these begin and end."""
    places = np.zeros((0, 3))
    for name, length, columns in before:
        kind = _row(columns, order)
        if name == "vertex":
            if start + length * kind.itemsize > len(data):
                raise MeshError(f"is cut short: {length} vertices announced")
            table = np.frombuffer(data, kind, length, start)
            places = np.stack([table[axis] for axis in "xyz"], axis=1).astype(np.float64)
        start += length * kind.itemsize
    sizes = [np.dtype(_PLY_TYPES[words[-2]]).itemsize for words in properties]
    counters = [np.dtype(_PLY_TYPES[words[1]]).itemsize if words[0] == "list" else 0 for words in properties]
    rows: _Rows = []
    at = start
    while len(rows) < count:
        row = []
        for counter, size in zip(counters, sizes):
            length = int.from_bytes(data[at : at + counter], "little" if order == "<" else "big") if counter else 1
            at += counter
            if at + length * size > len(data):
                raise MeshError(f"is cut short: {count} faces announced, {len(rows)} there")
            row.append([data[at + i * size : at + (i + 1) * size] for i in range(length)])
            at += length * size
        rows.append(row)
    return places, rows, start, at


def dae_of_triangles(data: bytes) -> bytes:
    """A Collada file.

    Raises:
        MeshError: if a polygon has a hole.
    """
    if b"polylist" not in data and b"polygons" not in data:
        return data
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError:  # the reader says what is wrong
        return data
    space = root.tag[: root.tag.find("}") + 1]
    changed = False
    for mesh in root.iter(f"{space}mesh"):
        for faces in mesh.findall(f"{space}polylist") + mesh.findall(f"{space}polygons"):
            changed |= _dae_triangles(mesh, faces, space)
    return ElementTree.tostring(root) if changed else data


def _dae_triangles(mesh: ElementTree.Element, faces: ElementTree.Element, space: str) -> bool:
    """Make a list of polygons one of triangles; False if it is of triangles already."""
    if faces.find(f"{space}ph") is not None:
        raise MeshError("has polygons with holes, which are not read: export it as triangles")
    inputs = faces.findall(f"{space}input")
    vertex = next((element for element in inputs if element.get("semantic") == "VERTEX"), None)
    lists = [np.array((element.text or "").split(), dtype=np.int64) for element in faces.findall(f"{space}p")]
    if vertex is None or not lists:
        return False
    stride = 1 + max(int(element.get("offset", 0)) for element in inputs)
    counts = faces.find(f"{space}vcount")
    sizes = np.array([len(numbers) // stride for numbers in lists])
    if counts is not None:
        sizes = np.array((counts.text or "").split(), dtype=np.int64)
    if (sizes <= 3).all():
        return False
    indices = np.concatenate(lists).reshape(-1, stride)
    points = _dae_places(mesh, str(vertex.get("source")), space)
    triangles, _ = triangulated(points[indices[:, int(vertex.get("offset", 0))]], sizes)
    for element in faces.findall(f"{space}p") + faces.findall(f"{space}vcount"):
        faces.remove(element)
    faces.tag = f"{space}triangles"
    faces.set("count", str(len(triangles)))
    ElementTree.SubElement(faces, f"{space}p").text = " ".join(map(str, indices[triangles].reshape(-1).tolist()))
    return True


def _dae_places(mesh: ElementTree.Element, reference: str, space: str) -> NDArray[np.float64]:
    """(V, 3) what the input VERTEX refers to."""
    by_id: dict[str, Any] = {f"#{element.get('id')}": element for element in mesh}
    position = next(
        element for element in by_id[reference].iter(f"{space}input") if element.get("semantic") == "POSITION"
    )
    source = by_id[str(position.get("source"))]
    numbers = np.array((source.find(f"{space}float_array").text or "").split(), dtype=np.float64)
    accessor = source.find(f"{space}technique_common/{space}accessor")
    begin, stride = int(accessor.get("offset", 0)), int(accessor.get("stride", 1))
    return numbers[begin : begin + int(accessor.get("count")) * stride].reshape(-1, stride)[:, :3]
