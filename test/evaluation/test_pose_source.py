"""One grammar names the sources of true poses."""

from pathlib import Path

import pytest

from pnp_ros.evaluation.pose_source import PoseSource, PoseSourceKind


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("self", PoseSourceKind.SELF, ""),
        ("tf:mug", PoseSourceKind.TF, "mug"),
        ("tf:/mug", PoseSourceKind.TF, "mug"),
        ("tf", PoseSourceKind.TF, "object_truth"),
        ("topic:/mocap/mug", PoseSourceKind.TOPIC, "/mocap/mug"),
        ("/mocap/mug", PoseSourceKind.TOPIC, "/mocap/mug"),
        ("board:b.yaml", PoseSourceKind.BOARD, "b.yaml"),
        ("file:poses.json", PoseSourceKind.FILE, "poses.json"),
    ],
)
def test_it_is_read_and_written(text: str, kind: PoseSourceKind, name: str) -> None:
    found = PoseSource.parse(text)
    assert found == PoseSource(kind, name)
    assert PoseSource.parse(str(found)) == found


def test_a_file_that_exists_needs_no_prefix(tmp_path: Path) -> None:
    path = tmp_path / "poses.csv"
    path.write_text("")
    assert PoseSource.parse(str(path)) == PoseSource(PoseSourceKind.FILE, str(path))


@pytest.mark.parametrize("text", ["", "/", "mug", "tf:", "mocap:x", "selfish", "poses.json"])
def test_anything_else_names_the_grammar(text: str) -> None:
    with pytest.raises(ValueError, match="expected self, tf:FRAME, topic:/NAME, board:FILE or file:FILE, got"):
        PoseSource.parse(text)


def test_only_what_can_be_used_is_named() -> None:
    with pytest.raises(ValueError, match="expected tf:FRAME or file:FILE, got 'self'"):
        PoseSource.parse("self", (PoseSourceKind.TF, PoseSourceKind.FILE))
