"""``pnp-ros train``: with several meshes one package each, in one folder; and what a training starts with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pnp_ros.cli import train
from pnp_ros.cli.main import main
from pnp_ros.objects.mesh_files import save_mesh
from pnp_ros.training.config import TrainingConfig, crops_a_step
from synthetic.cad_parts import bracket


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each training; none is made, and the object ``bad`` cannot be used."""
    calls: list[dict[str, Any]] = []

    def note(options: dict[str, Any]) -> Any:
        calls.append(options)
        return SimpleNamespace(usable=options["mesh"].stem != "bad")

    monkeypatch.setattr(train, "_train", note)
    monkeypatch.setattr(train, "need_renderer", lambda: None)
    return calls


def test_each_mesh_gets_its_package(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    words = ["train", "a#1.stl", "b.obj", "robot.urdf#hand", "--out", str(tmp_path / "set"), "--minutes", "7"]
    assert main(words) == 0
    assert [call["out"] for call in trained] == [tmp_path / "set" / name for name in ("a#1", "b", "hand")]
    assert {call["minutes"] for call in trained} == {7.0}
    assert main(["train", "a.stl", "bad.stl", "c.stl", "--out", str(tmp_path / "set")]) == train.NOT_USABLE
    assert len(trained) == 6  # one that cannot be used does not keep the next from its training
    assert main(["train", "a.stl", "--out", str(tmp_path / "cup")]) == 0
    assert trained[-1]["out"] == tmp_path / "cup"


def test_packages_are_trained_where_they_are(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert main(["train", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert [call["out"] for call in trained] == [tmp_path / "one", tmp_path / "two"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a/cup.stl", "b/cup.obj", "--out", "set"], "mesh: expected different names"),
        (["a.stl", "b.stl"], "--out: missing, where a.stl shall go"),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str], said: str, trained: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) == 1
    assert said in capsys.readouterr().err
    assert not trained


@pytest.mark.parametrize(
    ("words", "crops"),
    [
        (["--colour", "mesh"], 16),
        (["--colour", "any"], 16),
        (["--colour", "mesh", "--network", "dense"], 16),
        (["--colour", "any", "--network", "dense"], 16),
    ],
)
def test_steps_are_as_large_as_suits(
    words: list[str], crops: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Small ones learn sooner on a CPU."""
    configs: list[TrainingConfig] = []

    def note(*arguments: Any) -> None:
        configs.extend(each for each in arguments if isinstance(each, TrainingConfig))

    monkeypatch.setattr(train, "train_object", note)
    monkeypatch.setattr(train, "need_renderer", lambda: None)
    save_mesh(bracket(), tmp_path / "part.ply")
    assert main(["train", str(tmp_path / "part.ply"), "--out", str(tmp_path / "part"), *words]) == 0
    assert [config.crop_batch for config in configs] == [crops]


def test_steps_of_a_gpu_are_large() -> None:
    """Where one costs as little as a small one."""
    assert crops_a_step("colours", "cuda") == crops_a_step("colours", "cuda:1") == 48


@pytest.mark.parametrize(
    ("words", "start"),
    [
        ([], "shipped"),
        (["--start-from", "none"], None),
        (["--start-from", "objects/other"], Path("objects/other")),
        (["--views", "upper"], "shipped"),
        (["--colour", "#e0b020"], "shipped"),  # sees colours
        (["--colour", "#e0b020", "--views", "upper"], None),
        (["--colour", "#e0b020", "--views", "upper", "--start-from", "shipped"], "shipped"),
        (["--width", "16"], None),
        (["--network", "dense"], None),
    ],
)
def test_what_a_training_starts_with(
    words: list[str], start: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[TrainingConfig] = []

    def note(name: str, mesh: object, symmetry: object, out: Path, config: TrainingConfig, reporter: object) -> None:
        configs.append(config)

    monkeypatch.setattr(train, "train_object", note)
    monkeypatch.setattr(train, "need_renderer", lambda: None)
    save_mesh(bracket(), tmp_path / "part.ply")
    assert main(["train", str(tmp_path / "part.ply"), "--out", str(tmp_path / "part"), *words]) == 0
    assert configs[0].start_from == start
