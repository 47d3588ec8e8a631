"""The bytes of a mesh file and of what it refers to, made readable: names found as viewers find them, faults named."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from pnp_ros.objects.mesh import MeshError
from pnp_ros.objects.polygon_files import dae_of_triangles, obj_of_triangles, off_of_triangles, ply_of_triangles

_MTL_OPTIONS = {"-s": 3, "-o": 3, "-t": 3, "-mm": 2, "-bm": 1, "-blendu": 1, "-blendv": 1, "-boost": 1}
_MTL_OPTIONS |= {"-cc": 1, "-clamp": 1, "-imfchan": 1, "-texres": 1, "-type": 1, "-colorspace": 1}
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tga", ".tif", ".tiff", ".webp", ".gif", ".dds")
_LARGEST = 1_000_000_000  # bytes of a file that a mesh refers to
_STL_HEADER, _STL_TRIANGLE = 84, 50  # bytes
_TEXTURE_COORDINATES = rb"^(property \w+ )(s|t|u|v|texture_u|texture_v)\s*$"


class MeshSource:
    """A mesh file and the files beside it; what trimesh calls a resolver.

    Args:
        path: of the mesh.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.missing: list[str] = []  #: names that were referred to and not found
        self.unreadable: list[str] = []  #: names of images that are there and cannot be used
        self.found: list[Path] = []

    def content(self) -> bytes:
        """The mesh file's bytes, with what its parser would trip over mended.

        Raises:
            MeshError: if it is cut short.
        """
        data = self.path.read_bytes()
        suffix = self.path.suffix.lower()
        if suffix == ".stl":
            return _whole_stl(data)
        if suffix in _WHOLE:
            _WHOLE[suffix](data)
        if suffix == ".ply":
            return ply_of_triangles(_ply_without_idle_coordinates(data))
        if suffix == ".obj":
            return obj_of_triangles(self._obj(_text(data))).encode()
        if suffix == ".off":
            return _off(data)
        if b"<!ENTITY" in data[:100_000]:
            raise MeshError("defines XML entities, which are not read")
        return dae_of_triangles(data) if suffix == ".dae" else data

    def get(self, name: str) -> bytes:
        """The bytes of a file that the mesh refers to.

        Raises:
            FileNotFoundError: if it is not there; the name is kept in ``missing``.
        """
        name = name.strip()
        path = self.find(name)
        if path is None:
            self.missing.append(_without_options(name))
            raise FileNotFoundError(name)
        if path.stat().st_size > _LARGEST:
            self.unreadable.append(f"{_without_options(name)} (more than {_LARGEST // 1_000_000} MB)")
            raise FileNotFoundError(name)
        self.found.append(path)
        data = path.read_bytes()
        if path.suffix.lower() == ".mtl":
            return _text(data).encode()
        if path.suffix.lower() in IMAGES:
            self._check_image(name, data)
        return data

    __getitem__ = get

    def _check_image(self, name: str, data: bytes) -> None:
        """trimesh goes on silently without an image that it cannot read."""
        from PIL import Image, UnidentifiedImageError

        try:
            Image.open(io.BytesIO(data)).close()
        except (UnidentifiedImageError, OSError):
            self.unreadable.append(_without_options(name))

    def find(self, name: str) -> Path | None:
        """Where a name is found: as written, else beside the mesh by ever less of its path, in any case."""
        plain = _without_options(name).strip("\"'").replace("file://", "").replace("\\", "/").replace("%20", " ")
        written = Path(plain)
        if written.is_absolute() and written.is_file():
            return written
        pieces = [piece for piece in re.sub(r"^[A-Za-z]:", "", plain).split("/") if piece not in ("", ".")]
        for start in range(len(pieces)):
            found = _follow(self.path.parent, pieces[start:])
            if found is not None:
                return found
        return None

    def _obj(self, text: str) -> str:
        """With the material named, if the library holds one and no face asks for any."""
        library = re.search(r"^mtllib\s+(.+?)\s*$", text, re.MULTILINE)
        if library is None or re.search(r"^usemtl\b", text, re.MULTILINE):
            return text
        path = self.find(library[1])
        if path is None:
            return text
        materials = re.findall(r"^newmtl\s+(.+?)\s*$", _text(path.read_bytes()), re.MULTILINE)
        return (
            f"{text[: library.end()]}\nusemtl {materials[0]}\n{text[library.end() :]}" if len(materials) == 1 else text
        )


