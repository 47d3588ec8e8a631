"""What the launch files start, run by stock launch: the executables and ``ros2`` are stand-ins that tell how."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pnp_ros.io.resources import resource

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(importlib.util.find_spec("launch_ros") is None, reason="launch is not installed"),
]
ROS2_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

file, *words = sys.argv[1:]
include = IncludeLaunchDescription(
    PythonLaunchDescriptionSource(file), launch_arguments=[word.split(":=", 1) for word in words]
)
service = LaunchService(argv=words)
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""
STAND_IN = """#!{python}
import json, os, sys
name = os.path.basename(sys.argv[0])
profile = os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE", "")
with open({said!r}, "a") as file:
    file.write(json.dumps({{"name": name, "words": sys.argv[1:], "profile": profile}}) + "\\n")
"""
NODE = """#!{python}
from pnp_ros.cli.entry import run_main
run_main("pnp_ros.nodes.{name}")
"""
NODES = ("pose_estimator_node", "fine_tuning_node", "simulated_camera_node", "pose_fusion_node")


class Launched:
    """A ROS prefix with this package and nothing else, and what was started from it."""

    def __init__(self, folder: Path, packages: tuple[str, ...] = ("pnp_ros",)) -> None:
        self.folder, self.said = folder, folder / "said"
        index = folder / "share/ament_index/resource_index/packages"
        for path in (index, folder / "lib/pnp_ros", folder / "bin", folder / "share/pnp_ros"):
            path.mkdir(parents=True)
        for package in packages:
            (index / package).touch()
        for name in ("config", "launch"):
            (folder / "share/pnp_ros" / name).symlink_to(resource(name))
        for name in NODES:
            self.write(f"lib/pnp_ros/{name}", STAND_IN)
        self.write("bin/ros2", STAND_IN)

    def write(self, name: str, text: str) -> None:
        """An executable."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(python=sys.executable, said=str(self.said), name=path.name))
        path.chmod(0o755)

    def command(self, name: str, *words: str) -> list[str]:
        """As ``ros2 launch`` runs a launch file."""
        return [sys.executable, "-c", ROS2_LAUNCH, str(self.folder / "share/pnp_ros/launch" / name), *words]

    def environment(self, **more: str) -> dict[str, str]:
        """Of that prefix alone, in a ROS domain of this test's own."""
        kept = {name: value for name, value in os.environ.items() if "DEFAULT_PROFILES_FILE" not in name}
        paths = [str(self.folder), *filter(None, [os.environ.get("AMENT_PREFIX_PATH")])]
        return kept | {
            "AMENT_PREFIX_PATH": os.pathsep.join(paths),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "ROS_LOG_DIR": str(self.folder / "log"),
            "ROS_DOMAIN_ID": str(os.getpid() % 100 + 1),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        } | more  # fmt: skip

    def __call__(self, name: str, *words: str, **more: str) -> dict[str, Any]:
        """Run a launch file to its end; what was started, by name."""
        self.ended = subprocess.run(
            self.command(name, *words), env=self.environment(**more), capture_output=True, text=True, timeout=60
        )
        self.output = self.ended.stdout + self.ended.stderr
        lines = self.said.read_text().splitlines() if self.said.exists() else []
        return {entry["name"]: entry for entry in map(json.loads, lines)}


@pytest.fixture
def launched(tmp_path: Path) -> Launched:
    return Launched(tmp_path / "prefix")


def rules(entry: dict[str, Any]) -> set[str]:
    """The remapping rules among a node's words."""
    words = entry["words"]
    return {words[i + 1] for i, word in enumerate(words) if word == "-r"}


def test_names_are_relative_to_a_namespace(launched: Launched) -> None:
    started = launched("pose.launch.py", "object:=x", "namespace:=robot", "fine_tune:=true", "record:=true")
    estimator, fine_tuning = rules(started["pose_estimator_node"]), rules(started["fine_tuning_node"])
    assert {"__ns:=/robot", "image:=camera/image_raw", "fine_tuning/status:=fine_tuning/status"} <= estimator
    assert {"__ns:=/robot", "image:=camera/image_raw", "pose_estimator/objects:=pose_estimator/objects"} <= fine_tuning
    topics = started["ros2"]["words"][started["ros2"]["words"].index("--topics") + 1 :]
    assert {"/robot/camera/image_raw", "/robot/pose_estimator/pose", "/robot/fine_tuning/status", "/tf"} <= set(topics)
    assert all(topic.startswith(("/robot/", "/tf", "/diagnostics")) for topic in topics)


