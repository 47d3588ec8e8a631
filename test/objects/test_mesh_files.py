"""Mesh files as CAD and the web have them: each format, each fault with its message."""

import logging
import re
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pnp_ros.objects.mesh import MeshError
from pnp_ros.objects.mesh_files import load_mesh

REPORTS = Path(__file__).parents[3] / "shared/data/reports/mesh"
RED = (220, 40, 30)
DAE = """<?xml version="1.0" encoding="utf-8"?>
<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
<asset><created>2020-01-01T00:00:00</created><modified>2020-01-01T00:00:00</modified>{unit}{up}</asset>
<library_geometries><geometry id="g"><mesh><source id="p"><float_array id="pa" count="12">
0 0 0 51.2 0 0 0 7.87 0 0 0 2.49
</float_array><technique_common><accessor source="#pa" count="4" stride="3"><param name="X" type="float"/>
<param name="Y" type="float"/><param name="Z" type="float"/></accessor></technique_common></source>
<vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
<triangles count="4"><input semantic="VERTEX" source="#v" offset="0"/><p>0 2 1 0 1 3 0 3 2 1 2 3</p></triangles>
</mesh></geometry></library_geometries><library_visual_scenes><visual_scene id="s"><node id="n">
<instance_geometry url="#g"/></node></visual_scene></library_visual_scenes><scene>
<instance_visual_scene url="#s"/></scene></COLLADA>"""


def test_faces_without_area_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0\nv .1 0 0\nv .2 0 0\nf 1 2 3\nf 1 1 2\n")
    with pytest.raises(MeshError, match=r"a\.obj: none of its 2 faces has an area"):
        load_mesh(tmp_path / "a.obj")


@pytest.mark.parametrize("place", ["part#1.obj", "C#/part.obj", "a.urdf#1/part.obj", "arm.urdf#hand.obj", "#.obj"])
def test_a_hash_is_part_of_a_name(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    trimesh.creation.box((0.1, 0.1, 0.1)).export(tmp_path / place)
    assert len(load_mesh(tmp_path / place).faces) == 12
    with pytest.raises(MeshError, match=r"C#/lost#1\.obj: no such file"):
        load_mesh(tmp_path / "C#/lost#1.obj")


@pytest.mark.parametrize(
    ("unit", "up", "size"),
    [
        ('<unit meter="0.00254" name="inch"/>', "<up_axis>Z_UP</up_axis>", (0.130048, 0.0199898, 0.0063246)),
        ('<unit meter="0.00254" name="inch"/>', "<up_axis>Y_UP</up_axis>", (0.130048, 0.0063246, 0.0199898)),
        ('<unit meter="0.00254" name="inch"/>', "<up_axis>X_UP</up_axis>", (0.0063246, 0.0199898, 0.130048)),
        ('<unit meter="0.001" name="millimeter"/>', "", (0.0512, 0.00787, 0.00249)),
    ],
)
def test_collada_says_its_unit_and_where_up_is(tmp_path: Path, unit: str, up: str, size: tuple[float, ...]) -> None:
    (tmp_path / "part.dae").write_text(DAE.format(unit=unit, up=up))
    mesh = load_mesh(tmp_path / "part.dae")
    np.testing.assert_allclose(mesh.bounds[1] - mesh.bounds[0], size, rtol=1e-5)
    a, b, c = mesh.vertices.astype(float)[mesh.faces].swapaxes(0, 1)
    assert np.einsum("ij,ij->", a, np.cross(b, c)) > 0  # turned, not mirrored


def test_a_named_unit_overrides_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "part.dae").write_text(DAE.format(unit='<unit meter="0.01"/>', up=""))
    assert load_mesh(tmp_path / "part.dae", units="mm").bounds[1, 0] == pytest.approx(0.0512)
    assert "the file says cm, units: taken as mm" in caplog.text


def test_xml_entities_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>' + DAE.format(unit="", up="")
    for name in ("part.dae", "robot.urdf"):
        (tmp_path / name).write_text(bomb)
        with pytest.raises(MeshError, match="entities"):
            load_mesh(tmp_path / name)


def test_3mf_is_in_millimetres(tmp_path: Path) -> None:
    pytest.importorskip("lxml")
    pytest.importorskip("networkx")
    trimesh.creation.box((60, 40, 20)).export(tmp_path / "part.3mf")
    mesh = load_mesh(tmp_path / "part.3mf")
    np.testing.assert_allclose(mesh.bounds[1] - mesh.bounds[0], (0.06, 0.04, 0.02), rtol=1e-6)