def find_package_file(reference: str, near: Path | None = None) -> Path | None:
    """The file of ``package://NAME/...``: in a folder of that name above ``near``, or in a sourced ROS workspace."""
    match = re.fullmatch(r"package:/{1,2}([^/]+)/(.+)", reference)
    if match is None:
        return None
    name, rest = match[1], match[2]
    folders = [parent for parent in (near.resolve().parents if near else ()) if parent.name == name]
    folders += [parent / name for parent in (near.resolve().parents if near else ())]
    for variable, inner in (("AMENT_PREFIX_PATH", "share"), ("ROS_PACKAGE_PATH", "")):
        folders += [Path(prefix) / inner / name for prefix in os.environ.get(variable, "").split(os.pathsep) if prefix]
    return next((folder / rest for folder in folders if (folder / rest).is_file()), None)


def _follow(folder: Path, pieces: list[str]) -> Path | None:
    """The regular file (no pipe, no device) at a path below a folder, whatever the case of its letters."""
    for piece in pieces:
        step = folder / piece
        if piece != ".." and not step.exists():
            try:
                names = sorted(entry for entry in folder.iterdir() if entry.name.lower() == piece.lower())
            except OSError:
                return None
            if not names:
                return None
            step = names[0]
        folder = step
    return folder if folder.is_file() else None


def _without_options(name: str) -> str:
    """``-s 1 1 1 pic.png`` is ``pic.png``: MTL lets a texture's options stand before its name."""
    words = name.split()
    while words and words[0] in _MTL_OPTIONS:
        option, *words = words
        count = 0  # a vector's later numbers may be left out
        while words and count < _MTL_OPTIONS[option] and (count == 0 or re.fullmatch(r"[-+.\deE]+", words[0])):
            words, count = words[1:], count + 1
    return " ".join(words) if words else name


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _ply_without_idle_coordinates(data: bytes) -> bytes:
    """Without texture coordinates that no texture belongs to: they would hide the vertices' colours."""
    end = data.find(b"end_header")
    header = data[: max(end, 0)]
    if b"texturefile" in header.lower():
        return data
    return re.sub(_TEXTURE_COORDINATES, rb"\1unused_\2", header, flags=re.MULTILINE) + data[max(end, 0) :]


def _whole_stl(data: bytes) -> bytes:
    announced = int.from_bytes(data[80:84], "little") if len(data) >= _STL_HEADER else 0
    there = max(len(data) - _STL_HEADER, 0) // _STL_TRIANGLE
    if len(data) == _STL_HEADER + announced * _STL_TRIANGLE and announced:
        return data
    if data.lstrip()[:5].lower() == b"solid" and b"facet" in data[:2000].lower():
        lower = data.lower()
        triangles, corners = lower.count(b"facet normal"), len(re.findall(rb"\bvertex\b", lower))
        if b"endsolid" not in lower or corners != 3 * triangles:
            raise MeshError(f"is cut short: {triangles} triangles begun, {lower.count(b'endfacet')} complete")
        return data
    if announced == 0:
        raise MeshError("holds no triangles")
    if there < announced:
        raise MeshError(f"is cut short: {announced} triangles announced, {there} there")
    return data[: _STL_HEADER + announced * _STL_TRIANGLE]  # some programs append their own data


def _check_glb(data: bytes) -> None:
    announced = int.from_bytes(data[8:12], "little")
    if data[:4] == b"glTF" and len(data) < announced:
        raise MeshError(f"is cut short: {announced} bytes announced, {len(data)} there")


def _check_gltf(data: bytes) -> None:
    """Trimesh would read a file named model.gltf beside it instead."""
    try:
        json.loads(data)
    except ValueError as error:
        raise MeshError(f"is cut short, or no glTF: {error}") from error


def _off(data: bytes) -> bytes:
    """Trimesh takes the faces that are there."""
    lines = [words for line in _text(data).splitlines() if (words := line.split("#")[0].split())]
    if lines and lines[0][0].upper().endswith("OFF"):
        lines[:1] = [lines[0][1:]] if len(lines[0]) > 1 else []
    if not lines or len(lines[0]) < 2 or not all(word.isdigit() for word in lines[0][:2]):
        raise MeshError("expected the numbers of vertices and faces, as an OFF file begins")
    vertices, faces = int(lines[0][0]), int(lines[0][1])
    whole = [words for words in lines[1 + vertices :] if words[0].isdigit() and len(words) > int(words[0])]
    if len(whole) < faces:
        raise MeshError(f"is cut short: {faces} faces announced, {len(whole)} there")
    return off_of_triangles(lines[1 : 1 + vertices], whole[:faces])


def _check_ply(data: bytes) -> None:
    if data[:3] == b"ply" and b"end_header" not in data:
        raise MeshError("is cut short: its header does not end")


_WHOLE: dict[str, Callable[[bytes], None]] = {
    ".glb": _check_glb,
    ".gltf": _check_gltf,
    ".ply": _check_ply,
}
