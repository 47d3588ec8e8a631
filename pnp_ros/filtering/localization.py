"""One pose of a still object from several images of one camera that moves: as precise as the views allow, not more.

Views of one camera share a part of their error: its focal length and the mesh's size are a little wrong in all of
them. Each such parameter moves the pose of view i by a known column ``s_i`` (:mod:`pnp_ros.alignment.uncertainty`), so
that the errors of views i and j have the covariance ``sum s_i s_j^T`` over the parameters, beside what is of one view
alone. From one side that part never averages out; from several sides what is of the camera points elsewhere each time,
while what is of the mesh turns with it. All views are therefore one measurement with one covariance, and the most
probable pose is that of generalised least squares (Aitken 1936). How far a view is from what the others say follows of
the same inverse (Cook, Weisberg, "Residuals and Influence in Regression", 1982, section 2.2).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pnp_ros.geometry import covariance, se3
from pnp_ros.types import Pose, PoseEstimate
from pnp_ros.types.tensors import Values

_ROUNDING = 1e-4  # of a variance: float32 may not tell what is left beside the common part
_ITERATIONS = 4  # the first step leads within the second order of the poses' differences


@dataclass(frozen=True, eq=False)
class View:
    """What one image told.

    Args:
        camera: ``T_fixed_camera`` when the image was taken.
        estimate: ``T_camera_object`` and its covariance, without batch dimensions.
        stamp: of the image, seconds.
        systematic: (6, M) part of the error that all views have in common, in the camera's axes; see
            :class:`~pnp_ros.pipeline.result.ObjectEstimate`. None where it is not known.
    """

    camera: Pose
    estimate: PoseEstimate
    stamp: float = 0.0
    systematic: Tensor | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Localized(Values):
    """What all views say together.

    Args:
        estimate: ``T_fixed_object`` and its covariance; None where two views are all there is and contradict each
            other.
        used: places in the list of the views that the estimate is made of.
        refused: places of those that contradict the rest.
        distances: squared Mahalanobis distance of each view from all others that are used, six degrees of freedom; NaN
            for a single one.
    """

    estimate: PoseEstimate | None
    used: tuple[int, ...]
    refused: tuple[int, ...]
    distances: tuple[float, ...]


def localize(views: Sequence[View], shared: float = 0.5, gate: float = 22.5) -> Localized:
    """The most probable pose of the object in the frame in which it stands still; contradictory views are left out.

    Args:
        views: one or more.
        shared: share of a view's variance that all views have in common in the camera's axes, 0 to 1, where not every
            view tells what that is.
        gate: largest squared Mahalanobis distance of a view from the others; 22.5 refuses one right view of a thousand.

    Raises:
        ValueError: if there is no view, ``shared`` is not a share below 1, or views tell unlike systematic parts.
    """
    if not views:
        raise ValueError("views: expected at least one")
    if not 0.0 <= shared < 1.0:
        raise ValueError(f"shared: expected 0 to 1, without 1, got {shared}")
    shapes = {tuple(view.systematic.shape) for view in views if view.systematic is not None}
    if len(shapes) > 1 or any(shape[0] != 6 for shape in shapes):
        raise ValueError(f"systematic: expected (6, M) alike in all views, got {sorted(shapes)}")
    used, refused = list(range(len(views))), list[int]()
    distances = [math.nan] * len(views)
    while True:
        estimate, apart = _combined([views[k] for k in used], shared)
        for k, value in zip(used, apart):
            distances[k] = value
        worst = max(used, key=lambda k: distances[k])
        if len(used) == 1 or distances[worst] <= gate:
            return Localized(estimate, tuple(used), tuple(refused), tuple(distances))
        if len(used) == 2:
            return Localized(None, tuple(used), tuple(refused), tuple(distances))
        used.remove(worst)
        refused.append(worst)


def _combined(views: Sequence[View], shared: float) -> tuple[PoseEstimate, list[float]]:
    """The pose of N views, and the squared distance of each from the others (NaN for a single one)."""
    count = len(views)
    told = [covariance.in_frame(view.camera.to("cpu", torch.float64), view.estimate) for view in views]
    information = torch.linalg.inv(_joint(views, told, shared))
    design = torch.eye(6, dtype=torch.float64).repeat(count, 1)  # (6 N, 6): each view sees the pose itself
    precision = design.mT @ information @ design
    at = told[0].pose
    for _ in range(_ITERATIONS):
        offset = torch.cat([se3.local(at, each.pose) for each in told])
        at = se3.retract(at, torch.linalg.solve(precision, design.mT @ information @ offset))
    if count == 1:
        return PoseEstimate.of(at, torch.linalg.inv(precision)), [math.nan]
    offset = torch.cat([se3.local(at, each.pose) for each in told])
    residual = information @ (offset - design @ torch.linalg.solve(precision, design.mT @ information @ offset))
    weighed = information - information @ design @ torch.linalg.solve(precision, design.mT @ information)
    apart = []
    for k in range(count):  # residual and information of view k when the others alone make the pose
        own = slice(6 * k, 6 * k + 6)
        apart.append(float(residual[own] @ torch.linalg.solve(weighed[own, own], residual[own])))
    return PoseEstimate.of(at, torch.linalg.inv(precision)), apart


def _joint(views: Sequence[View], told: Sequence[PoseEstimate], shared: float) -> Tensor:
    """(6 N, 6 N) covariance of all views' errors in the fixed frame."""
    known = all(view.systematic is not None for view in views)
    columns = []
    for view in views:
        moves = view.systematic if known else _root(shared * view.estimate.covariance)
        columns.append(covariance.turned(moves.detach(), view.camera.rotation.cpu().double()))  # type: ignore[union-attr]
    own = [(1.0 + _ROUNDING) * each.covariance - c @ c.mT for each, c in zip(told, columns)]
    common = torch.cat(columns)
    return common @ common.mT + torch.block_diag(*own)


