"""What meshes of files look like: textures, materials and colours, found and read as viewers do."""

import base64
import io
import json
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from pnp_ros.objects.mesh import MeshError
from pnp_ros.objects.mesh_files import load_mesh

RED = (220, 40, 30)
OBJ = """mtllib box.mtl
v 0 0 0
v .1 0 0
v 0 .1 0
v 0 0 .1
vt 0 0
vt 1 0
vt 0 1
usemtl m
f 1/1 3/2 2/3
f 1/1 2/2 4/3
f 1/1 4/2 3/3
f 2/1 3/2 4/3
"""


def write_obj(folder: Path, mtl: str, texture: str = "pic.png", obj: str = OBJ) -> Path:
    (folder / texture).parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.full((8, 8, 3), RED, np.uint8)).save(folder / texture)
    (folder / "box.mtl").write_text(mtl)
    (folder / "box.obj").write_text(obj)
    return folder / "box.obj"


@pytest.mark.parametrize(
    ("mtl", "place"),
    [
        ("map_Kd pic.png", "pic.png"),
        ("map_Kd textures\\pic.png", "textures/pic.png"),
        ("map_Kd C:\\work\\pic.png", "pic.png"),
        ("map_Kd /home/somebody/pic.png", "pic.png"),
        ("map_Kd PIC.PNG", "pic.png"),
        ("map_Kd Textures/Pic.png", "textures/pic.png"),
        ("map_Kd -s 1 1 1 -clamp on pic.png", "pic.png"),
        ("map_Kd my pic.png", "my pic.png"),
        ("map_Kd file://pic.png", "pic.png"),
    ],
)
def test_textures_are_found_as_viewers_find_them(tmp_path: Path, mtl: str, place: str) -> None:
    mesh = load_mesh(write_obj(tmp_path, f"newmtl m\nKd 1 1 1\n{mtl}\n", place))
    assert mesh.texture is not None
    assert tuple(mesh.texture[0, 0]) == RED


def test_names_of_textures_as_a_gltf_writes_them(tmp_path: Path) -> None:
    for written, place in (("t%C3%A4%20x.png", "tä x.png"), ("100%25.png", "100%25.png"), ("100%25.png", "100%.png")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        mesh = load_mesh(write_obj(tmp_path, f"newmtl m\nmap_Kd {written}\n", place))
        assert mesh.texture is not None
        (tmp_path / place).unlink()


def test_several_material_libraries(tmp_path: Path) -> None:
    for head in ("mtllib a.mtl\nmtllib my b.mtl\n", "mtllib a.mtl my b.mtl\n", "mtllib my b.mtl\nmtllib a.mtl\n"):
        path = write_obj(tmp_path, "", obj=OBJ.replace("mtllib box.mtl\n", head))
        (tmp_path / "a.mtl").write_text("newmtl other\nKd 1 0 0\n")
        (tmp_path / "my b.mtl").write_text("newmtl m\nmap_Kd pic.png\n")
        assert load_mesh(path).texture is not None
    (tmp_path / "a.mtl").unlink()
    with pytest.raises(MeshError, match=r"not found: a\.mtl; put it"):
        load_mesh(path)
    assert load_mesh(path, accept_missing=True).texture is not None


def test_grey_textures_of_16_bits(tmp_path: Path) -> None:
    path = write_obj(tmp_path, "newmtl m\nmap_Kd pic.png\n")
    Image.fromarray(np.full((8, 8), 100 * 257, np.uint16)).save(tmp_path / "pic.png")
    mesh = load_mesh(path)
    assert mesh.texture is not None
    assert (mesh.texture == 100).all()
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "pic.png", format="TIFF")
    with pytest.raises(MeshError, match=r"pic\.png: an image of floats is not read"):
        load_mesh(path)


