"""The bytes of a mesh file and of what it refers to, made readable: names found as viewers find them, faults named."""

from __future__ import annotations

import io
import os
import re
import zipfile
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.gltf_source import glb_content, gltf_content
from pnp_ros.objects.mesh import MeshError
from pnp_ros.objects.polygon_files import dae_of_triangles, obj_of_triangles, off_of_triangles, ply_of_triangles

_MTL_OPTIONS = {"-s": 3, "-o": 3, "-t": 3, "-mm": 2, "-bm": 1, "-blendu": 1, "-blendv": 1, "-boost": 1}
_MTL_OPTIONS |= {"-cc": 1, "-clamp": 1, "-imfchan": 1, "-texres": 1, "-type": 1, "-colorspace": 1}
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tga", ".tif", ".tiff", ".webp", ".gif", ".dds")
_LARGEST = 1_000_000_000  # bytes of a file that a mesh refers to
_STL_HEADER, _STL_TRIANGLE = 84, 50  # bytes
_COLOURS_OF_3MF = (b"displaycolor", b"colorgroup", b"texture2d")
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
        self.remarks: list[str] = []  #: what is not read, in words
        self.texture_moves: dict[str, NDArray[np.float64]] = {}  #: of a glTF file, by the material's name

    def content(self) -> bytes:
        """The mesh file's bytes, with what its parser would trip over mended.

        Raises:
            MeshError: if it is cut short.
        """
        data = self.path.read_bytes()
        suffix = self.path.suffix.lower()
        if suffix == ".stl":
            return _whole_stl(data)
        if suffix == ".ply":
            return ply_of_triangles(_ply(data))
        if suffix == ".obj":
            return obj_of_triangles(self._obj(_text(data))).encode()
        if suffix == ".off":
            return self._off(data)
        if suffix in (".glb", ".gltf"):
            content, self.texture_moves = glb_content(data) if suffix == ".glb" else gltf_content(data)
            return content
        if suffix == ".3mf" and _has_colours_of_3mf(data):
            self.remarks.append("colours of a 3MF file are not read: save it as GLB or OBJ to keep them")
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
        if path is None and len(libraries := _libraries(name)) > 1:
            there = [library for library in libraries if self.find(library) is not None]
            self.missing += [library for library in libraries if library not in there]
            return b"\n".join(self.get(library) for library in there)
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
        plain = _without_options(name).strip("\"'").replace("file://", "").replace("\\", "/")
        for candidate in dict.fromkeys((plain, unquote(plain))):
            if Path(candidate).is_absolute() and Path(candidate).is_file():
                return Path(candidate)
            pieces = [piece for piece in re.sub(r"^[A-Za-z]:", "", candidate).split("/") if piece not in ("", ".")]
            for start in range(len(pieces)):
                found = _follow(self.path.parent, pieces[start:])
                if found is not None:
                    return found
        return None

    def _obj(self, text: str) -> str:
        """With one line for all material libraries, and their material named if it is one and no face asks for any."""
        lines = [line.strip() for line in re.findall(r"^mtllib[ \t]+(.+)$", text, re.MULTILINE)]
        names = dict.fromkeys(name for line in lines for name in ([line] if self.find(line) else _libraries(line)))
        if not names:
            return text
        head = f"mtllib {' '.join(names)}\n"
        if not re.search(r"^usemtl\b", text, re.MULTILINE):
            paths = [path for name in names if (path := self.find(name)) is not None]
            libraries = "\n".join(_text(path.read_bytes()) for path in paths)
            materials = re.findall(r"^newmtl\s+(.+?)\s*$", libraries, re.MULTILINE)
            head += f"usemtl {materials[0]}\n" if len(materials) == 1 else ""
        return head + re.sub(r"^mtllib\b.*$", "", text, flags=re.MULTILINE)

    def _off(self, data: bytes) -> bytes:
        """Trimesh takes the faces that are there, without their colours."""
        lines = [words for line in _text(data).splitlines() if (words := line.split("#")[0].split())]
        kind = lines[0][0].upper() if lines else ""
        if kind.endswith("OFF"):
            lines[:1] = [lines[0][1:]] if len(lines[0]) > 1 else []
        if not lines or len(lines[0]) < 2 or not all(word.isdigit() for word in lines[0][:2]):
            raise MeshError("expected the numbers of vertices and faces, as an OFF file begins")
        vertices, faces = int(lines[0][0]), int(lines[0][1])
        whole = [words for words in lines[1 + vertices :] if words[0].isdigit() and len(words) > int(words[0])]
        if len(whole) < faces:
            raise MeshError(f"is cut short: {faces} faces announced, {len(whole)} there")
        if "C" in kind or any(len(words) > int(words[0]) + 1 for words in whole[:faces]):
            self.remarks.append("colours of an OFF file are not read: save it as PLY to keep them")
        return off_of_triangles(lines[1 : 1 + vertices], whole[:faces])


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


def _libraries(line: str) -> list[str]:
    """``a.mtl b.mtl`` names two material libraries, ``my b.mtl`` one."""
    return re.split(r"(?<=\.mtl)\s+", line.strip(), flags=re.IGNORECASE)


def _ply(data: bytes) -> bytes:
    """Without texture coordinates that no texture belongs to, as they would hide the vertices' colours."""
    end = max(data.find(b"end_header"), 0)
    header = data[:end]
    if data[:3] == b"ply" and not header:
        raise MeshError("is cut short: its header does not end")
    header = re.sub(rb"^(property \w+ )diffuse_(red|green|blue)\b", rb"\1\2", header, flags=re.MULTILINE)
    textures = dict.fromkeys(re.findall(rb"texturefile[ \t]+(.+?)[ \t\r]*\n", header, re.IGNORECASE))
    if len(textures) > 1:
        names = ", ".join(_text(name) for name in textures)
        raise MeshError(f"has {len(textures)} textures ({names}), of which one could be read: save it as OBJ or GLB")
    if not textures:
        header = re.sub(_TEXTURE_COORDINATES, rb"\1unused_\2", header, flags=re.MULTILINE)
    return header + data[end:]


def _has_colours_of_3mf(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            models = [archive.read(name) for name in archive.namelist() if name.lower().endswith(".model")]
    except zipfile.BadZipFile:  # the reader says what is wrong
        return False
    return any(word in model for model in models for word in _COLOURS_OF_3MF)


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
