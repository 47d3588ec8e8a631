from pathlib import Path

import pytest

from pnp_ros.io.resources import resource


def test_source_tree_is_found() -> None:
    assert resource("config/fastdds.xml").is_file()


def test_sourced_workspace_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tmp_path / "share/pnp_ros/config/objects/only_here"
    wanted.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    assert resource("config/objects/only_here") == wanted


def test_absence_is_said_with_the_places() -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing/of/the/kind.*share/pnp_ros"):
        resource("nothing/of/the/kind")
