"""The views show topics that the node publishes, and ``pnp-ros view`` writes a recording that rerun reads."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pnp_ros.cli.main import main
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage

NODE = (Path(__file__).parents[2] / "pnp_ros/nodes/pose_estimator_node.py").read_text()
PUBLISHED = {f"/pose_estimator/{name}" for name in re.findall(r'publisher\(\w+, "~/(\w+)"', NODE)}


def named_topics(text: str) -> set[str]:
    return set(re.findall(r"/pose_estimator/\w+", text))


@pytest.mark.parametrize("view", ["config/pose.rviz", "config/pose.foxglove.json"])
def test_views_show_what_is_published(view: str) -> None:
    topics = named_topics(resource(view).read_text())
    assert {"/pose_estimator/pose", "/pose_estimator/markers", "/pose_estimator/overlay"} <= topics
    assert topics <= PUBLISHED


def test_the_layout_places_every_panel() -> None:
    content = json.loads(resource("config/pose.foxglove.json").read_text())

    def panels(node: Any) -> set[str]:
        return {node} if isinstance(node, str) else panels(node["first"]) | panels(node["second"])

    assert panels(content["layout"]) == content["configById"].keys()


def test_a_recording_for_rerun(recorded_run: Any, package: ObjectPackage, tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    file = tmp_path / "run.rrd"
    words = ["view", str(recorded_run.path), "--object", str(package.root), "--truth", "tf", "--max-frames", "5"]
    assert main([*words, "--save", str(file)]) == 0
    data = file.read_bytes()
    assert data[:4] in (b"RRF2", b"RRIO")
    for entity in (b"camera/picture", b"camera/object", b"camera/covariance", b"camera/truth", b"sigma/x_mm"):
        assert entity in data
