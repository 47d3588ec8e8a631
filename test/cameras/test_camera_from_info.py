"""What CameraInfo means, and which ones are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import CameraModel, camera_from_info

K = [800.0, 0.0, 325.5, 0.0, 790.0, 238.0, 0.0, 0.0, 1.0]
P = [700.0, 0.0, 300.0, -70.0, 0.0, 710.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0]
REPORTED = Path(__file__).parents[3] / "shared/data/reports/04_camera_info_messages.json"
GOOD: dict[str, Any] = {"width": 640, "height": 480, "distortion_model": "plumb_bob", "d": [0.1] * 5, "k": K, "p": P}


@pytest.mark.parametrize(
    ("name", "d", "model"),
    [
        ("plumb_bob", [0.1] * 5, CameraModel.BROWN_CONRADY),
        ("plumb_bob", [0.0] * 5, CameraModel.PINHOLE),
        ("plumb_bob", [], CameraModel.PINHOLE),
        ("", [], CameraModel.PINHOLE),
        ("rational_polynomial", [0.1] * 8, CameraModel.BROWN_CONRADY),
        ("rational_polynomial", [0.1] * 14, CameraModel.BROWN_CONRADY),
        ("equidistant", [0.0] * 4, CameraModel.KANNALA_BRANDT),
        ("fisheye", [0.1] * 4, CameraModel.KANNALA_BRANDT),
    ],
)
def test_models_and_aliases(name: str, d: list[float], model: CameraModel) -> None:
    camera = camera_from_info(640, 480, name, d, K)
    assert camera.model is model
    assert camera.intrinsics.tolist() == [800.0, 790.0, 325.5, 238.0]
    assert camera.intrinsics.dtype == torch.float32
    torch.testing.assert_close(camera.distortion[: len(d)], torch.tensor(d)[: camera.distortion.numel()])
    assert not camera.distortion[len(d) :].any()


@pytest.mark.parametrize(
    ("name", "d", "model", "kept"),
    [
        ("equidistant", [-0.00217, 0.0376, -0.0364, 0.00594, 0.0], CameraModel.KANNALA_BRANDT, 4),
        ("equidistant", [0.0] * 8, CameraModel.KANNALA_BRANDT, 4),
        ("kannala_brandt4", [0.1] * 4, CameraModel.KANNALA_BRANDT, 4),
        ("", [0.0] * 5, CameraModel.PINHOLE, 0),
        ("", [0.1, 0.2, 0.0, 0.0, 0.0], CameraModel.BROWN_CONRADY, 2),
        ("plumb_bob", [0.0], CameraModel.PINHOLE, 0),
        ("plumb_bob", [0.1, 0.0, 0.0, 0.0, 0.0, 0.0], CameraModel.BROWN_CONRADY, 1),
        ("Plumb Bob", [0.1] * 5, CameraModel.BROWN_CONRADY, 5),
        ("Brown Conrady", [0.1] * 5, CameraModel.BROWN_CONRADY, 5),
        ("radtan", [0.1] * 4, CameraModel.BROWN_CONRADY, 4),
        ("Inverse Brown Conrady", [0.0] * 5, CameraModel.PINHOLE, 0),
        ("None", [0.0] * 5, CameraModel.PINHOLE, 0),
    ],
)
def test_names_and_padding_as_drivers_write_them(name: str, d: list[float], model: CameraModel, kept: int) -> None:
    camera = camera_from_info(640, 480, name, d, K)
    assert camera.model is model
    assert camera.distortion[:kept].tolist() == pytest.approx(d[:kept])
    assert not camera.distortion[kept:].any()


@pytest.mark.skipif(not REPORTED.is_file(), reason="no reported messages on this machine")
def test_messages_of_public_reports() -> None:
    for message in json.loads(REPORTED.read_text())["messages"]:
        fields = message["width"], message["height"], message["distortion_model"], message["d"], message["k"]
        if "skew" in message["name"]:
            with pytest.raises(ValueError, match=r"camera_info\.k: expected no skew .* got 4.26466"):
                camera_from_info(*fields)
            continue
        camera = camera_from_info(*fields)
        assert (camera.width, camera.height) == (message["width"], message["height"])
        assert camera.intrinsics.tolist() == pytest.approx([message["k"][i] for i in (0, 4, 2, 5)])
        assert not camera.distortion[4:].any()
        if message["right"] == "pinhole":
            assert camera.model is CameraModel.PINHOLE
        else:
            assert camera.distortion[:4].tolist() == pytest.approx(message["d"][:4])


def test_numpy_arrays_as_a_message_holds_them() -> None:
    camera = camera_from_info(640, 480, "plumb_bob", np.full(5, 0.1), np.array(K), np.array(P))  # type: ignore[arg-type]
    assert camera.model is CameraModel.BROWN_CONRADY


def test_rectified_takes_p_without_distortion() -> None:
    camera = camera_from_info(**GOOD, rectified=True)
    assert camera.model is CameraModel.PINHOLE
    assert camera.intrinsics.tolist() == [700.0, 710.0, 300.0, 250.0]


def test_roi_then_binning_in_full_resolution_pixels() -> None:
    camera = camera_from_info(**GOOD, binning_x=2, binning_y=4, roi=(100, 40, 301, 200))
    assert (camera.width, camera.height) == (150, 50)
    full = camera_from_info(**GOOD).project(torch.tensor([[0.1, 0.05, 1.0]]))
    binned = (full - torch.tensor([100.0, 40.0]) + 0.5) / torch.tensor([2.0, 4.0]) - 0.5
    torch.testing.assert_close(camera.project(torch.tensor([[0.1, 0.05, 1.0]])), binned)


@pytest.mark.parametrize("roi", [None, (0, 0, 0, 0), (0, 0, 640, 480)])
@pytest.mark.parametrize("binning", [0, 1])
def test_no_roi_and_no_binning(roi: tuple[int, int, int, int] | None, binning: int) -> None:
    camera = camera_from_info(**GOOD, binning_x=binning, binning_y=binning, roi=roi)
    assert (camera.width, camera.height) == (640, 480)
    assert camera.intrinsics.tolist() == [800.0, 790.0, 325.5, 238.0]


def changed(values: list[float], index: int, value: float) -> list[float]:
    return [*values[:index], value, *values[index + 1 :]]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"width": 0}, r"camera_info\.width.*0"),
        ({"height": -1}, r"camera_info\.height"),
        ({"distortion_model": "plum_bop"}, r"distortion_model: expected one of .*'plum_bop'; nearest is plumb_bob"),
        ({"distortion_model": "fov"}, r"distortion_model: expected one of .*'fov'"),
        ({"distortion_model": "none"}, r"camera_info\.d: expected only zeros"),
        ({"distortion_model": "inverse_brown_conrady"}, r"distortion_model: expected one of .*nearest is plumb_bob"),
        ({"d": [0.1] * 6}, r"camera_info\.d: expected .* for plumb_bob, got 6, the last being 0.1 where .* has k4"),
        ({"d": [0.1] * 3}, r"camera_info\.d: expected .* got 3"),
        ({"d": [0.1] * 15}, r"camera_info\.d: expected .* got 15"),
        ({"distortion_model": "fisheye"}, r"camera_info\.d: expected 4 numbers .* a fifth, 0.1, that is not 0"),
        ({"distortion_model": "fisheye", "d": [0.1] * 3}, r"camera_info\.d: expected 4 numbers .* got 3"),
        ({"d": changed([0.1] * 5, 2, float("nan"))}, r"camera_info\.d: expected finite"),
        ({"k": K[:8]}, r"camera_info\.k: expected 9 numbers, got 8"),
        ({"k": changed(K, 2, float("nan"))}, r"camera_info\.k: expected finite"),
        ({"k": [0.0] * 9}, r"K\[0\] == 0 means that the camera is uncalibrated"),
        ({"k": changed(K, 4, -1.0)}, r"camera_info\.k: expected focal lengths"),
        ({"k": changed(K, 1, 3.0)}, r"camera_info\.k: expected no skew"),
        ({"p": None, "rectified": True}, r"camera_info\.p: needed"),
        ({"p": [0.0] * 12, "rectified": True}, r"camera_info\.p: expected focal lengths"),
        ({"p": P[:9], "rectified": True}, r"camera_info\.p: expected 12 numbers"),
        ({"roi": (600, 0, 100, 100)}, r"camera_info\.roi: expected a window inside the 640x480"),
        ({"roi": (10, 10, 0, 0)}, r"camera_info\.roi"),
        ({"binning_x": -2}, r"camera_info\.binning_x"),
        ({"binning_y": 500}, r"camera_info\.binning"),
    ],
)
def test_refusals_name_the_field(field: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        camera_from_info(**{**GOOD, **field})
