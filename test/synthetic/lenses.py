"""Lenses of real cameras, as users published them, and their projection by OpenCV: a second source beside ours.

Coefficients are in OpenCV's order. :func:`lens` scales a lens to another image width, so that each of them may be
anything from VGA to 4K.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera, CameraModel

Array = NDArray[np.float64]
_NUM_COEFFICIENTS = 14  # of the package's Brown-Conrady camera, zero padded


@dataclass(frozen=True)
class Lens:
    """A camera.

    Args:
        name: of the lens.
        width: of the image in pixels.
        height: of the image in pixels.
        focal: fx, fy in pixels.
        centre: cx, cy in pixels.
        distortion: OpenCV's coefficients: none, 4 to 14 of ``cv2.projectPoints``, or 4 of ``cv2.fisheye``.
        fisheye: which of the two.
    """

    name: str
    width: int
    height: int
    focal: tuple[float, float]
    centre: tuple[float, float]
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    def scaled(self, width: int) -> Lens:
        """The same lens before a sensor with other pixels."""
        s = width / self.width
        return replace(
            self,
            width=width,
            height=round(s * self.height),
            focal=(s * self.focal[0], s * self.focal[1]),
            centre=(s * (self.centre[0] + 0.5) - 0.5, s * (self.centre[1] + 0.5) - 0.5),
        )

    @property
    def matrix(self) -> Array:
        """K (3, 3)."""
        return np.array([[self.focal[0], 0.0, self.centre[0]], [0.0, self.focal[1], self.centre[1]], [0.0, 0.0, 1.0]])

    @property
    def coefficients(self) -> Array:
        """The distortion as OpenCV takes it."""
        return np.array(self.distortion or (0.0, 0.0, 0.0, 0.0))

    def project(self, points: Array) -> Array:
        """Pixels (..., 2) of points (..., 3) in front of the camera; a fisheye's may be at any angle."""
        if self.fisheye:  # cv2.fisheye ends at 90 degrees
            radius = np.linalg.norm(points[..., :2], axis=-1)
            bent, _ = self._bend(np.arctan2(radius, points[..., 2]))
            return points[..., :2] * (bent / np.maximum(radius, 1e-300))[..., None] * self.focal + self.centre
        if not points.size:
            return np.zeros((*points.shape[:-1], 2))
        flat, zero = np.ascontiguousarray(points.reshape(-1, 1, 3)), np.zeros(3)
        pixels, _ = cv2.projectPoints(flat, zero, zero, self.matrix, self.coefficients)
        return np.asarray(pixels, np.float64).reshape(*points.shape[:-1], 2)

    def unproject(self, pixels: Array) -> Array:
        """Unit bearings (..., 3) of pixels (..., 2), by Newton's method on :meth:`project` from the pinhole's."""
        plane = (pixels - self.centre) / self.focal
        if self.fisheye:
            radius = np.linalg.norm(plane, axis=-1)
            angle = radius.copy()
            for _ in range(20):
                bent, slope = self._bend(angle)
                angle = angle - (bent - radius) / slope
            xy = plane * (np.sin(angle) / np.maximum(radius, 1e-300))[..., None]
            return np.concatenate([xy, np.cos(angle)[..., None]], axis=-1)
        for _ in range(30):
            error = self.project(_ahead(plane)) - pixels
            columns = []
            for step in 1e-6 * np.eye(2):
                columns.append((self.project(_ahead(plane + step)) - self.project(_ahead(plane - step))) / 2e-6)
            delta = np.linalg.solve(np.stack(columns, axis=-1), error[..., None])[..., 0]
            length = np.linalg.norm(delta, axis=-1, keepdims=True)
            plane = plane - delta * np.minimum(1.0, 0.5 / np.maximum(length, 1e-12))
        bearings = _ahead(plane)
        return bearings / np.linalg.norm(bearings, axis=-1, keepdims=True)

    def _bend(self, angle: Array) -> tuple[Array, Array]:
        """A fisheye's radius on the plane for the angle to its axis, and its slope."""
        powers = 1.0 + 2.0 * np.arange(5)
        factors = np.array([1.0, *self.distortion])
        return (factors * angle[..., None] ** powers).sum(-1), (
            factors * powers * angle[..., None] ** (powers - 1)
        ).sum(-1)

    def camera(self, dtype: torch.dtype = torch.float32) -> Camera:
        """The package's camera."""
        intrinsics = torch.tensor([*self.focal, *self.centre], dtype=dtype)
        if self.fisheye:
            model, distortion = CameraModel.KANNALA_BRANDT, self.distortion
        elif self.distortion:
            padding = (0.0,) * (_NUM_COEFFICIENTS - len(self.distortion))
            model, distortion = CameraModel.BROWN_CONRADY, self.distortion + padding
        else:
            model, distortion = CameraModel.PINHOLE, ()
        return Camera(model, intrinsics, torch.tensor(distortion, dtype=dtype), self.width, self.height)


def _ahead(plane: Array) -> Array:
    return np.concatenate([plane, np.ones_like(plane[..., :1])], axis=-1)


LENSES = {
    lens.name: lens
    for lens in (
        Lens("pinhole", 640, 480, (600.0, 600.0), (319.5, 239.5)),
        Lens("tele", 640, 480, (1600.0, 1600.0), (319.5, 239.5)),
        Lens("mild", 640, 480, (535.9, 535.9), (342.3, 235.6), (-0.2664, -0.0386, 0.0018, -0.0003, 0.2384)),
        Lens("ip", 640, 480, (543.2, 543.1), (321.0, 191.0), (-0.480672, 0.184891, -0.001901, 0.002792, 0.0)),
        Lens("webcam", 320, 240, (167.2, 168.4), (141.7, 116.8), (-0.270722, 0.052308, -0.000257, 0.00298, 0.0)),
        Lens("tangential", 640, 360, (545.2, 540.9), (339.5, 181.4), (-0.5351, 0.369, 0.0147, -0.0034, -0.128)),
        Lens(
            "oak_d",
            1280,
            720,
            (1039.0, 1039.0),
            (628.5, 374.3),
            (-0.903, -54.6688, 0.000408, 0.000432, 411.0916, -1.0839, -52.5932, 401.5427),
        ),
        Lens(
            "rational_4k",
            3840,
            2160,
            (1820.0, 1820.0),
            (1917.0, 1101.0),
            (0.522, -2.69, 0.00056, -0.00018, 1.57, 0.400, -2.50, 1.49),
        ),
        Lens(
            "tilted_14",
            1920,
            1080,
            (1517.0, 1517.0),
            (958.0, 541.0),
            # as published, but for the thin prism
            (
                0.475456,
                -6.313311,
                0.001951,
                -0.000246,
                5.56228,
                0.462837,
                -6.285047,
                5.548323,
                5e-4,
                -3e-4,
                4e-4,
                -2e-4,
                -0.024792,
                -0.005829,
            ),
        ),
        Lens("fisheye", 848, 800, (285.2, 286.4), (419.2, 403.3), (-0.0065, 0.0438, -0.0414, 0.0079), fisheye=True),
    )
}


def lens(name: str, width: int | None = None) -> Lens:
    """A lens by its name, at its own image width or at another."""
    return LENSES[name] if width is None else LENSES[name].scaled(width)
