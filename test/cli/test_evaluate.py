"""``pnp-ros evaluate`` on recordings whose figures are known, and on recordings that something is wrong with."""

import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pnp_ros.cli.main import main
from pnp_ros.cli.pose_log import PoseLog
from pnp_ros.evaluation import consistency
from pnp_ros.evaluation.comparison import compare
from pnp_ros.evaluation.frames import open_bag, open_source
from pnp_ros.evaluation.truth import load_truth
from pnp_ros.geometry import se3
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.bop import read_bop_results
from pnp_ros.io.camera_info import CameraInfo, write_camera_info
from pnp_ros.io.images import write_image
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import FrameResult, ObjectState

K = (150.0, 0.0, 80.0, 0.0, 150.0, 60.0, 0.0, 0.0, 1.0)
INFO = CameraInfo(120, 160, "plumb_bob", (0.0,) * 5, K)
OBJECTS, TRUTH = "/estimator/objects", "/camera/truth"
SECOND = 1_000_000_000


def evaluate(out: Path, *arguments: Any) -> dict[str, Any]:
    """Run the command and read its report."""
    assert main(["evaluate", *map(str, arguments), "--out", str(out)]) == 0
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def report(recorded_run: Any, package: ObjectPackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    evaluate(out, recorded_run.path, "--object", package.root, "--poses", OBJECTS, "--truth", TRUTH)
    return out


@pytest.fixture(scope="module")
def halved_report(make_run: Any, package: ObjectPackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same errors, with covariances that are half of the true ones."""
    folder = tmp_path_factory.mktemp("halved")
    run = make_run(folder / "bag", claimed=0.5)
    evaluate(folder / "out", run.path, "--object", package.root, "--poses", f"topic:{OBJECTS}", "--truth", TRUTH)
    return folder / "out"


def test_figures_agree_with_brute_force(report: Path, recorded_run: Any, package: ObjectPackage) -> None:
    content = json.loads((report / "report.json").read_text())
    present = [i for i in range(60) if i not in range(40, 45)]
    assert content["frames"] == {"total": 60, "visible": 55, "valid": 56, "uncertain": 0, "lost": 4}
    assert content["false_poses"]["valid_while_not_visible"] == 1
    add, nees = [], []
    for i in present:
        estimate, truth = recorded_run.estimate(i).matrix(), recorded_run.truth(i).matrix()
        points = torch.cat([torch.from_numpy(package.mesh.vertices), torch.ones(4, 1)], dim=1).double()
        add.append(((estimate - truth) @ points.T)[:3].norm(dim=0).mean().item() / package.diameter)
        nees.append(float((recorded_run.noise[i] ** 2 / torch.diag(sigma_squared())).sum()))
    columns = content["per_frame"]
    np.testing.assert_allclose([columns["add"][i] for i in present], add, rtol=1e-6)
    np.testing.assert_allclose([columns["nees"][i] for i in present], nees, rtol=1e-6)
    assert all(columns["add"][i] is None for i in range(40, 45))
    accuracy = content["accuracy"]
    assert accuracy["recall_10_percent"] == pytest.approx(np.mean(np.array(add) < 0.1))
    assert accuracy["add_percent"]["median"] == pytest.approx(100 * np.median(add))
    assert content["consistency"]["mean_nees"] == pytest.approx(np.mean(nees))
    assert content["latency_ms"]["total"]["median"] == pytest.approx(10.295, rel=1e-4)


def sigma_squared() -> torch.Tensor:
    return torch.diag(torch.tensor([0.001, 0.001, 0.004, 0.02, 0.02, 0.01], dtype=torch.float64) ** 2)


def test_true_covariances_pass_and_halved_ones_are_caught(report: Path, halved_report: Path) -> None:
    right = json.loads((report / "report.json").read_text())["consistency"]
    low, high = consistency.anees_bounds(55)
    assert right["verdict"] == "consistent"
    assert right["mean_nees_bounds_95"] == [low, high]
    assert low < right["mean_nees"] < high
    halved = json.loads((halved_report / "report.json").read_text())["consistency"]
    assert halved["verdict"] == "overconfident"
    assert halved["mean_nees"] == pytest.approx(2 * right["mean_nees"], rel=1e-6)
    assert halved["coverage"]["0.9"] < 0.8 < right["coverage"]["0.9"]


def test_every_form_of_the_truth_is_the_same(report: Path, recorded_run: Any, tmp_path: Path) -> None:
    log = PoseLog()
    for i in range(60):
        pose = None if i in range(40, 45) else recorded_run.truth(i)
        record = FrameResult(
            ObjectState.LOST if pose is None else ObjectState.VALID, pose, stamp=1e-9 * recorded_run.stamp_ns(i)
        )
        log.add(i, record, "tetrahedron")
    log.write(tmp_path)
    files = [str(tmp_path / name) for name in ("poses.json", "poses.csv")]
    frames = list(islice(open_source(recorded_run.path).frames(), 44))
    for form in (TRUTH, "tf", "tf:object_truth", "/mocap/pose", *files):
        truth_of = load_truth(form, recorded_run.path)
        for i in (0, 1, 20, 39, 43):
            truth = truth_of(frames[i])
            if i == 43:
                assert truth.pose is None
                assert truth.visible is (False if form == TRUTH else None)
            else:
                assert truth.pose is not None
                assert truth.visible
                assert se3.local(recorded_run.truth(i), truth.pose).abs().max() < 1e-9


def test_the_report_stands_alone_and_shows_every_plot(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert not re.search(r"<script|<link|src=\"(?!data:)|url\((?!#)|@import", page)
    for title in ("State", "ADD over time", "Recall over time", "Recall over distance", "NEES over time", "Coverage"):
        assert title in page
    assert page.count("<svg") >= 9
    assert "data:image/jpeg;base64," in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page.lower())


def test_bop_csv_holds_the_poses_in_millimetres(report: Path, recorded_run: Any) -> None:
    (file,) = report.glob("pnp-ros_*.csv")
    rows = read_bop_results(file)
    assert file.read_text().splitlines()[0] == "scene_id,im_id,obj_id,score,R,t,time"
    assert [row.image_id for row in rows] == [i for i in range(60) if i not in range(41, 45)]
    delta = se3.local(recorded_run.estimate(0), rows[0].pose)
    assert delta.abs().max() < 1e-6
    millimetres = [float(v) for v in file.read_text().splitlines()[1].split(",")[5].split()]
    assert millimetres[2] == pytest.approx(1000 * float(recorded_run.estimate(0).translation[2]), rel=1e-6)


def test_running_the_estimator_twice_gives_the_same_bytes(
    recorded_run: Any, package: ObjectPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_all_gates(monkeypatch)
    for name in ("a", "b"):
        evaluate(tmp_path / name, recorded_run.path, "--object", package.root, "--max-frames", 20, "--no-overlap")
    for file in ("poses.json", "poses.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert len(json.loads((tmp_path / "a" / "poses.json").read_text())) == 20


def open_all_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let poses of networks that know nothing pass."""
    from pnp_ros.cli import evaluate as command
    from pnp_ros.pipeline.config import EstimatorConfig

    gates: dict[str, Any] = {"align": False, "detector_threshold": 0.0, "min_inliers": 4}
    gates |= {"lost_presence": 0.0, "valid_presence": 0.0}
    gates |= {"valid_inliers": 0.0, "max_chi_square": 1e12, "max_rotation_sigma": 1e12, "max_translation_sigma": 1e12}
    gates |= {"min_distance": 1e-6, "max_distance": 1e12}
    monkeypatch.setattr(command, "EstimatorConfig", lambda **given: EstimatorConfig(**given, **gates))


def test_bop_scenes_are_read(package: ObjectPackage, recorded_run: Any, tmp_path: Path) -> None:
    scene = tmp_path / "ds" / "000003"
    (scene / "rgb").mkdir(parents=True)
    truths, cameras, infos = {}, {}, {}
    for i in range(4):
        write_image(scene / "rgb" / f"{i:06d}.png", np.full((120, 160, 3), 40 * i, np.uint8))
        cameras[str(i)] = {"cam_K": list(K), "depth_scale": 1.0}
        pose = recorded_run.truth(i)
        entry = {"cam_R_m2c": pose.rotation.flatten().tolist(), "cam_t_m2c": (1000 * pose.translation).tolist()}
        truths[str(i)] = [{**entry, "obj_id": 5}, {**entry, "obj_id": 7}]
        infos[str(i)] = [{"visib_fract": 0.05 if i == 3 else 0.9}, {"visib_fract": 1.0}]
    for name, content in (("gt", truths), ("camera", cameras), ("gt_info", infos)):
        (scene / f"scene_{name}.json").write_text(json.dumps(content))
    entries = [
        {"stamp": i, "state": "valid", "translation": recorded_run.estimate(i).translation.tolist()}
        | {"quat_wxyz": quaternion(recorded_run.estimate(i)), "covariance": sigma_squared().tolist()}
        for i in range(4)
    ]
    (tmp_path / "poses.json").write_text(json.dumps(entries))
    arguments = (scene, "--object", package.root, "--poses", tmp_path / "poses.json")
    content = evaluate(tmp_path / "out", *arguments, "--object-id", 5)
    assert content["frames"]["visible"] == 3
    assert content["false_poses"]["valid_while_not_visible"] == 1
    np.testing.assert_allclose(
        [content["per_frame"]["nees"][i] for i in range(3)],
        [float((recorded_run.noise[i] ** 2 / torch.diag(sigma_squared())).sum()) for i in range(3)],
        rtol=1e-5,
    )
    (row, *_) = read_bop_results(next((tmp_path / "out").glob("pnp-ros_*.csv")))
    assert (row.scene_id, row.image_id, row.object_id) == (3, 0, 5)
    assert main(["evaluate", *map(str, arguments)]) == 1  # which of the two objects


def quaternion(pose: Any) -> list[float]:
    from pnp_ros.geometry.so3 import quat_wxyz_from_matrix

    return quat_wxyz_from_matrix(pose.rotation).tolist()


def test_two_reports_are_compared(
    report: Path, halved_report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["evaluate", "--compare", str(report), str(halved_report / "report.json")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"consistency / verdict\s+consistent\s+overconfident", printed)
    assert re.search(r"paired / NEES / frames with the smaller value\s+55\s+0\s+-55", printed)
    assert re.search(r"frames / total\s+60\s+60\s+0", printed)
    assert main(["evaluate", "--compare", str(report), str(tmp_path)]) == 1


def test_of_two_overlaps_the_larger_is_better(tmp_path: Path) -> None:
    for name, values in (("a", [0.5, 0.7, 0.9, None]), ("b", [0.6, 0.8, 0.9, 0.1])):
        content = {"object": "mug", "frames": {"total": 4}, "per_frame": {"ncc": values}}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    rows = {row.name: (row.a, row.b) for row in compare(tmp_path / "a.json", tmp_path / "b.json")}
    assert rows["paired / overlap / frames with the larger value"] == (0, 2)


def test_a_bag_without_camera_info_needs_a_camera(
    make_run: Any, package: ObjectPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "bag", with_info=False)
    arguments = ("--object", package.root, "--poses", OBJECTS, "--truth", TRUTH, "--max-frames", 5)
    assert main(["evaluate", str(run.path), *map(str, arguments), "--out", str(tmp_path / "out")]) == 1
    assert "no CameraInfo" in capsys.readouterr().err
    write_camera_info(tmp_path / "camera.yaml", INFO)
    content = evaluate(tmp_path / "out", run.path, *arguments, "--camera", tmp_path / "camera.yaml")
    assert content["frames"]["valid"] == 5


def test_jumping_time_is_said_and_the_estimator_begins_anew(
    package: ObjectPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for i, seconds in enumerate((10.0, 10.1, 10.2, 10.2, 10.3, 5.0, 5.1, 5.2, 9.9)):
            recorded = (20 + i) * SECOND
            sec, nanosec = divmod(round(seconds * SECOND), SECOND)
            stamp = writer.message("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
            header = writer.message("std_msgs/msg/Header", stamp=stamp, frame_id="camera")
            fields = {"height": 120, "width": 160, "encoding": "mono8", "is_bigendian": 0, "step": 160}
            image = writer.message("sensor_msgs/msg/Image", header=header, data=np.zeros(19200, np.uint8), **fields)
            writer.write("/camera/image_raw", image, recorded)
            writer.write_camera_info("/camera/camera_info", INFO, recorded, "camera")
    resets: list[None] = []
    monkeypatch.setattr(PoseEstimator, "reset", lambda self: resets.append(None))
    content = evaluate(tmp_path / "out", tmp_path / "bag", "--object", package.root, "--no-overlap")
    assert content["frames"]["total"] == 9
    said = "; ".join(content["warnings"])
    for part in ("jumps back 1 times, first by 5.300 s at image 5", "1 images have the stamp", "first 4.700 s"):
        assert part in said
    assert len(resets) == 1
    assert said.split("; ")[0] in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("placed", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_a_truth_that_tf_does_not_connect_to_the_camera_is_said(
    recorded_run: Any,
    package: ObjectPackage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    placed: bool,
    count: int,
) -> None:
    """The truth is in a frame of its own; TF does or does not know the camera's."""
    children = ["object_truth"] if count == 1 else ["tetrahedron_0_truth", "tetrahedron_1_truth"]
    with open_bag(recorded_run.path) as bag, BagWriter(tmp_path / "bag", types=bag.types) as writer:
        for topic, stamp_ns, message in bag.messages():
            if topic == "/tf_static" and not placed:
                continue
            if topic == "/tf":
                (transform,) = message.transforms
                transform.header.frame_id = "another_camera"
                message.transforms = [replace(transform, child_frame_id=name) for name in children]
            writer.write(topic, message, stamp_ns)
    words = ["--object", str(package.root), "--poses", OBJECTS, "--truth", "tf", "--out", str(tmp_path / "out")]
    assert main(["evaluate", str(tmp_path / "bag"), *words, "--instances", str(count)]) == 1
    said = capsys.readouterr().err
    if placed:
        assert "--truth: is known at the time of no image" in said
    else:
        assert f"tf:{children[0]}: the images are in camera_optical_frame, and TF has another_camera, " in said
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_truth_of_another_time_is_said(
    recorded_run: Any, package: ObjectPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = [{"stamp": 5.0, "state": "valid", "translation": [0, 0, 1], "quat_wxyz": [1, 0, 0, 0], "name": "o"}]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    words = ["--object", str(package.root), "--poses", OBJECTS, "--truth", str(tmp_path / "truth.json")]
    assert main(["evaluate", str(recorded_run.path), *words, "--out", str(tmp_path / "out")]) == 1
    assert "--truth: is known at the time of no image" in capsys.readouterr().err


def test_wrong_input_is_one_clear_line(
    package: ObjectPackage, recorded_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "foreign.mcap").write_bytes(b"rubbish")
    (tmp_path / "poses.json").write_text("{}")
    with BagWriter(tmp_path / "empty"):
        pass
    bag, known = str(recorded_run.path), ["--object", str(package.root)]
    for words, message in (
        ([bag], "--object"),
        ([str(tmp_path / "absent"), *known], "no such"),
        ([str(tmp_path / "foreign.mcap"), *known], "foreign.mcap"),
        ([str(tmp_path / "empty"), *known], "holds no message"),
        ([bag, *known, "--truth", "/absent"], "no such topic"),
        ([bag, *known, "--truth", "/camera/image_raw"], "no pose"),
        ([bag, *known, "--truth", "tf:absent"], "no such frame"),
        ([bag, *known, "--poses", "/camera/camera_info"], "no pose"),
        ([bag, *known, "--poses", "tf:object"], "expected topic:/NAME or file:FILE, got 'tf:object'"),
        ([bag, *known, "--poses", str(tmp_path / "poses.json")], "holds no pose"),
    ):
        assert main(["evaluate", *words, "--out", str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err
