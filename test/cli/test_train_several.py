"""``pnp-ros train`` with several meshes: one package each, in one folder."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pnp_ros.cli import train
from pnp_ros.cli.main import main


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
    words = ["train", "a.stl", "b.obj", "robot.urdf#hand", "--out", str(tmp_path / "set"), "--minutes", "7"]
    assert main(words) == 0
    assert [call["out"] for call in trained] == [tmp_path / "set" / name for name in ("a", "b", "hand")]
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
