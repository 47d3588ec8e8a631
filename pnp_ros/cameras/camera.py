"""The camera: a lens model with its parameters, and how ``sensor_msgs/CameraInfo`` describes one."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pnp_ros.cameras import brown_conrady, kannala_brandt, pinhole
from pnp_ros.cameras.distortion_models import CameraModel as CameraModel
from pnp_ros.cameras.distortion_models import lens_and_coefficients


class _Lens(Protocol):
    def project(self, points: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]: ...
    def unproject(self, plane: Tensor, distortion: Tensor) -> Tensor: ...


_LENSES: dict[CameraModel, _Lens] = {
    CameraModel.PINHOLE: pinhole,
    CameraModel.BROWN_CONRADY: brown_conrady,
    CameraModel.KANNALA_BRANDT: kannala_brandt,
}
_NUM_COEFFICIENTS = {
    CameraModel.PINHOLE: 0,
    CameraModel.BROWN_CONRADY: brown_conrady.NUM_COEFFICIENTS,
    CameraModel.KANNALA_BRANDT: kannala_brandt.NUM_COEFFICIENTS,
}
_SKEW = 1e-6  # over the focal length: less than that is rounding


@dataclass(frozen=True, eq=False, repr=False)
class Camera:
    """One camera, or a batch of cameras of one model and image size.

    Values are checked where that is free: on the CPU, not on a GPU, which would have to be waited for.

    Args:
        model: the lens model.
        intrinsics: (..., 4) fx, fy, cx, cy in pixels.
        distortion: (..., D); D = 0 (pinhole), 14 (Brown-Conrady, OpenCV's order k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4
            tx ty, zero padded) or 4 (Kannala-Brandt k1 k2 k3 k4).
        width: of the image in pixels.
        height: of the image in pixels.
        sigmas: standard deviations of fx, fy, cx, cy by the calibration, pixels; empty: not known.

    Raises:
        ValueError: if a field does not fit; the message names it.
    """

    model: CameraModel
    intrinsics: Tensor
    distortion: Tensor
    width: int
    height: int
    sigmas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", CameraModel(self.model))
        for name in ("intrinsics", "distortion"):
            value = getattr(self, name)
            if not isinstance(value, Tensor) or not value.is_floating_point():
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name}: expected a tensor of floating-point numbers, got {kind}")
        if self.intrinsics.shape[-1:] != (4,):
            shape = tuple(self.intrinsics.shape)
            hint = "; Camera.from_matrix takes a matrix K" if shape[-2:] == (3, 3) else ""
            raise ValueError(f"intrinsics: expected shape (..., 4) with fx, fy, cx, cy, got {shape}{hint}")
        count = _NUM_COEFFICIENTS[self.model]
        if self.distortion.shape[-1:] != (count,):
            shape = tuple(self.distortion.shape)
            raise ValueError(f"distortion: expected shape (..., {count}) for {self.model.value}, got {shape}")
        for name in ("width", "height"):
            size = getattr(self, name)
            if not isinstance(size, numbers.Integral) or size <= 0:
                raise ValueError(f"{name}: expected a whole number of pixels, more than 0, got {size}")
        if len(self.sigmas) not in (0, 4) or not all(math.isfinite(v) and v >= 0.0 for v in self.sigmas):
            raise ValueError(f"sigmas: expected four numbers of 0 or more, or none, got {self.sigmas}")
        if self.intrinsics.device.type == "cpu":
            self._check_values()

    def __repr__(self) -> str:
        what = [f"{self.model.value} {self.width}x{self.height}"]
        if self.intrinsics.ndim == 1:
            names = zip(("fx", "fy", "cx", "cy"), self.intrinsics.tolist())
            what += [f"{name} {value:.6g}" for name, value in names]
        else:
            what.append(f"batch {tuple(self.intrinsics.shape[:-1])}")
        if self.distortion.ndim == 1 and len(self.distortion):
            what.append(f"distortion [{', '.join(f'{value:.4g}' for value in self.distortion.tolist())}]")
        return f"Camera({', '.join(what)})"

    def _check_values(self) -> None:
        for name, value in (("intrinsics", self.intrinsics), ("distortion", self.distortion)):
            sound = all(map(math.isfinite, value.tolist())) if value.ndim == 1 else bool(value.isfinite().all())
            if not sound:
                limit = f" within {value.dtype}" if value.isinf().any() else ""
                raise ValueError(f"{name}: expected finite numbers{limit}, got {_some(value, ~value.isfinite())}")
        if self.intrinsics.ndim == 1 and min(self.intrinsics.tolist()[:2]) > 0.0:
            return  # a tenth of what torch takes for four numbers
        focal = self.intrinsics[..., :2]
        if not (focal > 0).all():
            raise ValueError(f"intrinsics: expected focal lengths fx, fy > 0 px, got {_some(focal, focal <= 0)}")

    def check_image(self, image: NDArray[np.generic]) -> None:
        """Refuse what cannot be an image of this camera.

        Raises:
            ValueError: if it is not (height, width, 3) uint8.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        if (width, height) != (self.width, self.height):
            expected = f"{self.width}x{self.height} pixels as the camera has"
            raise ValueError(f"image: expected {expected}, got {width}x{height}")

    @classmethod
    def pinhole(cls, fx: float, fy: float, cx: float, cy: float, width: int, height: int) -> Camera:
        """A float32 camera without distortion; focal lengths and principal point in pixels."""
        intrinsics = torch.tensor([fx, fy, cx, cy], dtype=torch.float32)
        return cls(CameraModel.PINHOLE, intrinsics, torch.zeros(0), width, height)

    @classmethod
    def from_matrix(
        cls,
        matrix: ArrayLike | Tensor,
        distortion: ArrayLike | Tensor = (),
        *,
        width: int,
        height: int,
        model: str = "plumb_bob",
        dtype: torch.dtype = torch.float32,
    ) -> Camera:
        """The camera of a matrix K and coefficients, as OpenCV's calibration and most data sets give them.

        Args:
            matrix: (3, 3) ``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]``, or its 9 numbers.
            distortion: coefficients in OpenCV's order, in any shape; none is no distortion.
            width: of the image in pixels.
            height: of the image in pixels.
            model: ROS's name of the lens: ``plumb_bob``, ``rational_polynomial`` or ``equidistant`` (``cv2.fisheye``).
            dtype: of the camera's tensors.

        Raises:
            ValueError: if an argument does not fit; the message names it.

        Example:
            >>> k = [[600, 0, 320], [0, 600, 240], [0, 0, 1]]
            >>> camera = Camera.from_matrix(k, [-0.3, 0.1], width=640, height=480)
            >>> camera.project(torch.tensor([[0.1, 0.0, 1.0]])).round()
            tensor([[380., 240.]])
        """
        k, d = (torch.as_tensor(value, dtype=torch.float64).flatten().tolist() for value in (matrix, distortion))
        return camera_from_info(width, height, model, d, k, dtype=dtype)

    def project(self, points: Tensor) -> Tensor:
        """Pixels (..., N, 2) of points (..., N, 3) of the camera frame.

        Meaningful for points in front of the camera (a fisheye: at any angle its polynomial holds for); all others
        give finite pixels, those behind a camera that is no fisheye far outside of the image.
        """
        return self.project_with_jacobian(points)[0]

    def project_with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (..., N, 2) of points (..., N, 3), and d pixel / d point (..., N, 2, 3) in px/m."""
        plane, jacobian = _LENSES[self.model].project(points, self.distortion)
        focal, centre = self._focal_and_centre()
        return plane * focal + centre, jacobian * focal[..., None]

    def unproject(self, pixels: Tensor) -> Tensor:
        """Unit bearings (..., N, 3), in the camera frame, of the rays through pixels (..., N, 2).

        NaN where there is no ray: distortion that turns back at some radius (all polynomials do) maps nothing to the
        pixels beyond, and a point that is measured there is none. Its gradient is zero.
        """
        focal, centre = self._focal_and_centre()
        return _LENSES[self.model].unproject((pixels - centre) / focal, self.distortion)

    def _focal_and_centre(self) -> tuple[Tensor, Tensor]:
        return self.intrinsics[..., None, :2], self.intrinsics[..., None, 2:]

    def matrix(self) -> Tensor:
        """The calibration matrix K (..., 3, 3)."""
        fx, fy, cx, cy = self.intrinsics.unbind(-1)
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        return torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], dim=-1).unflatten(-1, (3, 3))

    def crop(
        self,
        x: float | Tensor,
        y: float | Tensor,
        width: float | Tensor,
        height: float | Tensor,
        out_width: int,
        out_height: int,
    ) -> Camera:
        """The camera of a window of the image, resized.

        Args:
            x: the window's left column: its edge is the outer edge of this pixel, half a pixel before its centre.
            y: the window's top row, likewise.
            width: of the window in pixels; may be fractional, and a tensor (...) for a batch of windows, as all four.
            height: of the window in pixels.
            out_width: of the resized window in pixels.
            out_height: of the resized window in pixels.
        """
        origin = torch.stack([torch.as_tensor(v).to(self.intrinsics) for v in (x, y)], dim=-1)
        window = torch.stack([torch.as_tensor(v).to(self.intrinsics) for v in (width, height)], dim=-1)
        scale = torch.tensor([out_width, out_height]).to(self.intrinsics) / window
        focal = self.intrinsics[..., :2] * scale
        centre = (self.intrinsics[..., 2:] - origin + 0.5) * scale - 0.5
        sigmas = tuple(v * s for v, s in zip(self.sigmas, 2 * scale.tolist())) if scale.ndim == 1 else ()
        both = torch.cat([focal, centre], dim=-1)
        return replace(self, intrinsics=both, width=out_width, height=out_height, sigmas=sigmas)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Camera:
        """The camera with its tensors on another device or of another floating type."""
        return replace(
            self,
            intrinsics=self.intrinsics.to(device=device, dtype=dtype),
            distortion=self.distortion.to(device=device, dtype=dtype),
        )


def camera_from_info(
    width: int,
    height: int,
    distortion_model: str,
    d: Sequence[float],
    k: Sequence[float],
    p: Sequence[float] | None = None,
    rectified: bool = False,
    binning_x: int = 0,
    binning_y: int = 0,
    roi: tuple[int, int, int, int] | None = None,
    dtype: torch.dtype = torch.float32,
    sigmas: tuple[float, ...] = (),
) -> Camera:
    """The camera of the image that comes with a ``sensor_msgs/CameraInfo``.

    Width, height, K and P describe the full-resolution image. The ROI cuts a window out of it, and the binning then
    averages blocks of pixels. Pixel centres stay at integer coordinates throughout, so binning by b maps u to
    ``(u + 0.5) / b - 0.5``; ROS's image_geometry leaves the half pixels out.

    Args:
        width: full resolution, pixels.
        height: full resolution, pixels.
        distortion_model: of :mod:`pnp_ros.cameras.distortion_models`: ``plumb_bob`` or ``rational_polynomial``
            (coefficients in OpenCV's order), ``equidistant``, or an alias.
        d: distortion coefficients of the raw image; zeros at the end say nothing.
        k: (9) row-major K of the raw image.
        p: (12) row-major P of the rectified image; needed if ``rectified``.
        rectified: the image is the rectified one: P, no distortion. P's fourth column (a stereo pair's baseline) is
            left out: poses are in this camera's own frame.
        binning_x: 0 means 1.
        binning_y: 0 means 1.
        roi: x_offset, y_offset, width, height in full-resolution pixels; None or all zeros means the full image.
        dtype: of the camera's tensors.
        sigmas: standard deviations of fx, fy, cx, cy at full resolution; empty: not known.

    Raises:
        ValueError: if a field is missing, not finite or contradicts another; the message names it.
    """
    for name, size in (("width", width), ("height", height)):
        if size <= 0:
            raise ValueError(f"camera_info.{name}: expected more than 0 pixels, got {size}")
    intrinsics = _intrinsics_of_p(p) if rectified else _intrinsics_of_k(k)
    model, distortion = (CameraModel.PINHOLE, []) if rectified else _distortion(distortion_model, d)
    distortion = distortion + [0.0] * (_NUM_COEFFICIENTS[model] - len(distortion))
    tensors = torch.tensor(intrinsics, dtype=dtype), torch.tensor(distortion, dtype=dtype)
    camera = Camera(model, *tensors, width, height, sigmas)
    return _window(camera, roi, binning_x, binning_y)


def _some(value: Tensor, wrong: Tensor) -> float:
    """The first of the values that are wrong."""
    return float(value.detach()[wrong][0])


def _check_numbers(name: str, values: Sequence[float], count: int | None = None) -> None:
    if count is not None and len(values) != count:
        raise ValueError(f"camera_info.{name}: expected {count} numbers, got {len(values)}")
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"camera_info.{name}: expected finite numbers, got {list(values)}")


def _intrinsics_of_k(k: Sequence[float]) -> list[float]:
    _check_numbers("k", k, 9)
    if k[0] == 0:
        raise ValueError("camera_info.k: K[0] == 0 means that the camera is uncalibrated; calibrate it first")
    if k[0] < 0 or k[4] <= 0:
        raise ValueError(f"camera_info.k: expected focal lengths fx, fy > 0, got {k[0]}, {k[4]}")
    if abs(k[1]) > _SKEW * k[0]:
        raise ValueError(f"camera_info.k: expected no skew (K[1] = 0), which is not modelled, got {k[1]}")
    if any(k[i] != 0 for i in (3, 6, 7)) or k[8] != 1:
        raise ValueError(f"camera_info.k: expected [fx 0 cx; 0 fy cy; 0 0 1], got {list(k)}")
    return [float(k[0]), float(k[4]), float(k[2]), float(k[5])]


def _intrinsics_of_p(p: Sequence[float] | None) -> list[float]:
    if p is None:
        raise ValueError("camera_info.p: needed for a rectified image")
    _check_numbers("p", p, 12)
    if p[0] <= 0 or p[5] <= 0:
        raise ValueError(f"camera_info.p: expected focal lengths fx', fy' > 0, got {p[0]}, {p[5]}")
    return [float(p[0]), float(p[5]), float(p[2]), float(p[6])]


def _distortion(distortion_model: str, d: Sequence[float]) -> tuple[CameraModel, list[float]]:
    _check_numbers("d", d)
    try:
        return lens_and_coefficients(distortion_model, [float(value) for value in d])
    except ValueError as error:
        raise ValueError(f"camera_info.{error}") from error


def _window(camera: Camera, roi: tuple[int, int, int, int] | None, binning_x: int, binning_y: int) -> Camera:
    for name, binning in (("binning_x", binning_x), ("binning_y", binning_y)):
        if binning < 0:
            raise ValueError(f"camera_info.{name}: expected 0 or more, got {binning}")
    x, y, width, height = (0, 0, camera.width, camera.height) if roi is None or not any(roi) else roi
    if min(x, y) < 0 or min(width, height) <= 0 or x + width > camera.width or y + height > camera.height:
        raise ValueError(
            f"camera_info.roi: expected a window inside the {camera.width}x{camera.height} image,"
            f" got x_offset {x}, y_offset {y}, width {width}, height {height}"
        )
    binning_x, binning_y = max(binning_x, 1), max(binning_y, 1)
    out_width, out_height = width // binning_x, height // binning_y
    if min(out_width, out_height) == 0:
        raise ValueError(f"camera_info.binning: {binning_x}x{binning_y} leaves nothing of {width}x{height} pixels")
    return camera.crop(x, y, out_width * binning_x, out_height * binning_y, out_width, out_height)