def test_an_stl_that_is_cut_short_says_how_much_is_there(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.05)
    data = ball.export(file_type="stl")
    path = tmp_path / "ball.stl"
    path.write_bytes(data)
    assert len(load_mesh(path).faces) == 320
    path.write_bytes(b"solid ball".ljust(80) + data[80:])  # binary, whatever its first word
    assert len(load_mesh(path).faces) == 320
    path.write_bytes(data + b"appended")
    assert len(load_mesh(path).faces) == 320
    path.write_bytes(data[: 84 + 6 * 50 + 20])
    with pytest.raises(MeshError, match=r"ball\.stl: is cut short: 320 triangles announced, 6 there"):
        load_mesh(path)
    text = ball.export(file_type="stl_ascii")
    path.write_text(text)
    assert len(load_mesh(path).faces) == 320
    path.write_text(text[: len(text) // 2])
    with pytest.raises(MeshError, match=r"is cut short: \d+ triangles begun, \d+ complete"):
        load_mesh(path)
    path.write_bytes(b"\0" * 84)
    with pytest.raises(MeshError, match="holds no triangles"):
        load_mesh(path)


@pytest.mark.parametrize("suffix", ["ply", "obj"])
def test_coordinates_of_a_map_keep_their_shape(tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str) -> None:
    box = trimesh.creation.box((0.3, 0.2, 0.1))
    vertices = np.asarray(box.vertices) + np.array([443210.123, 4412345.678, 35.5])
    if suffix == "obj":
        lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
        lines += ["f " + " ".join(str(i + 1) for i in face) for face in box.faces]
        (tmp_path / "box.obj").write_text("\n".join(lines))
    else:
        header = "ply\nformat ascii 1.0\nelement vertex 8\nproperty double x\nproperty double y\nproperty double z\n"
        header += "element face 12\nproperty list uchar int vertex_indices\nend_header\n"
        rows = [f"{x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices] + [f"3 {a} {b} {c}" for a, b, c in box.faces]
        (tmp_path / "box.ply").write_text(header + "\n".join(rows) + "\n")
    mesh = load_mesh(tmp_path / f"box.{suffix}")
    np.testing.assert_allclose(mesh.bounds[1] - mesh.bounds[0], (0.3, 0.2, 0.1), atol=1e-6)
    assert "far from its origin: moved by (-443210, -4412346, -36) m" in caplog.text


def test_idle_double_and_inward_faces_are_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    box = trimesh.creation.box((0.1, 0.2, 0.3))
    faces = np.concatenate([box.faces, box.faces[:3, [1, 2, 0]], [[0, 0, 1], [2, 3, 2]]])[:, ::-1]
    trimesh.Trimesh(box.vertices, faces, process=False).export(tmp_path / "box.ply")
    mesh = load_mesh(tmp_path / "box.ply")
    assert len(mesh.faces) == 12
    for remark in ("2 faces without area", "3 faces that stand twice", "pointed inwards; turned round"):
        assert remark in caplog.text
    a, b, c = mesh.vertices.astype(float)[mesh.faces].swapaxes(0, 1)
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(0.1 * 0.2 * 0.3, rel=1e-5)


def test_open_shells_and_several_bodies_are_taken_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    shell = trimesh.Trimesh(box.vertices, box.faces[2:], process=False)
    trimesh.util.concatenate([shell, box.copy().apply_translation((0.3, 0, 0))]).export(tmp_path / "two.stl")
    with caplog.at_level(logging.WARNING):
        assert len(load_mesh(tmp_path / "two.stl").faces) == 22
    assert not caplog.records


def test_a_million_faces_load_in_proportion_and_are_thinned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("fast_simplification")
    seconds = []
    for rings in (256, 512):
        ball = trimesh.creation.uv_sphere(radius=0.1, count=(rings, 2 * rings))
        ball.export(tmp_path / "ball.ply")
        caplog.clear()
        began = time.process_time()
        mesh = load_mesh(tmp_path / "ball.ply")
        seconds.append(time.process_time() - began)
    assert len(ball.faces) > 1_000_000
    assert seconds[1] < 10.0 * seconds[0], seconds  # of four times the faces; quadratic ways take 16 times as long
    assert len(mesh.faces) <= 200_000
    assert mesh.diameter == pytest.approx(0.2, rel=1e-3)
    error = re.search(r"faces made \d+; the surface moved by up to (\S+) mm", caplog.text)
    assert error is not None
    assert float(error[1]) < 0.1
    off = np.abs(np.linalg.norm(mesh.vertices[mesh.faces].mean(axis=1), axis=1) - 0.1)
    assert off.max() < 1e-4


def test_colours_survive_the_thinning() -> None:
    pytest.importorskip("fast_simplification")
    from pnp_ros.objects.decimation import decimated
    from pnp_ros.objects.mesh import TriangleMesh

    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.1)
    colors = np.where(ball.vertices[:, 2:] > 0, (255, 0, 0), (0, 0, 255)).astype(np.uint8)
    mesh, error = decimated(TriangleMesh(ball.vertices, ball.faces, vertex_colors=colors), 1000)
    assert len(mesh.faces) <= 1000
    assert error is not None
    assert error < 0.002
    assert mesh.vertex_colors is not None
    clear = np.abs(mesh.vertices[:, 2]) > 0.02
    assert ((mesh.vertex_colors[:, 0] > 0) == (mesh.vertices[:, 2] > 0))[clear].all()


def step_of_a_tetrahedron(edge: float, unit: str) -> str:
    """ISO 10303-21 with four plane faces, a corner at the origin, edges along the axes; ``$`` is the plain metre."""
    corners = edge * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    lines: list[str] = []

    def add(text: str) -> str:
        lines.append(f"#{len(lines) + 1}={text};")
        return f"#{len(lines)}"

    def numbers(values: np.ndarray) -> str:
        return "(" + ",".join(f"{value:.9f}" for value in values) + ")"

    points = [add(f"CARTESIAN_POINT('',{numbers(c)})") for c in corners]
    vertices = [add(f"VERTEX_POINT('',{point})") for point in points]
    edges = {}
    for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        length = np.linalg.norm(corners[j] - corners[i])
        direction = add(f"DIRECTION('',{numbers((corners[j] - corners[i]) / length)})")
        line = add(f"LINE('',{points[i]},{add(f'VECTOR({chr(39)}{chr(39)},{direction},{length:.9f})')})")
        edges[i, j] = add(f"EDGE_CURVE('',{vertices[i]},{vertices[j]},{line},.T.)")
    faces = []
    for face in ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)):
        a, b, c = corners[list(face)]
        normal = np.cross(b - a, c - a)
        oriented = []
        for i, j in zip(face, (*face[1:], face[0])):
            name, along = (edges[i, j], ".T.") if (i, j) in edges else (edges[j, i], ".F.")
            oriented.append(add(f"ORIENTED_EDGE('',*,*,{name},{along})"))
        loop = add(f"EDGE_LOOP('',({','.join(oriented)}))")
        bound = add(f"FACE_OUTER_BOUND('',{loop},.T.)")
        axis = add(f"DIRECTION('',{numbers(normal / np.linalg.norm(normal))})")
        across = add(f"DIRECTION('',{numbers((b - a) / np.linalg.norm(b - a))})")
        plane = add(f"PLANE('',{add(f'AXIS2_PLACEMENT_3D({chr(39)}{chr(39)},{points[face[0]]},{axis},{across})')})")
        faces.append(add(f"ADVANCED_FACE('',({bound}),{plane},.T.)"))
    solid = add(f"MANIFOLD_SOLID_BREP('',{add(f'CLOSED_SHELL({chr(39)}{chr(39)},({chr(44).join(faces)}))')})")
    length = add(f"(LENGTH_UNIT()NAMED_UNIT(*)SI_UNIT({unit},.METRE.))")
    angle = add("(NAMED_UNIT(*)PLANE_ANGLE_UNIT()SI_UNIT($,.RADIAN.))")
    solid_angle = add("(NAMED_UNIT(*)SI_UNIT($,.STERADIAN.)SOLID_ANGLE_UNIT())")
    accuracy = add(f"UNCERTAINTY_MEASURE_WITH_UNIT(LENGTH_MEASURE(1.E-07),{length},'distance_accuracy_value','')")
    context = add(
        f"(GEOMETRIC_REPRESENTATION_CONTEXT(3)GLOBAL_UNCERTAINTY_ASSIGNED_CONTEXT(({accuracy}))"
        f"GLOBAL_UNIT_ASSIGNED_CONTEXT(({length},{angle},{solid_angle}))REPRESENTATION_CONTEXT('',''))"
    )
    shape = add(f"ADVANCED_BREP_SHAPE_REPRESENTATION('',({solid}),{context})")
    application = add("APPLICATION_CONTEXT('core data for automotive mechanical design processes')")
    product = add(
        f"PRODUCT('part','part','',({add(f'PRODUCT_CONTEXT({chr(39)}{chr(39)},{application},{chr(39)}mechanical{chr(39)})')}))"
    )
    formation = add(f"PRODUCT_DEFINITION_FORMATION('','',{product})")
    definition_context = add(f"PRODUCT_DEFINITION_CONTEXT('part definition',{application},'design')")
    definition = add(f"PRODUCT_DEFINITION('design','',{formation},{definition_context})")
    definition_shape = add(f"PRODUCT_DEFINITION_SHAPE('','',{definition})")
    add(f"SHAPE_DEFINITION_REPRESENTATION({definition_shape},{shape})")
    return (
        "ISO-10303-21;\nHEADER;\nFILE_DESCRIPTION((''),'2;1');\nFILE_NAME('part','2020-01-01T00:00:00',(''),(''),'','','');"
        "\nFILE_SCHEMA(('AUTOMOTIVE_DESIGN { 1 0 10303 214 1 1 1 1 }'));\nENDSEC;\nDATA;\n"
        + "\n".join(lines)
        + "\nENDSEC;\nEND-ISO-10303-21;\n"
    )