def test_cameras_have_an_estimator_each_and_one_fusion(launched: Launched) -> None:
    words = ("object:=x", "images:=[/left/image_raw, /cell/right/image]", "fixed_frame:=cell")
    started = launched("cameras.launch.py", *words)
    every = [json.loads(line) for line in launched.said.read_text().splitlines()]
    estimators = [rules(entry) for entry in every if entry["name"] == "pose_estimator_node"]
    assert len(every) == 3
    assert any(
        {"__ns:=/left", "image:=/left/image_raw", "camera_info:=/left/camera_info"} <= each for each in estimators
    )
    assert any({"__ns:=/cell/right", "image:=/cell/right/image"} <= each for each in estimators)
    assert all("publish_tf:=False" in " ".join(e["words"]) for e in every if e["name"] == "pose_estimator_node")
    assert "publish_tf:=False" not in " ".join(started["pose_fusion_node"]["words"])


def test_cameras_need_two_topics(launched: Launched) -> None:
    assert launched("cameras.launch.py", "object:=x", "images:=[/left/image_raw]", "fixed_frame:=cell") == {}
    assert "images: expected two topics or more" in launched.output


def test_without_a_namespace_names_are_as_before(launched: Launched) -> None:
    started = launched("pose.launch.py", "object:=x", "record:=true", "image:=/left/image", "name:=cup")
    assert {"image:=/left/image", "__node:=cup"} <= rules(started["pose_estimator_node"])
    assert {"/left/image", "/camera/camera_info", "/cup/pose", "/fine_tuning/status"} <= set(started["ros2"]["words"])


def test_compressed_images_are_recorded(launched: Launched) -> None:
    words = launched("pose.launch.py", "object:=x", "record:=true", "image_transport:=compressed")["ros2"]["words"]
    assert "/camera/image_raw/compressed" in words
    assert "/camera/image_raw" not in words


def test_what_is_started_has_the_image_profile(launched: Launched) -> None:
    started = launched("demo.launch.py", "fine_tune:=true", "rviz:=false")
    assert started.keys() == set(NODES) - {"pose_fusion_node"}
    assert {Path(entry["profile"]).name for entry in started.values()} == {"fastdds.xml"}


@pytest.mark.parametrize("variable", ["FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"])
def test_a_profile_of_the_user_stays(launched: Launched, variable: str) -> None:
    started = launched("pose.launch.py", "object:=x", **{variable: "mine.xml"})
    expected = "mine.xml" if variable.startswith("FASTRTPS") else ""
    assert started["pose_estimator_node"]["profile"] == expected


def test_demo_without_rviz_says_so_and_runs(launched: Launched) -> None:
    started = launched("demo.launch.py")
    assert launched.ended.returncode == 0, launched.output
    assert "rviz2 is not installed" in launched.output
    assert started.keys() == {"pose_estimator_node", "simulated_camera_node"}


def test_view_follows_names_and_namespace(tmp_path: Path) -> None:
    launched = Launched(tmp_path / "prefix", ("pnp_ros", "rviz2"))
    launched.write("lib/rviz2/rviz2", STAND_IN)
    viewed = rules(launched("demo.launch.py", "namespace:=robot")["rviz2"])
    assert {"__ns:=/robot", "/camera/image_raw:=camera/image_raw"} <= viewed
    assert "/pose_estimator/pose:=pose_estimator/pose" in viewed


@pytest.mark.parametrize(
    ("file", "word", "message"),
    [
        ("pose.launch.py", "params_file:=/nowhere.yaml", "params_file: no such file: /nowhere.yaml"),
        ("pose.launch.py", "imge:=/left/image", "imge: no such launch argument, expected image"),
        ("demo.launch.py", "rat:=3", "rat: no such launch argument, expected rate"),
        ("demo.launch.py", "rate:=fast", "rate: expected a number, got 'fast'"),
        ("pose.launch.py", "max_instances:=2.5", "max_instances: expected a whole number, got '2.5'"),
        ("pose.launch.py", "fine_tune:=yes", "fine_tune: expected true or false, got 'yes'"),
        ("pose.launch.py", "objects:=mug", "objects: expected texts, as [a, b, c], got 'mug'"),
        ("cameras.launch.py", "images:=/left/image_raw", "images: expected texts, as [a, b, c]"),
    ],
)
def test_a_wrong_argument_starts_nothing(launched: Launched, file: str, word: str, message: str) -> None:
    frame = ["fixed_frame:=cell"] if file == "cameras.launch.py" else []
    started = launched(file, "object:=x", *frame, word)
    assert launched.ended.returncode == 1
    assert message in launched.output
    assert started == {}


