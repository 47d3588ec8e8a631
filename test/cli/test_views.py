"""The views show topics that the node publishes, and ``pnp-ros view`` writes a recording that rerun reads."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pnp_ros.cli.main import main
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage

OUTPUTS = (Path(__file__).parents[2] / "pnp_ros/nodes/pose_outputs.py").read_text()
PUBLISHED = {f"/pose_estimator/{name}" for name in re.findall(r'publisher\(\w+, .*"~/(\w+)"', OUTPUTS)}


def named_topics(text: str) -> set[str]:
    return set(re.findall(r"/pose_estimator/\w+", text))


@pytest.mark.parametrize("view", ["config/pose.rviz", "config/pose.foxglove.json"])
def test_views_show_what_is_published(view: str) -> None:
    topics = named_topics(resource(view).read_text())
    assert {"/pose_estimator/pose", "/pose_estimator/markers", "/pose_estimator/overlay"} <= topics
    assert topics <= PUBLISHED


# Properties by display, as RViz of ROS 2 Jazzy names them; RViz passes over what it does not know in silence.
COMMON = {"Class", "Name", "Enabled", "Topic"}
RVIZ = {
    "Grid": {"Plane", "Plane Cell Count", "Cell Size", "Color", "Alpha", "Line Style", "Reference Frame"},
    "TF": {"Marker Scale", "Show Names", "Show Axes", "Show Arrows", "Frame Timeout", "Update Interval"},
    "PoseWithCovariance": {"Shape", "Axes Length", "Axes Radius", "Color", "Alpha", "Covariance"},
    "MarkerArray": {"Namespaces"},
    "Image": {"Normalize Range", "Min Value", "Max Value", "Median window"},
    "Camera": {"Image Rendering", "Overlay Alpha", "Zoom Factor", "Far Plane Distance", "Visibility"},
}
QUALITY = {"Value", "Depth", "History Policy", "Reliability Policy", "Durability Policy", "Filter size"}


def test_rviz_knows_every_property_of_the_view() -> None:
    manager = yaml.safe_load(resource("config/pose.rviz").read_text())["Visualization Manager"]
    names = {display["Name"] for display in manager["Displays"]}
    seen = {}
    for display in manager["Displays"]:
        kind = display["Class"].removeprefix("rviz_default_plugins/")
        assert display.keys() <= COMMON | RVIZ[kind]
        assert set(display.get("Topic", {})) <= QUALITY
        seen[kind] = display
    assert seen.keys() == RVIZ.keys()
    covariance = seen["PoseWithCovariance"]["Covariance"]
    assert covariance["Value"] is True
    assert covariance["Orientation"]["Frame"] == "Fixed"  # REP-103: about the camera's axes; RViz's default is Local
    assert covariance["Orientation"].keys() <= {"Value", "Frame", "Alpha", "Color", "Color Style", "Offset", "Scale"}
    assert covariance["Position"].keys() <= {"Value", "Alpha", "Color", "Scale"}
    assert seen["Camera"]["Image Rendering"] in ("background", "overlay", "background and overlay")
    assert set(seen["Camera"]["Visibility"]) - {"Value"} <= names
    assert manager["Global Options"]["Fixed Frame"] == "camera_optical_frame"
    assert {tool["Class"] for tool in manager["Tools"]} <= {
        f"rviz_default_plugins/{tool}" for tool in ("MoveCamera", "FocusCamera", "Measure", "Interact", "Select")
    }
    view = manager["Views"]["Current"]
    known = {"Class", "Name", "Distance", "Focal Point", "Pitch", "Yaw", "Target Frame", "Near Clip Distance"}
    assert view["Class"] == "rviz_default_plugins/Orbit"
    assert view.keys() <= known


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
    for entity in (b"camera/image", b"camera/object", b"camera/covariance", b"camera/truth", b"sigma/x_mm"):
        assert entity in data
