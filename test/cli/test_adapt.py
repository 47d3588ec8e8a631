"""The command on a short recorded scene, with networks that know nothing: what it says, refuses and leaves behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.cli.main import main
from pnp_ros.geometry import so3
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.camera_info import CameraInfo
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.simulation import SimulatedScene, SimulationConfig

pytest.importorskip("moderngl")
torch.set_num_threads(1)
INFO = CameraInfo(240, 320, "plumb_bob", (0.0,) * 5, (300.0, 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0))
FRAMES, RATE = 60, 4.0
START_NS = 1_700_000_000_000_000_000
BOARD = {
    "type": "aruco",
    "dictionary": "DICT_4X4_50",
    "markers": [{"id": 1, "side": 0.05}],
    "T_board_object": {"translation": [0, 0, 0], "quat_wxyz": [1, 0, 0, 0]},
}


@pytest.fixture(scope="module")
def boat(untrained_package: Callable[..., ObjectPackage], tmp_path_factory: pytest.TempPathFactory) -> ObjectPackage:
    """The demo's object with small, untrained networks."""
    return untrained_package(tmp_path_factory.mktemp("objects") / "boat", "boat", demo_mesh())


@pytest.fixture(scope="module")
def bag(boat: ObjectPackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, CameraInfo and the truth as PoseStamped; fifteen seconds."""
    path = tmp_path_factory.mktemp("recorded") / "bag"
    scene = SimulatedScene(boat.mesh, INFO.camera(), SimulationConfig(seed=4))
    with BagWriter(path) as writer:
        for i in range(FRAMES):
            shown, stamp_ns = scene.frame(i, RATE), START_NS + round(i * 1e9 / RATE)
            writer.write_image("/camera/image_raw", shown.rgb, stamp_ns, "camera")
            writer.write_camera_info("/camera/camera_info", INFO, stamp_ns, "camera")
            if shown.pose is None:
                continue
            w, x, y, z = so3.quat_wxyz_from_matrix(shown.pose.rotation).tolist()
            orientation = writer.message("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
            x, y, z = shown.pose.translation.tolist()
            position = writer.message("geometry_msgs/msg/Point", x=x, y=y, z=z)
            pose = writer.message("geometry_msgs/msg/Pose", position=position, orientation=orientation)
            stamp = writer.message("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
            header = writer.message("std_msgs/msg/Header", stamp=stamp, frame_id="camera")
            stamped = writer.message("geometry_msgs/msg/PoseStamped", header=header, pose=pose)
            writer.write("/mocap/pose", stamped, stamp_ns)
    return path


def test_refuses_what_does_not_get_better_and_says_why(
    bag: Path, boat: ObjectPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So few steps teach untrained networks nothing, so the package's own weights must stay."""
    config = {"min_images": 8, "min_held_back": 4, "check_steps": 3, "batch": 4, "anchors": 20}
    _use_config(monkeypatch, config)
    out = tmp_path / "out"
    arguments = ["adapt", str(bag), "--object", str(boat.root), "--reference", "/mocap/pose", "--out", str(out)]
    assert main([*arguments, "--steps", "7"]) == 0
    said = capsys.readouterr().out
    assert "nothing was promoted" in said
    (counts,) = (line.split() for line in said.splitlines() if line.startswith("images with a valid pose"))
    assert counts.count("of") == 4  # of the estimator and of the networks alone, before and after
    assert " ".join(counts[-3:]) == f"0 of {counts[-1]}"  # untrained ones know nothing
    assert "7 steps, 0 versions promoted" in said
    assert "held-back error" in said
    assert "failed" in said
    entries = [json.loads(line) for line in (out / "status.jsonl").read_text().splitlines()]
    assert entries[-1]["total_steps"] == 7
    assert entries[-1]["active_version"] == 0
    assert not [gate for gate in entries[-1]["gates"] if gate["name"] == ""]
    assert (out / "adaptation.png").stat().st_size > 5000
    for name, plots in (("before", False), ("after", True)):
        report = json.loads((out / name / "report.json").read_text())
        assert 0.25 * FRAMES <= report["frames"]["total"] <= 0.4 * FRAMES  # every third block of time
        assert ("Adaptation: losses" in (out / name / "report.html").read_text()) is plots
        assert json.loads((out / f"{name}_networks_alone" / "report.json").read_text())["frames"]["valid"] == 0


def _use_config(monkeypatch: pytest.MonkeyPatch, changes: dict[str, float]) -> None:
    from pnp_ros.cli import adapt

    plain = adapt.AdaptationConfig
    monkeypatch.setattr(adapt, "AdaptationConfig", lambda **given: plain(**(changes | given)))


def test_promoted_version_is_named_and_used(
    bag: Path, boat: ObjectPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a demanded gain weights that are as good as those in use pass; they stand for better ones here."""
    config = {"min_images": 8, "min_held_back": 4, "check_steps": 2, "batch": 4, "anchors": 20, "min_gain": 0.0}
    _use_config(monkeypatch, config)
    out, versions = tmp_path / "out", tmp_path / "versions"
    arguments = ["adapt", str(bag), "--object", str(boat.root), "--reference", "topic:/mocap/pose", "--out", str(out)]
    assert main([*arguments, "--versions", str(versions), "--steps", "3"]) == 0
    assert f"version 1: {versions / '000001.safetensors'}" in capsys.readouterr().out
    newest = VersionStore(versions, load_object_package(boat.root)).newest()
    assert newest is not None
    assert newest.number == 1
    evaluated = ["evaluate", str(bag), "--object", str(boat.root), "--max-frames", "3", "--out", str(tmp_path / "e")]
    assert main([*evaluated, "--versions", str(versions), "--adaptation", str(out)]) == 0
    assert f"weights: version 1 of {versions}" in capsys.readouterr().out
    assert "Adaptation: gates" in (tmp_path / "e" / "report.html").read_text()
    assert main([*evaluated, "--versions", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("reference", ["self", "board"])
def test_without_any_usable_reference_nothing_is_learnt(
    bag: Path, boat: ObjectPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str], reference: str
) -> None:
    """The estimator is never sure, and there is no board in the images."""
    if reference == "board":
        (tmp_path / "board.yaml").write_text(yaml.safe_dump(BOARD))
        reference = f"board:{tmp_path / 'board.yaml'}"
    arguments = ["adapt", str(bag), "--object", str(boat.root), "--reference", reference, "--steps", "5"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "0 steps, 0 versions promoted" in said
    assert "no check was made: waiting for images" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--reference", "/nowhere"], "--reference topic:/nowhere"),
        (["--reference", "tf:nowhere"], "--reference tf:nowhere"),
        (["--reference", "board:nowhere.yaml"], "nowhere.yaml"),
        ([], "--reference"),
        (["--reference", "self", "--steps", "0"], "steps"),
        (["--reference", "self", "--blocks", "1"], "blocks"),
        (["--reference", "self", "--learning-rate", "-1"], "--learning-rate: expected 1e-09 to 1"),
        (["--reference", "self", "--seed", "-1"], "seed"),
    ],
)
def test_wrong_arguments_are_named(
    bag: Path, boat: ObjectPackage, capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: list[str], message: str
) -> None:
    arguments = ["adapt", str(bag), "--object", str(boat.root), "--out", str(tmp_path / "out")]
    assert main([*arguments, *changes]) == 1
    assert message in capsys.readouterr().err


def test_transform_of_the_estimator_is_no_reference(
    recorded_run: Any, package: ObjectPackage, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["adapt", str(recorded_run.path), "--object", str(package.root), "--out", str(tmp_path)]
    assert main([*arguments, "--reference", "tf:tetrahedron"]) == 1
    assert "tf:tetrahedron: an estimator published it" in capsys.readouterr().err


def test_images_of_one_moment_cannot_be_divided(
    boat: ObjectPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write_image("/camera/image_raw", np.zeros((240, 320, 3), np.uint8), START_NS, "camera")
        writer.write_camera_info("/camera/camera_info", INFO, START_NS, "camera")
    arguments = ["adapt", str(tmp_path / "bag"), "--object", str(boat.root), "--reference", "self"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert "blocks: expected images of different times" in capsys.readouterr().err
