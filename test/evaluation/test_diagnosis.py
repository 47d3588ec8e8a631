"""Each fault simulated on renders of the demo's object: the words name it, and a healthy camera is told so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.cli.main import main
from pnp_ros.evaluation import image_faults
from pnp_ros.evaluation.diagnosis import Diagnosis, Finding, Seen, _distances, _size, diagnose, unfit
from pnp_ros.evaluation.frames import Frame
from pnp_ros.evaluation.mesh_size import Measured
from pnp_ros.io.camera_info import CameraInfo, write_camera_info
from pnp_ros.io.images import write_image
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.rendering.simulation import SimulatedFrame, SimulatedScene, SimulationConfig
from pnp_ros.types import Pose

pytest.importorskip("moderngl")
torch.set_num_threads(1)
CAMERA = Camera.pinhole(600.0, 600.0, 320.0, 240.0, 640, 480)
Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def demo() -> ObjectPackage:
    return load_object_package(resource("config/objects/demo"))


@pytest.fixture(scope="module")
def simulated(demo: ObjectPackage) -> list[SimulatedFrame]:
    scene = SimulatedScene(demo.mesh, CAMERA, SimulationConfig(seed=3, occlusion=0.0))
    return [scene.frame(i, 10.0) for i in (12, 24)]


@pytest.fixture(scope="module")
def images(simulated: list[SimulatedFrame]) -> list[np.ndarray]:
    return [frame.rgb for frame in simulated]


@pytest.fixture(scope="module")
def truths(simulated: list[SimulatedFrame]) -> list[Pose]:
    return [frame.pose for frame in simulated if frame.pose is not None]


@pytest.fixture(scope="module")
def depths(demo: ObjectPackage, truths: list[Pose]) -> list[np.ndarray]:
    """Rendered: the object before a wall three metres away, a tenth of the pixels not measured."""
    rng, mesh = np.random.default_rng(0), RayMesh(demo.mesh)
    seen = [mesh.view(pose, CAMERA).depth for pose in truths]
    return [np.where(depth > 0, depth, 3.0) * (rng.random(depth.shape) > 0.1) for depth in seen]


def frames(images: list[np.ndarray], change: Change = lambda rgb: rgb, camera: Camera = CAMERA) -> list[Frame]:
    return [Frame(i, i * 10**8, np.ascontiguousarray(change(rgb)), camera) for i, rgb in enumerate(images)]


def only(found: Diagnosis, subject: str) -> Finding:
    """The one finding, of this subject."""
    (finding,) = found.findings
    assert finding.subject == subject, finding
    return finding


def with_focal(factor: float) -> Camera:
    return Camera.pinhole(factor * 600.0, factor * 600.0, 320.0, 240.0, 640, 480)


def test_blurred_images(demo: ObjectPackage, images: list[np.ndarray]) -> None:
    found = diagnose(frames(images[:1], lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 5.0)), demo)
    assert "blurred" in only(found, "images").text


def test_dark_and_overexposed_images(demo: ObjectPackage, images: list[np.ndarray]) -> None:
    found = diagnose(frames(images[:1], lambda rgb: (0.06 * rgb).astype(np.uint8)), demo)
    assert "dark" in only(found, "images").text
    found = diagnose(frames(images[:1], lambda rgb: np.full_like(rgb, 255)), demo)
    assert "overexposed" in next(each.text for each in found.findings if each.subject == "images")


def test_other_colours_than_the_mesh(demo: ObjectPackage, images: list[np.ndarray]) -> None:
    found = diagnose(frames(images, lambda rgb: rgb[:, :, [2, 0, 1]]), demo)
    assert "colours are unlike the mesh's" in only(found, "colours").text


def test_an_object_that_is_not_there(demo: ObjectPackage, images: list[np.ndarray]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    assert "seen nowhere" in only(diagnose(frames([noise]), demo), "detection").text


@pytest.mark.parametrize(
    ("diameters", "expected"), [(10.0, ["farther"]), (1.5, ["nearer"]), (40.0, ["small", "farther"])]
)
def test_too_far_and_too_near(diameters: float, expected: list[str], demo: ObjectPackage) -> None:
    away = torch.tensor([0.0, 0.0, diameters * demo.diameter])
    frame = Frame(0, 0, np.zeros((480, 640, 3), np.uint8), CAMERA)
    result = FrameResult(ObjectState.UNCERTAIN)
    seen = Seen(frame, result, None, Pose(torch.eye(3), away), 0.6, 0.0)
    texts = [each.text for each in _distances(Diagnosis([seen], []), demo)]
    assert len(texts) == len(expected)
    assert all(word in text for word, text in zip(expected, texts))
    unlikely = dataclasses.replace(seen, score=0.05)
    assert _distances(Diagnosis([unlikely], []), demo) == [], "a pose that nothing speaks for tells no distance"


def test_a_healthy_camera_is_told_so_and_a_second_measurement_tells_the_size(
    demo: ObjectPackage, images: list[np.ndarray], truths: list[Pose], depths: list[np.ndarray]
) -> None:
    cameras = [pose.inverse() for pose in truths]  # the object stands still in its own frame
    away = float(np.median([float(pose.translation.norm()) for pose in truths]))
    right = Measured(1.1 * away, [depth.astype(np.float32) for depth in depths], cameras)
    healthy = diagnose(frames(images), demo, measured=right)
    assert healthy.findings == []
    assert healthy.valid == 2

    told = [
        (14.0, "14 times too large", "measure an edge"),
        (1.4, "1.4 times too large", "the focal length"),
        (1000.0, "too large", "units mm"),
        (0.001, "too small", "was read as millimetres"),
    ]
    for factor, words, cure in told:
        nearer = [Pose(pose.rotation, pose.translation / factor) for pose in cameras]
        wrong = Measured(away / factor, [np.float32(depth / factor) for depth in depths], nearer)
        findings = _size(healthy, wrong, demo)
        assert len(findings) == 3, "distance, depth and motion, each by itself"
        for finding in findings:
            assert words in finding.text
            assert cure in finding.cure
    still = [cameras[0], cameras[0]]
    nothing = [np.zeros_like(depth, np.float32) for depth in depths]
    assert _size(healthy, Measured(depths=nothing, cameras=still), demo) == []
    assert _size(healthy, Measured(depths=[None, None], cameras=[None, None]), demo) == []


def test_what_is_wrong_before_anything_is_looked_at(demo: ObjectPackage, images: list[np.ndarray]) -> None:
    (finding,) = diagnose(frames(images[:1], lambda rgb: rgb[::2, ::2]), demo).findings
    assert "is for 640x480 pixels, the images have 320x240" in finding.text
    (finding,) = unfit(demo, with_focal(8.0), images[0])
    assert "degrees across" in finding.text
    (finding,) = unfit(demo, Camera.pinhole(600.0, 600.0, 100.0, 240.0, 640, 480), images[0])
    assert "principal point" in finding.text
    huge = dataclasses.replace(demo, diameter=1000.0 * demo.diameter)
    (finding,) = unfit(huge, CAMERA, images[0])
    assert "millimetres" in finding.cure


def test_a_wrong_focal_length_is_told_in_words_and_images(
    demo: ObjectPackage,
    images: list[np.ndarray],
    depths: list[np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The poses are valid all the same: their distance is wrong, and the images know it, and depth does."""
    (tmp_path / "depth").mkdir()
    for i, (rgb, depth) in enumerate(zip(images, depths)):
        write_image(tmp_path / f"{i}.png", rgb)
        cv2.imwrite(str(tmp_path / f"depth/{i}.png"), (1000.0 * depth).round().astype(np.uint16))
    k = (900.0, 0.0, 320.0, 0.0, 900.0, 240.0, 0.0, 0.0, 1.0)
    write_camera_info(tmp_path / "camera.yaml", CameraInfo(480, 640, "plumb_bob", (0.0,) * 5, k))
    words = ["doctor", str(demo.root), str(tmp_path), "--camera", str(tmp_path / "camera.yaml")]
    assert main([*words, "--out", str(tmp_path / "out"), "--depth", str(tmp_path / "depth")]) == 1
    said = capsys.readouterr().out
    assert "the mesh seems 1.5 times too large" in said
    assert "or the focal length is off as much" in said
    assert "2 of 2 images have a valid pose" in said
    assert "- calibration: " in said
    told = float(said.split("focal length of about ")[1].split()[0])
    assert 0.75 < told / 600.0 < 1.33
    assert (tmp_path / "out/doctor.jpg").stat().st_size > 1000
    assert main([*words, "--distance", "-1"]) == 1
    assert "--distance: expected metres" in capsys.readouterr().err


def test_blur_and_hue() -> None:
    rng = np.random.default_rng(0)
    sharp = cv2.resize(rng.integers(0, 255, (60, 80, 3), np.uint8), (640, 480), interpolation=cv2.INTER_NEAREST)
    values = [image_faults.blur(cv2.GaussianBlur(sharp, (0, 0), sigma)) for sigma in (0.1, 2.0, 4.0)]
    assert values == sorted(values)
    assert values[0] < 0.65 < values[1]
    grey, red = np.full((50, 3), 120, np.uint8), np.tile(np.array([[200, 40, 40]], np.uint8), (50, 1))
    assert image_faults.hue_difference(grey, grey // 2) < 2.0 < 30.0 < image_faults.hue_difference(grey, red)
    assert image_faults.mean_colour(red) == "#c82828"