def test_a_ply_with_two_textures_is_refused(tmp_path: Path) -> None:
    write_obj(tmp_path, "")
    text = colored_ply("comment TextureFile pic.png\ncomment TextureFile b.png\n", "6 0 0 1 0 0 1")
    (tmp_path / "box.ply").write_text(text)
    with pytest.raises(MeshError, match=r"box\.ply: has 2 textures \(pic\.png, b\.png\), of which one could be read"):
        load_mesh(tmp_path / "box.ply")
    (tmp_path / "box.ply").write_text(text.replace("b.png", "pic.png"))
    assert load_mesh(tmp_path / "box.ply").texture is not None


def shown_by_gltf(
    folder: Path, info: dict, numbers: tuple[int, ...] = (0,), kind: type = np.float32
) -> list[list[int]]:
    """Colours at the corners (0.2, 0.2), (0.4, 0.2) and (0.2, 0.4) of an image of four colours, v down."""
    quarters = np.array([[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [90, 90, 90]]], np.uint8)
    file = io.BytesIO()
    Image.fromarray(quarters.repeat(32, axis=0).repeat(32, axis=1)).save(file, format="PNG")
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    uv = np.array([[0.2, 0.2], [0.4, 0.2], [0.2, 0.4]])
    sets = {f"TEXCOORD_{i}": (uv if i == max(numbers) else 0 * uv + 0.9) for i in numbers}
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, **info}}}
    arrays = {name: (values.astype(kind), {"normalized": kind is not np.float32}) for name, values in sets.items()}
    tree = {"materials": [material], "textures": [{"source": 0}], "images": [{"uri": uri}]}
    tree["extensionsRequired"] = list(info.get("extensions", {}))
    (folder / "a.glb").write_bytes(glb({"material": 0}, arrays, **tree))
    mesh = load_mesh(folder / "a.glb")
    if mesh.texture is None or mesh.uv is None:
        return []
    column, row = (mesh.uv * (1, -1) + (0, 1)).T * 64
    return mesh.texture[row.astype(int) % 64, column.astype(int) % 64].tolist()


