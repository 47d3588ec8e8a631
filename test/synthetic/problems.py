"""A varied generator of PnP problems with known poses: what real cameras, objects and matchers do to a solver.

One :class:`Case` is a cell of a table; :func:`draw` makes any number of problems of it, the same for the same seed.
Nothing here uses the package's projection or derivatives: points are projected by OpenCV (:mod:`synthetic.lenses`) and
the covariance that no unbiased estimator can beat comes from differences of it. The package's types are only the form
in which a solver gets the problem.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from pnp_ros.types import Correspondences, Pose
from synthetic.lenses import Array, Lens, lens

Shape = Literal["volume", "flat", "line"]
Outliers = Literal["uniform", "near", "clustered", "second", "shuffled"]
Weights = Literal["right", "half", "double", "axes", "full"]

ROUNDS = 200  # to draw points that are inside the image
LINE_THICKNESS = 0.03  # of a line-like object, for its length
MAX_TILT = math.radians(75.0)  # of a flat object's normal against the ray
MAX_ANGLE = math.radians(65.0)  # between the optical axis and the object's centre, for a fisheye
MAX_POINT_ANGLE = math.radians(80.0)  # and its points
BORDER = 1.0  # px
NEAR = (6.0, 30.0)  # standard deviations between a near outlier and its right place
CLUSTER = 0.04  # standard deviation of clustered outliers, for the image's width
SURE = 40.0  # squared distance in standard deviations, of 6 degrees of freedom: 5e-7 of right poses are farther away


@dataclass(frozen=True)
class Case:
    """A kind of problem.

    Args:
        n: correspondences N.
        outliers: share of them that is wrong, rounded to whole points.
        kind: of the outliers: ``uniform`` over the image; ``near`` the right place; ``clustered`` in one spot;
            ``second``: on a second instance of the object; ``shuffled``: on the image of another point of the object.
        lens: a name of :data:`synthetic.lenses.LENSES`.
        width: of the image in pixels; None is the lens's own.
        sigma: standard deviation of an image point in pixels (``axes`` and ``full``: the geometric mean).
        extent: diameter of the object's image as a share of the image's height.
        off_centre: of the object's image: 0 is always central, 1 anywhere inside the image.
        shape: of the object.
        weights: ``right``; ``half`` or ``double`` of what is right; ``axes``: other deviations on each axis, known;
            ``full``: elongated in any direction, known, given as (N, 2, 2) square-root information.
        noise_only: no point has to do with the object at all.
    """

    n: int = 64
    outliers: float = 0.0
    kind: Outliers = "uniform"
    lens: str = "pinhole"
    width: int | None = None
    sigma: float = 1.0
    extent: float = 0.4
    off_centre: float = 1.0
    shape: Shape = "volume"
    weights: Weights = "right"
    noise_only: bool = False

    def __str__(self) -> str:
        """What is not as usual."""
        usual = Case()
        parts = [
            f"{field.name} {getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if field.name in ("n", "outliers") or getattr(self, field.name) != getattr(usual, field.name)
        ]
        return ", ".join(parts)


@dataclass(frozen=True)
class Problems:
    """B problems of N points.

    Args:
        case: what they are.
        lens: of all of them.
        image_points: (B, N, 2) px.
        object_points: (B, N, 3) m.
        whitening: (B, N, 2, 2) true square-root information W of the image points: ``W cov W^T = 1``, 1/px.
        rotation: (B, 3, 3) of the true pose.
        translation: (B, 3) m.
        inlier: (B, N) bool.
    """

    case: Case
    lens: Lens
    image_points: Array
    object_points: Array
    whitening: Array
    rotation: Array
    translation: Array
    inlier: np.ndarray

    def __len__(self) -> int:
        return len(self.rotation)

    def first(self, count: int) -> Problems:
        """The first ``count`` of them."""
        return self.part(0, count)

    def part(self, start: int, stop: int) -> Problems:
        """Those from ``start`` to ``stop``."""
        arrays = {
            field.name: getattr(self, field.name)[start:stop]
            for field in dataclasses.fields(self)
            if field.name not in ("case", "lens")
        }
        return dataclasses.replace(self, **arrays)

    def correspondences(self, dtype: torch.dtype = torch.float32) -> Correspondences:
        """As the solver gets them: with the weights that the case says."""
        factor = {"half": 0.5, "double": 2.0}.get(self.case.weights, 1.0)
        diagonal = np.diagonal(self.whitening, axis1=-2, axis2=-1)
        weights = factor * (self.whitening if self.case.weights == "full" else diagonal)
        tensors = (torch.from_numpy(np.array(x)) for x in (self.image_points, self.object_points, weights))
        return Correspondences(*(x.to(dtype) for x in tensors))

    def truth(self, dtype: torch.dtype = torch.float64) -> Pose:
        """``T_camera_object``."""
        return Pose(torch.from_numpy(self.rotation).to(dtype), torch.from_numpy(self.translation).to(dtype))

    def covariance(self) -> Array:
        """(B, 6, 6) of [dt, dtheta] at the truth, from the true inliers with their true noise: the Cramer-Rao bound.

        Infinite where they do not determine the pose.
        """
        rotated = self.object_points @ np.swapaxes(self.rotation, -1, -2)
        points = rotated + self.translation[:, None]
        step = 1e-5 * np.abs(self.translation[:, 2]).max()
        columns = []
        for axis in np.eye(3):
            ahead, back = self.lens.project(points + step * axis), self.lens.project(points - step * axis)
            columns.append((ahead - back) / (2.0 * step))
        by_point = np.stack(columns, axis=-1)  # (B, N, 2, 3)
        x, y, z = (rotated[..., None, i] for i in range(3))
        a, b, c = (by_point[..., i] for i in range(3))
        by_turn = np.stack([y * c - z * b, z * a - x * c, x * b - y * a], axis=-1)  # d (dtheta x q): q x row
        rows = np.concatenate([by_point, by_turn], axis=-1)
        jacobian = self.whitening[..., :1] * rows[..., :1, :] + self.whitening[..., 1:] * rows[..., 1:, :]
        jacobian = (jacobian * self.inlier[..., None, None]).reshape(len(self), -1, 6)
        information = np.swapaxes(jacobian, -1, -2) @ jacobian
        scale = np.sqrt(np.maximum(np.diagonal(information, axis1=-2, axis2=-1), 1e-30))
        scaled = information / (scale[:, :, None] * scale[:, None, :])
        determined = np.linalg.eigvalsh(scaled)[:, 0] > 1e-12
        scaled[~determined] = np.eye(6)
        covariance = np.linalg.inv(scaled) / (scale[:, :, None] * scale[:, None, :])
        covariance[~determined] = np.inf
        return covariance

    def errors(self, pose: Pose) -> tuple[Array, Array, Array]:
        """Rotation error (B) in degrees, translation error (B) as a share of the distance, and the step (B, 6).

        The step [dt, dtheta] leads from ``pose`` to the truth.
        """
        rotation = pose.rotation.detach().double().numpy()
        translation = pose.translation.detach().double().numpy()
        turn = _log(self.rotation @ np.swapaxes(rotation, -1, -2))
        move = self.translation - translation
        distance = np.linalg.norm(self.translation, axis=-1)
        degrees = np.degrees(np.linalg.norm(turn, axis=-1))
        return degrees, np.linalg.norm(move, axis=-1) / distance, np.concatenate([move, turn], axis=-1)

    def right(self, pose: Pose) -> np.ndarray:
        """(B) whether a pose is as good as can be asked for.

        It is within 5 degrees and 5 % of the distance, or no farther from the truth than the noise of the inliers
        explains: a small far object may not be determined any better.
        """
        degrees, share, step = self.errors(pose)
        covariance = self.covariance()
        known = np.isfinite(covariance).all(axis=(-2, -1))
        covariance[~known] = 1e-12 * np.eye(6)
        with np.errstate(invalid="ignore", over="ignore"):
            distance2 = np.einsum("bi,bij,bj->b", step, np.linalg.inv(covariance), step)
        return ((degrees < 5.0) & (share < 0.05)) | (distance2 < SURE)


def draw(case: Case, count: int, seed: int = 0) -> Problems:
    """``count`` problems of a case; the same for the same seed, and other ones for every other case.

    Raises:
        ValueError: if the object does not fit into the image.
    """
    generator = np.random.default_rng([seed, *str(case).encode()])
    view = lens(case.lens, case.width)
    n = case.n
    diameter = np.exp(generator.uniform(math.log(0.05), math.log(0.5), (count, 1)))
    rotation, translation = _poses(case, view, diameter, generator)
    points, exact = _points_in_view(case, view, diameter, rotation, translation, n, generator)

    whitening, deviation = _noise_model(case, (count, n), generator)
    noisy = exact + (deviation @ generator.standard_normal((count, n, 2, 1)))[..., 0]
    wrong = np.argsort(generator.random((count, n)), axis=-1) < round((1.0 if case.noise_only else case.outliers) * n)
    outliers = _outliers(case, view, diameter, points, noisy, generator)
    image_points = np.where(wrong[..., None], outliers, noisy)
    return Problems(case, view, image_points, points, whitening, rotation, translation, ~wrong)


def _poses(case: Case, view: Lens, diameter: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """Rotations (B, 3, 3) and translations (B, 3): an object at a pixel, as large as the case says."""
    count = len(diameter)
    size = np.array([view.width, view.height], np.float64)
    reach = np.maximum(0.5 * size - 0.6 * case.extent * view.height - BORDER, 0.0)
    bearing = np.zeros((count, 3))
    for _ in range(ROUNDS):
        outside = bearing[:, 2] < math.cos(MAX_ANGLE)
        pixel = 0.5 * (size - 1.0) + case.off_centre * reach * generator.uniform(-1.0, 1.0, (int(outside.sum()), 2))
        bearing[outside] = view.unproject(pixel)
    distance = diameter * math.sqrt(view.focal[0] * view.focal[1]) / (case.extent * view.height)
    rotation = _random_rotations(count, generator)
    if case.shape == "flat":
        for _ in range(ROUNDS):
            steep = np.abs(np.einsum("bi,bi->b", rotation[:, :, 2], bearing)) < math.cos(MAX_TILT)
            rotation[steep] = _random_rotations(int(steep.sum()), generator)
    return rotation, bearing * np.maximum(distance, 0.7 * diameter)


def _points_in_view(
    case: Case,
    view: Lens,
    diameter: Array,
    rotation: Array,
    translation: Array,
    n: int,
    generator: np.random.Generator,
) -> tuple[Array, Array]:
    """Object points (B, N, 3) and their exact image points (B, N, 2), all inside the image."""
    count = len(diameter)
    shape = {"volume": (1.0, 0.8, 0.6), "flat": (1.0, 0.8, 0.0), "line": (1.0, LINE_THICKNESS, LINE_THICKNESS)}
    box = np.array(shape[case.shape])
    box = box / np.linalg.norm(box)
    points, exact = np.zeros((count, n, 3)), np.zeros((count, n, 2))
    missing = np.ones((count, n), bool)
    for _ in range(ROUNDS):
        which, _ = np.nonzero(missing)
        new = box * diameter[which] * generator.uniform(-0.5, 0.5, (len(which), 3))
        camera_frame = np.einsum("pij,pj->pi", rotation[which], new) + translation[which]
        pixels = view.project(camera_frame)
        inside = (pixels > BORDER).all(-1) & (pixels < np.array([view.width, view.height]) - 1 - BORDER).all(-1)
        inside &= camera_frame[:, 2] > math.cos(MAX_POINT_ANGLE) * np.linalg.norm(camera_frame, axis=-1)
        points[missing], exact[missing] = new, pixels
        missing[missing] = ~inside
        if not missing.any():
            return points, exact
    raise ValueError(f"extent: expected an object that fits into the image, got {case}")


def _noise_model(case: Case, size: tuple[int, int], generator: np.random.Generator) -> tuple[Array, Array]:
    """Square-root information W and a root L of the covariance, both (B, N, 2, 2): ``W L`` is orthogonal."""
    ratio = np.zeros(size)
    if case.weights in ("axes", "full"):
        ratio = generator.uniform(-math.log(3.0), math.log(3.0), size)
    deviations = case.sigma * np.stack([np.exp(ratio), np.exp(-ratio)], axis=-1)
    turn = np.broadcast_to(np.eye(2), (*size, 2, 2))
    if case.weights == "full":
        angle = generator.uniform(0.0, math.pi, size)
        turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], axis=-1).reshape(*size, 2, 2)
    return turn / deviations[..., :, None], np.swapaxes(turn, -1, -2) * deviations[..., None, :]


def _outliers(
    case: Case, view: Lens, diameter: Array, points: Array, noisy: Array, generator: np.random.Generator
) -> Array:
    """An image point (B, N, 2) for each point, in case that it is one."""
    count, n = noisy.shape[:2]
    size = np.array([view.width, view.height], np.float64)
    if case.noise_only or case.kind == "uniform":
        return generator.random((count, n, 2)) * size
    if case.kind == "near":
        angle = generator.uniform(0.0, 2.0 * math.pi, (count, n))
        radius = case.sigma * generator.uniform(*NEAR, (count, n, 1))
        return noisy + radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    if case.kind == "clustered":
        spot = generator.random((count, 1, 2)) * size
        return spot + CLUSTER * view.width * generator.standard_normal((count, n, 2))
    if case.kind == "shuffled":
        return np.roll(noisy, generator.integers(1, max(n, 2)), axis=1)
    rotation, translation = _poses(case, view, diameter, generator)
    camera_frame = points @ np.swapaxes(rotation, -1, -2) + translation[:, None]
    camera_frame[..., 2] = np.maximum(camera_frame[..., 2], 0.05 * diameter)
    return view.project(camera_frame) + case.sigma * generator.standard_normal((count, n, 2))


def _random_rotations(count: int, generator: np.random.Generator) -> Array:
    """(B, 3, 3), uniform: from unit quaternions."""
    q = generator.standard_normal((count, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=-1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2).reshape(count, 3, 3)


def _log(rotation: Array) -> Array:
    """Rotation vectors (B, 3) of rotation matrices (B, 3, 3)."""
    skew = 0.5 * np.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        axis=-1,
    )
    sine = np.linalg.norm(skew, axis=-1)
    cosine = 0.5 * (np.trace(rotation, axis1=-2, axis2=-1) - 1.0)
    angle = np.arctan2(sine, cosine)
    factor = np.where(sine > 1e-9, angle / np.maximum(sine, 1e-12), 1.0)
    vector = factor[:, None] * skew
    # near half a turn the skew part vanishes: the axis is a column of R + 1
    half = (cosine < -0.999) & (sine < 0.05)
    if half.any():
        outer = rotation[half] + np.eye(3)
        column = outer[np.arange(len(outer)), :, np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)]
        vector[half] = angle[half, None] * column / np.linalg.norm(column, axis=-1, keepdims=True)
    return vector
