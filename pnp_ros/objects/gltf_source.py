"""What a glTF file shows, in the terms that trimesh reads: one set of texture coordinates, colours of every primitive.

https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import MeshError

_READ = ("KHR_materials_", "KHR_texture_transform", "KHR_mesh_quantization", "KHR_lights_", "EXT_texture_webp")
_READ_WITH = {"KHR_draco_mesh_compression": "DracoPy"}  # package that trimesh decodes it with
_MOVE = "KHR_texture_transform"
_FLOAT = 5126
_GLB_HEADER = 20  # bytes: of the file, and of its first chunk


def glb_content(data: bytes) -> tuple[bytes, dict[str, NDArray[np.float64]]]:
    """As :func:`gltf_content`, of the binary form.

    Raises:
        MeshError: if it is cut short, too.
    """
    announced = int.from_bytes(data[8:12], "little")
    if data[:4] != b"glTF":
        return data, {}
    if len(data) < announced:
        raise MeshError(f"is cut short: {announced} bytes announced, {len(data)} there")
    end = _GLB_HEADER + int.from_bytes(data[12:16], "little")
    text, transforms = gltf_content(data[_GLB_HEADER:end])
    text += b" " * (-len(text) % 4)
    whole = len(text).to_bytes(4, "little") + data[16:20] + text + data[end:announced]
    return data[:8] + (12 + len(whole)).to_bytes(4, "little") + whole, transforms


def gltf_content(data: bytes) -> tuple[bytes, dict[str, NDArray[np.float64]]]:
    """The file with its materials named by their numbers, and the shown texture coordinates as TEXCOORD_0.

    Returns:
        The file; for each material whose texture is moved (KHR_texture_transform) the matrix (2, 3) that makes
        coordinates in the image, from its upper left corner, of (u, v, 1).

    Raises:
        MeshError: if it is no JSON, or needs what is not read.
    """
    try:
        tree = json.loads(data)
    except ValueError as error:
        raise MeshError(f"is cut short, or no glTF: {error}") from error
    _refuse_what_is_not_read(tree)
    materials = tree.setdefault("materials", [])
    plain = len(materials)
    infos = [_texture_info(material) for material in materials]
    for primitive in (primitive for mesh in tree.get("meshes", []) for primitive in mesh["primitives"]):
        attributes = primitive["attributes"]
        if "material" not in primitive and "COLOR_0" in attributes:
            primitive["material"] = plain
        info = infos[primitive["material"]] if primitive.get("material", plain) < plain else {}
        if info:
            _show(attributes, info, tree["accessors"])
        if "POSITION" in attributes and tree["accessors"][attributes["POSITION"]].get("normalized"):
            raise MeshError("its coordinates are normalised integers, which are not read: save it with floats")
    materials.append({})
    for i, material in enumerate(materials):
        material["name"] = str(i)
    moves = {str(i): move for i, info in enumerate(infos) if (move := info.get("extensions", {}).get(_MOVE))}
    return json.dumps(tree).encode(), {name: _matrix(move) for name, move in moves.items()}


def _refuse_what_is_not_read(tree: dict[str, Any]) -> None:
    required = [name for name in tree.get("extensionsRequired", []) if not name.startswith(_READ)]
    unknown = [name for name in required if name not in _READ_WITH or find_spec(_READ_WITH[name]) is None]
    if unknown:
        cure = "without compression" if any("compression" in name for name in unknown) else "without"
        raise MeshError(f"needs {', '.join(unknown)}, which is not read: save it {cure}")


def _texture_info(material: dict[str, Any]) -> dict[str, Any]:
    """Which image a material shows, and where; empty if none."""
    glossy = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness", {})
    metallic = material.get("pbrMetallicRoughness", {})
    return dict(glossy.get("diffuseTexture") or metallic.get("baseColorTexture") or {})


def _show(attributes: dict[str, int], info: dict[str, Any], accessors: list[dict[str, Any]]) -> None:
    number = info.get("extensions", {}).get(_MOVE, {}).get("texCoord", info.get("texCoord", 0))
    shown = attributes.get(f"TEXCOORD_{number}")
    if shown is None:
        attributes.pop("TEXCOORD_0", None)
        return
    if accessors[shown]["componentType"] != _FLOAT:
        raise MeshError("its texture coordinates are integers, which are not read: save it with floats")
    attributes["TEXCOORD_0"] = shown


def _matrix(move: dict[str, Any]) -> NDArray[np.float64]:
    """Scale, then turn, then offset; a positive rotation is counter-clockwise, and v points down."""
    cosine, sine = np.cos(move.get("rotation", 0.0)), np.sin(move.get("rotation", 0.0))
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return np.column_stack([turn * move.get("scale", [1.0, 1.0]), move.get("offset", [0.0, 0.0])])