@pytest.mark.parametrize(
    ("node", "words", "is_for_it"),
    [
        ("/**", ["namespace:=robot"], True),
        ("pose_estimator", [], True),
        ("/**/pose_estimator", ["namespace:=robot"], True),
        ("/*/pose_estimator", ["namespace:=robot"], True),
        ("/robot/cup", ["namespace:=robot", "name:=cup"], True),
        ("pose_estimatr", [], False),
        ("pose_estimator", ["namespace:=robot"], False),
        ("pose_estimator", ["name:=cup"], False),
        ("/*/pose_estimator", [], False),
    ],
)
def test_a_file_of_other_nodes_parameters_is_refused(
    launched: Launched, tmp_path: Path, node: str, words: list[str], is_for_it: bool
) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text(f"{node}:\n  ros__parameters:\n    max_rate: 5.0\n")
    assert bool(launched("pose.launch.py", "object:=x", f"params_file:={file}", *words)) is is_for_it
    told = f"params_file: {file}: expected parameters of /"
    assert (told in launched.output) is not is_for_it


def test_demo_takes_the_arguments_of_the_estimator(launched: Launched) -> None:
    assert rules(launched("demo.launch.py", "name:=cup")["pose_estimator_node"]) >= {"__node:=cup"}


def test_a_bag_waits_for_the_estimator(launched: Launched) -> None:
    """A stand-in is never active."""
    assert launched("pose.launch.py", "object:=x", "bag:=run").keys() == {"pose_estimator_node"}


@pytest.mark.slow
def test_a_bag_plays_from_the_transition_to_active(launched: Launched, untrained_package: Any) -> None:
    """The node itself, and a stand-in that notes how it plays."""
    launched.write("lib/pnp_ros/pose_estimator_node", NODE)
    package = untrained_package(launched.folder / "object")
    command = launched.command("pose.launch.py", f"object:={package.root}", "bag:=run", "namespace:=robot")
    ran = subprocess.Popen(
        command,
        env=launched.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120.0
    while not launched.said.exists() and ran.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(ran.pid, signal.SIGINT)  # as a terminal does with ctrl-C
    output = ran.communicate(timeout=30)[0]
    assert ": ready" in output.partition("[ros2-")[0], output
    assert "escalating" not in output
    assert json.loads(launched.said.read_text())["words"] == ["bag", "play", "run", "--clock"]


@pytest.mark.slow
def test_two_robots_run_side_by_side(launched: Launched, untrained_package: Any, monkeypatch: Any) -> None:
    """The nodes themselves: each robot's fine-tuning listens to its own camera and its own estimator."""
    import rclpy

    for name in ("pose_estimator_node", "fine_tuning_node"):
        launched.write(f"lib/pnp_ros/{name}", NODE)
    package = untrained_package(launched.folder / "object")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=int(launched.environment()["ROS_DOMAIN_ID"]))
    robots = []
    for robot in ("left", "right"):
        words = [f"object:={package.root}", f"namespace:={robot}", "fine_tune:=true"]
        words.append(f"versions:={launched.folder / robot}")
        robots.append(
            subprocess.Popen(
                launched.command("pose.launch.py", *words), env=launched.environment(), start_new_session=True
            )
        )
    listener = rclpy.create_node("listener", context=context)
    try:
        for robot in ("left", "right"):
            wanted = {f"/{robot}/camera/image_raw", f"/{robot}/camera/camera_info", f"/{robot}/pose_estimator/objects"}
            heard, deadline = set[str](), time.monotonic() + 90.0
            while not wanted <= heard and time.monotonic() < deadline:
                time.sleep(0.2)
                with contextlib.suppress(rclpy.node.NodeNameNonExistentError):
                    heard = dict(listener.get_subscriber_names_and_types_by_node("fine_tuning", f"/{robot}")).keys()
            assert wanted <= heard
            other = "right" if robot == "left" else "left"
            assert not [topic for topic in heard if topic.startswith(f"/{other}/")]
            published = dict(listener.get_publisher_names_and_types_by_node("fine_tuning", f"/{robot}"))
            assert f"/{robot}/fine_tuning/status" in published
    finally:
        for running in robots:
            os.killpg(running.pid, signal.SIGINT)
        ended = [running.wait(timeout=30) for running in robots]
        listener.destroy_node()
        context.shutdown()
    assert ended == [0, 0]