def test_where_a_gltf_shows_its_texture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Moved, turned and scaled (KHR_texture_transform), by another set of coordinates."""
    red, green, blue, grey = [200, 0, 0], [0, 200, 0], [0, 0, 200], [90, 90, 90]

    def move(**values: object) -> dict:
        return {"extensions": {"KHR_texture_transform": values}}

    assert shown_by_gltf(tmp_path, {}) == [red, red, red]
    assert shown_by_gltf(tmp_path, {"texCoord": 1}, (0, 1)) == [red, red, red]
    assert shown_by_gltf(tmp_path, {"texCoord": 1}, (1,)) == [red, red, red]
    assert shown_by_gltf(tmp_path, {"texCoord": 0, **move(texCoord=1)}, (0, 1)) == [red, red, red]
    assert shown_by_gltf(tmp_path, move(offset=[0.5, 0])) == [green, green, green]
    assert shown_by_gltf(tmp_path, move(scale=[2, 2])) == [red, green, blue]
    assert shown_by_gltf(tmp_path, move(scale=[2, 2], offset=[0, 0.5])) == [blue, grey, red]
    # the example of the extension's text: a turn that shows the lower left quarter alone
    assert shown_by_gltf(tmp_path, move(offset=[0, 1], rotation=np.pi / 2, scale=[0.5, 0.5])) == [blue, blue, blue]
    assert shown_by_gltf(tmp_path, move(offset=[0, 1], rotation=np.pi / 2, scale=[2, 2])) == [blue, red, grey]
    assert not caplog.records
    assert shown_by_gltf(tmp_path, {"texCoord": 1}, (0,)) == []
    assert "a texture is not shown: its faces have no texture coordinates" in caplog.text
    with pytest.raises(MeshError, match="its texture coordinates are integers, which are not read"):
        shown_by_gltf(tmp_path, {}, kind=np.uint16)


def test_what_a_gltf_needs_and_is_not_read_is_named(tmp_path: Path) -> None:
    for name, message in (
        ("EXT_meshopt_compression", "needs EXT_meshopt_compression, which is not read: save it without compression"),
        ("XY_holes", "needs XY_holes, which is not read: save it without"),
    ):
        (tmp_path / "a.glb").write_bytes(glb({}, {}, extensionsRequired=["KHR_materials_unlit", name]))
        with pytest.raises(MeshError, match=rf"a\.glb: {message}$"):
            load_mesh(tmp_path / "a.glb")
    (tmp_path / "a.glb").write_bytes(glb({}, {}, extensionsRequired=["KHR_materials_unlit"]))
    assert load_mesh(tmp_path / "a.glb").color_source == "no texture: plain grey"


def test_colours_that_are_not_read_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["0 0 0 255 0 0", ".1 0 0 255 0 0", "0 .1 0 0 255 0", "0 0 .1 0 0 255"]
    (tmp_path / "a.off").write_text("\n".join(["COFF", "4 2 0", *rows, "3 0 1 2", "3 0 1 3", ""]))
    assert len(load_mesh(tmp_path / "a.off").faces) == 2
    assert "colours of an OFF file are not read: save it as PLY" in caplog.text
    pytest.importorskip("lxml")
    pytest.importorskip("networkx")
    trimesh.creation.box((60, 40, 20)).export(tmp_path / "part.3mf")
    load_mesh(tmp_path / "part.3mf")
    assert "3MF" not in caplog.text
    with zipfile.ZipFile(tmp_path / "part.3mf") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    base = b'<resources><basematerials id="99"><base name="red" displaycolor="#FF0000"/></basematerials>'
    with zipfile.ZipFile(tmp_path / "part.3mf", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content.replace(b"<resources>", base))
    load_mesh(tmp_path / "part.3mf")
    assert "colours of a 3MF file are not read: save it as GLB or OBJ" in caplog.text


def test_an_absolute_texture_is_read_where_it_is(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = write_obj(tmp_path, f"newmtl m\nmap_Kd {elsewhere}/pic.png\n", "elsewhere/pic.png")
    assert load_mesh(path).texture is not None


def test_a_lost_texture_is_refused_unless_told_to_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_obj(tmp_path, "newmtl m\nKd 1 1 1\nmap_Kd lost.png\n")
    with pytest.raises(MeshError, match=r"box\.obj: not found: lost\.png; put it beside the mesh, or go on without"):
        load_mesh(path)
    assert load_mesh(path, accept_missing=True).color_source == "one plain colour #ffffff"
    assert "lost.png is not found" in caplog.text
    (tmp_path / "box.mtl").unlink()
    with pytest.raises(MeshError, match=r"not found: box\.mtl"):
        load_mesh(path)
    assert load_mesh(path, accept_missing=True).color_source == "no texture: plain grey"


def test_a_pipe_as_material_library_does_not_hang(tmp_path: Path) -> None:
    path = write_obj(tmp_path, "")
    (tmp_path / "box.mtl").unlink()
    os.mkfifo(tmp_path / "box.mtl")
    with pytest.raises(MeshError, match=r"not found: box\.mtl"):
        load_mesh(path)
    os.mkfifo(tmp_path / "pipe.obj")
    with pytest.raises(MeshError, match=r"pipe\.obj: not a file"):
        load_mesh(tmp_path / "pipe.obj")


def test_the_only_material_is_meant_where_none_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    obj = OBJ.replace("usemtl m\n", "")
    assert load_mesh(write_obj(tmp_path, "newmtl m\nmap_Kd pic.png\n", obj=obj)).texture is not None
    two = load_mesh(write_obj(tmp_path, "newmtl m\nmap_Kd pic.png\nnewmtl n\nKd 1 0 0\n", obj=obj))
    assert two.color_source == "no texture: plain grey"
    assert "no face shows pic.png" in caplog.text


def test_umlauts_of_an_older_editor(tmp_path: Path) -> None:
    (tmp_path / "box.mtl").write_bytes("newmtl Weiß\nKd 0.9 0.1 0.1\n".encode("latin-1"))
    (tmp_path / "box.obj").write_bytes(("# Größe\n" + OBJ.replace("usemtl m", "usemtl Weiß")).encode("latin-1"))
    assert load_mesh(tmp_path / "box.obj").color_source == "one plain colour #e61a1a"


def test_vertex_colours_beside_texture_coordinates_without_a_texture(tmp_path: Path) -> None:
    (tmp_path / "quad.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        "property float s\nproperty float t\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
        "element face 1\nproperty list uchar uint vertex_indices\nend_header\n"
        "0 0 0 0 0 255 0 0\n.1 0 0 1 0 0 255 0\n.1 .1 0 1 1 0 0 255\n0 .1 0 0 1 255 255 0\n4 0 1 2 3\n"
    )
    mesh = load_mesh(tmp_path / "quad.ply")
    assert mesh.color_source == "vertex colours"
    assert mesh.vertex_colors is not None
    assert mesh.vertex_colors.tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]


COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [80, 40, 20]], np.uint8)


def colored_ply(header: str = "", uv: str = "") -> str:
    """A tetrahedron's faces with ``COLOURS`` at its vertices."""
    properties = "".join(f"property float {axis}\n" for axis in "xyz")
    properties += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    corners = ("0 0 0", ".1 0 0", "0 .1 0", "0 0 .1")
    rows = [f"{corner} {' '.join(map(str, color))}" for corner, color in zip(corners, COLOURS)]
    rows += [f"3 {face} {uv}".strip() for face in ("0 2 1", "0 1 3", "0 3 2", "1 2 3")]
    lists = "property list uchar int vertex_indices\n" + ("property list uchar float texcoord\n" if uv else "")
    head = f"ply\nformat ascii 1.0\n{header}element vertex 4\n{properties}element face 4\n{lists}end_header\n"
    return head + "\n".join(rows) + "\n"