@pytest.mark.parametrize(("edge", "unit"), [(120.0, ".MILLI."), (0.12, "$")])
def test_step_is_read_in_the_unit_that_it_says(tmp_path: Path, edge: float, unit: str) -> None:
    pytest.importorskip("cascadio")
    (tmp_path / "part.step").write_text(step_of_a_tetrahedron(edge, unit))
    mesh = load_mesh(tmp_path / "part.step")
    np.testing.assert_allclose(mesh.bounds, [[0, 0, 0], [0.12, 0.12, 0.12]], atol=1e-6)
    a, b, c = mesh.vertices.astype(float)[mesh.faces].swapaxes(0, 1)
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(0.12**3 / 6, rel=1e-4)


@pytest.mark.parametrize(
    ("suffix", "share", "message"),
    [
        ("off", 0.97, "is cut short: 12 faces announced, 10 there"),
        ("off", 0.3, "is cut short: 12 faces announced, 0 there"),
        ("glb", 0.97, r"is cut short: \d+ bytes announced, \d+ there"),
        ("gltf", 0.97, "is cut short, or no glTF"),
        ("ply", 0.3, "is cut short: its header does not end"),
        ("ply", 0.97, "is cut short: 12 faces announced, 10 there"),
        ("dae", 0.97, "cannot be read as a mesh: .*XML"),
        ("3mf", 0.97, "cannot be read as a mesh: File is not a zip file"),
    ],
)
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, suffix: str, share: float, message: str) -> None:
    """Also beside a whole model.gltf, which trimesh would read instead of a spoilt one."""
    pytest.importorskip({"dae": "collada", "3mf": "networkx"}.get(suffix, "trimesh"))
    shape = trimesh.creation.box((0.03, 0.05, 0.1))
    if suffix == "gltf":
        for name, content in trimesh.Scene(shape).export(file_type="gltf").items():
            (tmp_path / name).write_bytes(content)
        whole = (tmp_path / "model.gltf").read_bytes()
    else:
        exported = shape.export(file_type=suffix)
        whole = exported if isinstance(exported, bytes) else exported.encode()
    path = tmp_path / f"box.{suffix}"
    path.write_bytes(whole)
    assert load_mesh(path, units="m").diameter == pytest.approx(0.1157, abs=1e-3)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(MeshError, match=rf"box\.{suffix}: {message}"):
        load_mesh(path, units="m")


