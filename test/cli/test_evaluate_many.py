"""``pnp-ros evaluate`` with several objects and instances, on a bag whose figures are known."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.cli import reports
from pnp_ros.cli.main import main
from pnp_ros.cli.pose_log import PoseLog
from pnp_ros.cli.simulated_bag import TRUTH, write_bag
from pnp_ros.evaluation.frames import Frame
from pnp_ros.evaluation.truth import load_truths
from pnp_ros.geometry import so3
from pnp_ros.io.images import write_image
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.rendering.crowd import CrowdFrame, Seen
from pnp_ros.types import Pose

FRAMES, RATE = 6, 10.0  # images of one colour: mcap makes them small
PLACES = {"tetrahedron_0": -0.5, "tetrahedron_1": 0.0, "other_0": 0.5, "other_1": 1.0}


def _pose(name: str, k: int) -> Pose:
    turn = so3.exp(torch.tensor([0.1 * k, 0.3, 0.0], dtype=torch.float64))
    return Pose(turn, torch.tensor([PLACES[name], 0.01 * k, 2.0], dtype=torch.float64))


def _frames() -> Iterator[CrowdFrame]:
    for k in range(FRAMES):
        seen = {name: Seen(name.rsplit("_", 1)[0], _pose(name, k), 1.0) for name in PLACES}
        if k == 5:
            seen["other_1"] = Seen("other")
        yield CrowdFrame(np.full((480, 640, 3), 10 * k, np.uint8), seen)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag, and poses that are right: the names of two change in image 3, one is elsewhere in 4, one stays in 5."""
    folder = tmp_path_factory.mktemp("many")
    write_bag(_frames(), FRAMES, RATE, folder / "bag")
    log = PoseLog()
    for k in range(FRAMES):
        for name in PLACES:
            told = name
            if k >= 3 and name.startswith("tetrahedron"):
                told = {"tetrahedron_0": "tetrahedron_1", "tetrahedron_1": "tetrahedron_0"}[name]
            pose = _pose(name, k)
            if (k, name) == (4, "other_0"):
                pose = Pose(pose.rotation, pose.translation + torch.tensor([0.0, 0.0, 3.0]))
            found = FrameResult(ObjectState.VALID, pose, 1e-6 * torch.eye(6).double(), stamp=1.0 + k / RATE, name=told)
            log.add(k, found)
    log.write(folder)
    return folder


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reports of single instances without plots, which have tests of their own and take a second each."""
    monkeypatch.setattr(reports, "plots", lambda *_: [])
    monkeypatch.setattr(reports, "reliability_plots", lambda *_: [])
    monkeypatch.setattr(reports, "frame_sheet", lambda *_: None)


def test_figures_of_many(
    recorded: Path,
    package: ObjectPackage,
    other: ObjectPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    objects = ["--object", str(package.root), str(other.root), "--instances", "2"]
    wanted = ["--poses", str(recorded / "poses.json"), "--truth", TRUTH, "--out", str(tmp_path)]
    assert main(["evaluate", str(recorded / "bag"), *objects, *wanted]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["frames"] == {"total": FRAMES}
    assert report["identity_swaps"] == {"tetrahedron": 2, "other": 0}
    assert "identity swaps: tetrahedron 2, other 0" in capsys.readouterr().out
    one, two = (report["objects"][name] for name in ("tetrahedron", "other"))
    assert one["accuracy"]["recall_5_percent"] == 1.0
    assert one["consistency"]["mean_nees"] == pytest.approx(0.0, abs=1e-6)
    assert two["accuracy"]["recall_5_percent"] == pytest.approx(10 / 11)
    assert two["false_poses"]["valid_while_not_visible"] == 2  # elsewhere in image 4, and still told in 5
    for name in PLACES:
        assert json.loads((tmp_path / name / "report.json").read_text())["frames"]["total"] == FRAMES
    assert (tmp_path / "report.html").read_text().count("<svg") == 1


def test_true_poses_may_be_in_tf_or_in_a_file(recorded: Path) -> None:
    frame = Frame(
        3, 1_300_000_000, np.zeros((1, 1, 3), np.uint8), Camera.pinhole(1, 1, 0, 0, 1, 1), "camera_optical_frame"
    )
    told = [load_truths(source, recorded / "bag", list(PLACES))(frame) for source in (TRUTH, "tf")]
    told.append(load_truths(str(recorded / "poses.csv"), None, ())(frame))
    for truths in told:
        assert truths is not None
        assert set(truths) == set(PLACES)
        other = truths["other_1"].pose
        assert other is not None
        torch.testing.assert_close(other.translation, _pose("other_1", 3).translation)
    assert load_truths(TRUTH, recorded / "bag", ())(dataclasses.replace(frame, stamp_ns=5)) is None


def test_what_is_wrong_is_said(
    recorded: Path, package: ObjectPackage, other: ObjectPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["evaluate", str(recorded / "bag"), "--out", str(tmp_path), "--object", str(package.root)]
    poses = ["--poses", str(recorded / "poses.csv")]
    for words, said in (
        (["--instances", "0"], "--instances: expected at least 1"),
        ([str(other.root), "--versions", "x"], "--versions: expected one --object, got 2"),
        ([str(other.root), "--truth", "tf:mug"], "expected tf alone"),
        ([str(other.root), *poses, "--truth", "/camera/image_raw"], "expected a topic of ObjectPoseArray"),
        ([str(other.root), "--poses", "/nothing"], "no such topic"),
    ):
        assert main([*start, *words]) == 1
        assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def other(untrained_package: object, tmp_path_factory: pytest.TempPathFactory) -> ObjectPackage:
    return untrained_package(tmp_path_factory.mktemp("objects") / "other", "other")  # type: ignore[operator]


def test_a_bop_scene_with_two_of_a_kind(package: ObjectPackage, tmp_path: Path) -> None:
    """Its truths have no names: recall is told, swaps are not."""
    scene = tmp_path / "000001"
    (scene / "rgb").mkdir(parents=True)
    write_image(scene / "rgb/000000.png", np.zeros((120, 160, 3), np.uint8))
    (scene / "scene_camera.json").write_text(json.dumps({"0": {"cam_K": [150, 0, 80, 0, 150, 60, 0, 0, 1]}}))
    truths = [{"obj_id": 1, "cam_R_m2c": [1, 0, 0, 0, 1, 0, 0, 0, 1], "cam_t_m2c": [x, 0, 500]} for x in (-50, 50)]
    (scene / "scene_gt.json").write_text(json.dumps({"0": truths}))
    words = ["evaluate", str(scene), "--object", str(package.root), "--instances", "2", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["identity_swaps"] is None
    assert report["objects"]["tetrahedron"]["frames"]["visible"] == 2