def test_vertex_colours_beside_a_material(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are shown where the material has no image, and said to be left out where it has one."""
    obj = OBJ
    for line, color in zip(("v 0 0 0\n", "v .1 0 0\n", "v 0 .1 0\n", "v 0 0 .1\n"), COLOURS / 255.0):
        obj = obj.replace(line, f"{line.strip()} {' '.join(f'{value:.6f}' for value in color)}\n")
    mesh = load_mesh(write_obj(tmp_path, "newmtl m\nKd .8 .8 .8\n", obj=obj))
    assert mesh.vertex_colors is not None
    assert {tuple(color) for color in mesh.vertex_colors.tolist()} == {tuple(color) for color in COLOURS.tolist()}
    grey = re.sub(r"(v \S+ \S+ \S+) .*", r"\1 .75 .75 .75", obj)  # as MeshLab writes it by itself
    assert load_mesh(write_obj(tmp_path, "newmtl m\nKd 1 0 0\n", obj=grey)).color_source == "one plain colour #ff0000"
    assert not caplog.records
    assert load_mesh(write_obj(tmp_path, "newmtl m\nmap_Kd pic.png\n", obj=grey)).texture is not None
    assert not caplog.records
    assert load_mesh(write_obj(tmp_path, "newmtl m\nmap_Kd pic.png\n", obj=obj)).texture is not None
    assert "its colours of vertices or faces are left out beside its texture" in caplog.text


def test_vertex_colours_beside_the_texture_of_a_ply(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_obj(tmp_path, "")
    (tmp_path / "box.ply").write_text(colored_ply("comment TextureFile pic.png\n", "6 0 0 1 0 0 1"))
    assert load_mesh(tmp_path / "box.ply").texture is not None
    assert "left out beside its texture" in caplog.text
    text = colored_ply().replace("uchar red", "uchar diffuse_red").replace("uchar green", "uchar diffuse_green")
    (tmp_path / "box.ply").write_text(text.replace("uchar blue", "uchar diffuse_blue"))
    assert load_mesh(tmp_path / "box.ply").color_source == "vertex colours"


def glb(primitive: dict, arrays: dict[str, tuple[np.ndarray, dict]], **tree: object) -> bytes:
    """A triangle with attributes, each with what its accessor says of it."""
    codes = {"float32": 5126, "uint16": 5123, "uint8": 5121}
    blob, views, accessors, attributes = b"", [], [], {}
    positions = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]], np.float32)
    for name, (array, more) in {"POSITION": (positions, {}), **arrays}.items():
        attributes[name] = len(accessors)
        kind = {2: "VEC2", 3: "VEC3", 4: "VEC4"}[array.shape[1]]
        accessors.append({"bufferView": len(views), "componentType": codes[str(array.dtype)], "count": 3, "type": kind})
        accessors[-1] |= more
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": array.nbytes})
        blob += array.tobytes() + b"\0" * (-array.nbytes % 4)
    tree = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}], **tree}
    tree |= {"meshes": [{"primitives": [{"attributes": attributes, **primitive}]}], "accessors": accessors}
    tree |= {"bufferViews": views, "buffers": [{"byteLength": len(blob)}]}
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("material", [False, True])
def test_vertex_colours_of_gltf_are_linear(tmp_path: Path, kind: type, material: bool) -> None:
    """Also as 16 bits, as Blender writes them; 0.2 of the light is 124 of 255, half of 0.4 as well."""
    linear = np.array([[1, 0, 0.4, 1], [0, 1, 0.4, 1], [0, 0, 0.4, 1]]) * (1.0 if material else 0.5)
    colors = linear.astype(kind) if kind is np.float32 else (linear * np.iinfo(kind).max).round().astype(kind)
    tree = {"materials": [{"pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.5, 0.5, 1]}}]} if material else {}
    (tmp_path / "a.glb").write_bytes(glb({"material": 0} if material else {}, {"COLOR_0": (colors, {})}, **tree))
    found = load_mesh(tmp_path / "a.glb").vertex_colors
    assert found is not None
    np.testing.assert_allclose(found, [[188, 0, 124], [0, 188, 124], [0, 0, 124]], atol=1)


def test_a_gltf_factor_is_linear(tmp_path: Path) -> None:
    """0.8 of the light is 231 of 255 in sRGB, by IEC 61966-2-1."""
    for texture in (None, Image.new("RGB", (4, 4), (255, 128, 0))):
        material = trimesh.visual.material.PBRMaterial(baseColorFactor=[204, 204, 204, 255], baseColorTexture=texture)
        visual = trimesh.visual.TextureVisuals(uv=np.zeros((3, 2)), material=material)
        quad = trimesh.Trimesh(0.1 * np.eye(3), [[0, 1, 2]], visual=visual, process=False)
        quad.export(tmp_path / "quad.glb")
        mesh = load_mesh(tmp_path / "quad.glb")
        if texture is None:
            assert mesh.color_source == "one plain colour #e7e7e7"
        else:
            assert mesh.texture is not None
            np.testing.assert_allclose(mesh.texture[0, 0], (231, 115, 0), atol=1)


def test_a_huge_texture_is_refused_by_its_header(tmp_path: Path) -> None:
    path = write_obj(tmp_path, "newmtl m\nmap_Kd pic.png\n")
    png = bytearray((tmp_path / "pic.png").read_bytes())
    png[16:24] = struct.pack(">II", 60_000, 60_000)  # the rest of the file stays 90 bytes
    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    (tmp_path / "pic.png").write_bytes(bytes(png))
    with pytest.raises(MeshError, match=r"pic\.png: 60000x60000 pixels, more than 128 million; scale it"):
        load_mesh(path)
    (tmp_path / "pic.png").write_bytes(b"no image")
    with pytest.raises(MeshError, match=r"not readable as images: pic\.png"):
        load_mesh(path)
