"""What the command says of a mesh before it makes the package; the package itself is tested with the pipeline."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pnp_ros.cli import main, onboard
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.pipeline.onboarding import Onboarded

BOX = """mtllib box.mtl
usemtl print
v -0.1 -0.05 -0.025
v 0.1 -0.05 -0.025
v 0.1 0.05 -0.025
v -0.1 0.05 -0.025
v -0.1 -0.05 0.025
v 0.1 -0.05 0.025
v 0.1 0.05 0.025
v -0.1 0.05 0.025
vt 0 0
vt 1 0
vt 1 1
vt 0 1
f 4/4 3/3 2/2 1/1
f 5/1 6/2 7/3 8/4
f 1/1 2/2 6/3 5/4
f 2/1 3/2 7/3 6/4
f 3/1 4/2 8/3 7/4
f 4/1 1/2 5/3 8/4
"""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[TriangleMesh]:
    """The meshes that packages are made of; none is made."""
    meshes: list[TriangleMesh] = []

    def make(folder: Path, name: str, mesh: TriangleMesh, *_: object) -> Onboarded:
        meshes.append(mesh)
        return Onboarded(SimpleNamespace(root=folder), 0, 0.0)  # type: ignore[arg-type]

    monkeypatch.setattr(onboard, "onboard", make)
    return meshes


def test_a_texture_that_is_missing_is_an_error_unless_accepted(
    made: list[TriangleMesh], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "box.obj").write_text(BOX)
    command = ["onboard", str(tmp_path / "box.obj"), "--out", str(tmp_path / "box")]
    assert main.main(command) != 0
    assert "box.mtl" in capsys.readouterr().err
    assert not made
    assert main.main([*command, "--accept-missing"]) == 0
    assert np.allclose(made[0].bounds[1] - made[0].bounds[0], (0.2, 0.1, 0.05))
    assert " s\n" in capsys.readouterr().out


def test_turns_that_nothing_tells_apart_are_proposed(
    made: list[TriangleMesh], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "box.obj").write_text(BOX)
    command = ["onboard", str(tmp_path / "box.obj"), "--out", str(tmp_path / "box"), "--accept-missing"]
    assert main.main(command) == 0
    assert "use --symmetries" in capsys.readouterr().out
    assert main.main([*command, "--symmetries", "z2"]) == 0
    assert "use --symmetries" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["onboard", "train"])
@pytest.mark.parametrize("name", ["mesh.ply", "texture.png", "features.safetensors"])
def test_files_that_are_of_no_package_are_not_overwritten(
    made: list[TriangleMesh], tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    (tmp_path / "box.obj").write_text(BOX)
    (tmp_path / name).write_text("mine")
    assert main.main([command, str(tmp_path / "box.obj"), "--out", str(tmp_path), "--accept-missing"]) == 1
    assert f"{name}, which would be overwritten" in capsys.readouterr().err
    assert not made