def test_other_files_are_refused_with_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "part.sldprt").write_bytes(b"x")
    with pytest.raises(MeshError, match=r"part\.sldprt: expected one of \.obj, .*\.step.*robot\.urdf#LINK"):
        load_mesh(tmp_path / "part.sldprt")


@pytest.mark.skipif(not REPORTS.is_dir(), reason="no reported meshes on this machine")
def test_the_reported_meshes() -> None:
    for name in ("obj_absolute", "obj_backslash", "obj_case", "obj_no_usemtl"):
        mesh = load_mesh(REPORTS / name / "box.obj")
        assert mesh.texture is not None, name
        assert tuple(mesh.texture[0, 0]) == RED, name
    with pytest.raises(MeshError, match=r"not found: pic\.png"):
        load_mesh(REPORTS / "obj_missing/box.obj")
    assert load_mesh(REPORTS / "obj_latin1/box.obj").color_source == "one plain colour #e61a1a"
    assert load_mesh(REPORTS / "colours_and_st.ply").color_source == "vertex colours"
    assert load_mesh(REPORTS / "unit_tenth_inch.dae").diameter == pytest.approx(0.132, abs=5e-4)
    for name in ("utm_box.obj", "utm_box.ply"):
        mesh = load_mesh(REPORTS / name)
        np.testing.assert_allclose(mesh.bounds[1] - mesh.bounds[0], (0.3, 0.2, 0.1), atol=1e-6)
