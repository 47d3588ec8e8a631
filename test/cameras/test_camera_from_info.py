"""What CameraInfo means, and which ones are refused."""

from typing import Any

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import CameraModel, camera_from_info

K = [800.0, 0.0, 325.5, 0.0, 790.0, 238.0, 0.0, 0.0, 1.0]
P = [700.0, 0.0, 300.0, -70.0, 0.0, 710.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0]
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
        ({"distortion_model": "brown"}, r"distortion_model: expected one of .*plumb_bob.*'brown'"),
        ({"d": [0.1] * 6}, r"camera_info\.d: expected 0 or 4 or 5 .* got 6"),
        ({"distortion_model": "fisheye"}, r"camera_info\.d: expected 4 numbers, got 5"),
        ({"d": changed([0.1] * 5, 2, float("nan"))}, r"camera_info\.d: expected finite"),
        ({"k": K[:8]}, r"camera_info\.k: expected 9 numbers, got 8"),
        ({"k": changed(K, 2, float("nan"))}, r"camera_info\.k: expected finite"),
        ({"k": [0.0] * 9}, r"K\[0\] == 0 means that the camera is uncalibrated"),
        ({"k": changed(K, 4, -1.0)}, r"camera_info\.k: expected focal lengths"),
        ({"k": changed(K, 1, 3.0)}, r"camera_info\.k: expected \[fx 0 cx"),
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
