"""Files with faces of many corners: a bar with L-shaped ends has its area in every format, and keeps its colours."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnp_ros.objects.mesh import MeshError, TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh

OUTLINE = [(0.1, 0.03), (0.03, 0.03), (0.03, 0.07), (0, 0.07), (0, 0), (0.1, 0)]
VERTICES = [(x, y, z) for z in (0.0, 0.02) for x, y in OUTLINE]
SIDES = [(i, (i + 1) % 6, (i + 1) % 6 + 6, i + 6) for i in range(6)]
FACES = [(5, 4, 3, 2, 1, 0), (6, 7, 8, 9, 10, 11), *SIDES[:5], (5, 0, 6), (5, 6, 11)]  # some of each size
AREA = 2 * 0.0042 + 0.34 * 0.02


def obj() -> str:
    lines = [f"v {x} {y} {z}\nvt {10 * x} {10 * y}" for x, y, z in VERTICES]
    return "\n".join([*lines, *("f " + " ".join(f"{i + 1}/{i + 1}" for i in face) for face in FACES), ""])


def off() -> str:
    lines = ["OFF", f"{len(VERTICES)} {len(FACES)} 0", *(f"{x} {y} {z}" for x, y, z in VERTICES)]
    return "\n".join([*lines, *(f"{len(face)} " + " ".join(map(str, face)) for face in FACES), ""])


def ply(kind: str, faces: list[tuple[int, ...]]) -> bytes:
    """Each face with its corners, its red, and texture coordinates of each corner."""
    head = f"ply\nformat {kind} 1.0\ncomment TextureFile pic.png\nelement vertex {len(VERTICES)}\n"
    head += f"property float x\nproperty float y\nproperty float z\nelement face {len(faces)}\n"
    head += "property uchar red\nproperty list uchar int vertex_indices\nproperty list uchar float texcoord\n"
    head += "element edge 1\nproperty int vertex1\nproperty int vertex2\nend_header\n"
    body = b""
    order = ">" if "big" in kind else "<"
    for vertex in VERTICES:
        body += "{} {} {}\n".format(*vertex).encode() if kind == "ascii" else struct.pack(f"{order}3f", *vertex)
    for face in faces:
        uv = [10 * value for i in face for value in VERTICES[i][:2]]
        row = [7, len(face), *face, len(uv), *uv]
        if kind == "ascii":
            body += " ".join(map(str, row)).encode() + b"\n"
        else:
            body += struct.pack(f"{order}BB{len(face)}iB{len(uv)}f", *row)
    return head.encode() + body + (b"0 1\n" if kind == "ascii" else struct.pack(f"{order}2i", 0, 1))


def dae(tag: str = "polylist") -> str:
    def source(name: str, values: list[float], axes: str) -> str:
        parameters = "".join(f'<param name="{axis}" type="float"/>' for axis in axes)
        return (
            f'<source id="{name}"><float_array id="{name}a" count="{len(values)}">{" ".join(map(str, values))}'
            f'</float_array><technique_common><accessor source="#{name}a" count="{len(values) // len(axes)}"'
            f' stride="{len(axes)}">{parameters}</accessor></technique_common></source>'
        )

    inputs = '<input semantic="VERTEX" source="#v" offset="0"/><input semantic="COLOR" source="#c" offset="1"/>'
    rows = [" ".join(f"{i} {i}" for i in face) for face in FACES]
    sizes = "".join(f"{len(face)} " for face in FACES)
    listed = f"<vcount>{sizes}</vcount><p>{' '.join(rows)}</p>"
    if tag == "polygons":
        listed = "".join(f"<p>{row}</p>" for row in rows)
    colors = [value for _, _, z in VERTICES for value in (1.0, z / 0.02, 0.0)]
    return (
        '<?xml version="1.0"?><COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1"><asset>'
        "<created>2020-01-01T00:00:00</created><modified>2020-01-01T00:00:00</modified><up_axis>Y_UP</up_axis></asset>"
        f'<library_geometries><geometry id="g"><mesh>{source("p", [c for v in VERTICES for c in v], "XYZ")}'
        f'{source("c", colors, "RGB")}<vertices id="v"><input semantic="POSITION" source="#p"/></vertices>'
        f'<{tag} count="{len(FACES)}">{inputs}{listed}</{tag}></mesh></geometry></library_geometries>'
        '<library_visual_scenes><visual_scene id="s"><node id="n"><instance_geometry url="#g"/></node></visual_scene>'
        '</library_visual_scenes><scene><instance_visual_scene url="#s"/></scene></COLLADA>'
    )


def load(folder: Path, name: str, content: str | bytes) -> TriangleMesh:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(folder / "pic.png")
    return load_mesh(folder / name)


def assert_is_the_bar(mesh: TriangleMesh) -> None:
    assert len(mesh.faces) == 20
    assert mesh.face_areas.sum() == pytest.approx(AREA, rel=1e-5)
    a, b, c = mesh.vertices.astype(float)[mesh.faces].swapaxes(0, 1)
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(0.0042 * 0.02, rel=1e-5)


def test_obj(tmp_path: Path) -> None:
    head = "mtllib bar.mtl\nusemtl m\n"
    (tmp_path / "bar.mtl").write_text("newmtl m\nmap_Kd pic.png\n")
    mesh = load(tmp_path, "bar.obj", head + obj())
    assert_is_the_bar(mesh)
    assert mesh.uv is not None
    np.testing.assert_allclose(mesh.uv, 10 * mesh.vertices[:, :2], atol=1e-6)
    assert_is_the_bar(load(tmp_path, "windows.obj", (head + obj()).replace("\n", "\r\n")))
    continued = "f 6/6 5/5 4/4 \\\n 3/3 2/2 1/1\n"
    assert_is_the_bar(load(tmp_path, "continued.obj", obj().replace(continued.replace("\\\n ", ""), continued)))


def test_obj_that_counts_back(tmp_path: Path) -> None:
    """Two bars, each with references to the vertices just written: trimesh counts from the end of the file."""
    bar = [f"v {x} {y} {z}" for x, y, z in VERTICES] + ["f " + " ".join(str(i - 12) for i in face) for face in FACES]
    other = [f"v {x + 0.2} {y} {z}" for x, y, z in VERTICES] + bar[12:]
    mesh = load(tmp_path, "two.obj", "\n".join([*bar, *other]))
    assert mesh.face_areas.sum() == pytest.approx(2 * AREA, rel=1e-5)
    assert mesh.bounds[1, 0] == pytest.approx(0.3)


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply(tmp_path: Path, kind: str) -> None:
    content = ply(kind, FACES)
    mesh = load(tmp_path, "bar.ply", content)
    assert_is_the_bar(mesh)
    assert mesh.uv is not None
    np.testing.assert_allclose(mesh.uv, 10 * mesh.vertices[:, :2], atol=1e-6)
    assert load(tmp_path, "bar.ply", ply(kind, FACES[:2])).face_areas.sum() == pytest.approx(0.0084, rel=1e-5)
    with pytest.raises(MeshError, match=r"bar\.ply: is cut short: 9 faces announced, \d there"):
        load(tmp_path, "bar.ply", content[:-100])


def test_off(tmp_path: Path) -> None:
    assert_is_the_bar(load(tmp_path, "bar.off", off()))


@pytest.mark.parametrize("tag", ["polylist", "polygons"])
def test_dae(tmp_path: Path, tag: str) -> None:
    pytest.importorskip("collada")
    mesh = load(tmp_path, "bar.dae", dae(tag))
    assert_is_the_bar(mesh)
    assert mesh.bounds[0, 1] == pytest.approx(-0.02)  # Y_UP is turned to z up
    with pytest.raises(MeshError, match="has polygons with holes"):
        load(tmp_path, "bar.dae", dae("polygons").replace("<p>", "<ph/><p>", 1))


def test_a_face_of_a_vertex_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.obj", obj().replace("12/12", "99/12")), ("b.off", off().replace(" 11\n", " 99\n"))):
        with pytest.raises(MeshError, match=r"cannot be read as a mesh: .*out of bounds"):
            load(tmp_path, name, content)