def _root(spread: Tensor) -> Tensor:
    """The symmetric square root (6, 6): what is unsure in the same direction in two views is taken to err alike."""
    values, vectors = torch.linalg.eigh(spread.detach().cpu().double())
    return vectors @ torch.diag(values.clamp_min(0.0).sqrt()) @ vectors.mT


class Views:
    """Collects views that differ enough from each other.

    Args:
        apart_deg: smallest angle between two views, as seen from the object.
        choose: of a symmetric object: the equivalent of the first pose that is nearest to the second one; None: as it
            is.
    """

    def __init__(self, apart_deg: float = 5.0, choose: Callable[[Pose, Pose], Pose] | None = None) -> None:
        self.taken: list[View] = []
        self._apart, self._choose = math.radians(apart_deg), choose

    def offer(self, view: View) -> str:
        """Take in a view; empty, or why it is none."""
        nearest = min((_angle(view, other) for other in self.taken), default=math.inf)
        if nearest < self._apart:
            return (
                f"move on: {math.degrees(nearest):.1f} degrees from another view, "
                f"expected {math.degrees(self._apart):g} or more"
            )
        self.taken.append(self._like_the_first(view))
        return ""

    def _like_the_first(self, view: View) -> View:
        if self._choose is None or not self.taken:
            return view
        first = self.taken[0].camera @ self.taken[0].estimate.pose.to("cpu", torch.float64)
        chosen = self._choose(view.camera @ view.estimate.pose.to("cpu", torch.float64), first)
        estimate = PoseEstimate.of(view.camera.inverse() @ chosen, view.estimate.covariance)
        return dataclasses.replace(view, estimate=estimate)


def _angle(one: View, other: View) -> float:
    """Between two cameras as seen from the object, radians."""
    towards = []
    for view in (one, other):
        seen_from = view.camera.rotation.cpu().double() @ -view.estimate.pose.translation.cpu().double()
        towards.append(seen_from / seen_from.norm())
    return math.atan2(float(torch.linalg.cross(towards[0], towards[1]).norm()), float((towards[0] * towards[1]).sum()))
