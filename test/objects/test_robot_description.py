"""Meshes of a robot's links: URDF, xacro, and packages of a workspace."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from pnp_ros.objects.mesh import MeshError
from pnp_ros.objects.mesh_files import load_mesh

ROBOT = """<robot name="r"><material name="blue"><color rgba="0 0 1 1"/></material>
<link name="base"/>
<link name="gripper_link">
<visual><origin xyz="1 0 0" rpy="0 0 1.5707963267948966"/>
<geometry><mesh filename="package://my_robot/meshes/finger.stl" scale="0.001 0.001 0.001"/></geometry>
<material name="blue"/></visual>
<visual><geometry><box size="0.1 0.1 0.1"/></geometry></visual></link>
<link name="arm"><visual><geometry><sphere radius="0.2"/></geometry></visual></link>
</robot>"""


def robot(tmp_path: Path) -> Path:
    folder = tmp_path / "my_robot"
    for name in ("meshes", "urdf"):
        (folder / name).mkdir(parents=True)
    trimesh.creation.box((60, 20, 10)).export(folder / "meshes/finger.stl")
    (folder / "urdf/robot.urdf").write_text(ROBOT)
    return folder / "urdf/robot.urdf"


def test_a_link_of_a_robot(tmp_path: Path) -> None:
    path = robot(tmp_path)
    mesh = load_mesh(f"{path}#gripper_link")
    np.testing.assert_allclose(mesh.bounds, [[-0.05, -0.05, -0.05], [1.01, 0.05, 0.05]], atol=1e-6)
    assert mesh.vertex_colors is not None
    assert (mesh.vertex_colors[mesh.vertices[:, 0] > 0.5] == (0, 0, 255)).all()
    assert load_mesh(f"{path}#arm").diameter == pytest.approx(0.4, rel=1e-3)
    for name in ("C#/arm #2.urdf", "C#/arm.URDF"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(ROBOT)
        assert load_mesh(f"{tmp_path / name}#arm").diameter == pytest.approx(0.4, rel=1e-3)
    for link, message in [
        ("#base", "link 'base' has nothing visible"),
        ("#hand", r"link 'hand' is not there: expected robot\.urdf#LINK with one of gripper_link, arm"),
        ("", "several links: expected"),
    ]:
        with pytest.raises(MeshError, match=message):
            load_mesh(f"{path}{link}")
    path.write_text(ROBOT.replace("finger", "thumb"))
    with pytest.raises(MeshError, match=r"mesh package://my_robot/meshes/thumb\.stl: not found; source the workspace"):
        load_mesh(f"{path}#gripper_link")
    path.write_text("<robot><link></robot>")
    with pytest.raises(MeshError, match="is not XML"):
        load_mesh(f"{path}#gripper_link")


def test_packages_are_looked_up_in_the_workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meshes = tmp_path / "install/share/my_robot/meshes"
    meshes.mkdir(parents=True)
    trimesh.creation.box((0.1, 0.1, 0.1)).export(meshes / "box.stl")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "install"))
    assert len(load_mesh("package://my_robot/meshes/box.stl").faces) == 12
    assert len(load_mesh(Path("package://my_robot/meshes/box.stl")).faces) == 12  # which drops a slash
    with pytest.raises(MeshError, match="no such package or file"):
        load_mesh("package://your_robot/meshes/box.stl")


def test_a_xacro_is_expanded(tmp_path: Path) -> None:
    pytest.importorskip("xacrodoc")
    text = ROBOT.replace("<robot", '<robot xmlns:xacro="http://www.ros.org/wiki/xacro"')
    text = text.replace('size="0.1 0.1 0.1"', 'size="${2 * 0.1} 0.1 0.1"')
    path = robot(tmp_path).with_suffix(".xacro")
    path.write_text(text)
    assert load_mesh(f"{path}#gripper_link").bounds[0, 0] == pytest.approx(-0.1)
