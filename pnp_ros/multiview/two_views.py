"""How two views of one camera stand to each other, by the points that both see: where a reconstruction begins.

The essential matrix by the five-point method (Nister, "An efficient solution to the five-point relative pose problem",
PAMI 2004) and RANSAC; and the other pose that shows nearly the same of a small object (Necker's reversal).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pnp_ros.types import Pose

_VIEWS = 24  # spread over all, among which a pair is sought
_PAIRS = 8  # pairs that are proposed
_FAR = 0.5  # rad, of the points' motion: beyond it more is not better
_AHEAD = 0.1  # of a unit bearing along the optical axis: points that a pinhole sees


def from_first(second: Pose) -> Pose:
    """Both poses (2) in the frame of the first view."""
    return Pose.stack([Pose.identity().to(dtype=torch.float64), second])


def likely_pairs(bearings: Tensor, seen: Tensor, minimum: int, tried: Tensor) -> list[tuple[int, int]]:
    """Pairs of views with many common points that moved far, best first.

    Args:
        bearings: (V, M, 3) unit rays.
        seen: (V, M) bool.
        minimum: points that both must see.
        tried: (V) bool: two of those are no pair.
    """
    views = torch.linspace(0, len(seen) - 1, min(len(seen), _VIEWS)).round().long()
    near = torch.arange(len(seen) - 1)
    near = torch.stack([near, near + 1], dim=-1)  # of many views, those that follow each other may share most
    pairs = torch.unique(torch.cat([torch.combinations(views, 2), near]), dim=0)
    pairs = pairs[~tried[pairs].all(-1)]
    if len(pairs) == 0:
        return []
    common = seen[pairs[:, 0]] & seen[pairs[:, 1]]
    moved = torch.where(common, (bearings[pairs[:, 0]] - bearings[pairs[:, 1]]).norm(dim=-1), torch.nan)
    score = common.sum(-1) * moved.nanmedian(-1).values.clamp(max=_FAR)
    score = torch.where(common.sum(-1) >= minimum, score, torch.zeros_like(score))
    order = score.argsort(descending=True)[:_PAIRS]
    return [(int(i), int(j)) for i, j in pairs[order[score[order] > 0]]]


def relative_pose(bearings: Tensor, seen: Tensor, sigma: float, minimum: int) -> Pose | None:
    """The pose of the second view in the frame of the first, a unit away; None where too few points agree on one.

    Args:
        bearings: (2, M, 3) unit rays.
        seen: (2, M) bool.
        sigma: standard deviation of the rays, rad.
        minimum: points that must agree.
    """
    import cv2

    common = torch.nonzero(seen.all(0) & (bearings[..., 2] > _AHEAD).all(0)).squeeze(-1)
    if len(common) < minimum:
        return None
    a, b = (np.ascontiguousarray((rays[:, :2] / rays[:, 2:]).numpy()) for rays in bearings[:, common])
    cv2.setRNGSeed(0)  # the same tracks give the same structure
    essential, inliers = cv2.findEssentialMat(a, b, np.eye(3), method=cv2.RANSAC, prob=0.9999, threshold=2.0 * sigma)
    if essential is None or essential.shape != (3, 3):
        return None
    count, rotation, translation, _ = cv2.recoverPose(essential, a, b, np.eye(3), mask=inliers)
    if count < minimum:
        return None
    return Pose(torch.from_numpy(rotation), torch.from_numpy(translation).squeeze(-1))


def reversed_pose(pose: Pose, centre: Tensor) -> Pose:
    """The pose of the second view that shows, far away, the same of points around ``centre`` (3) mirrored along the ray
    of the first view."""
    seen = pose.rotation @ centre + pose.translation
    rotation = _mirror(seen) @ pose.rotation @ _mirror(centre)
    return Pose(rotation, seen - rotation @ centre)


def _mirror(direction: Tensor) -> Tensor:
    """(3, 3) the reflection along a direction (3)."""
    unit = direction / direction.norm()
    return torch.eye(3).to(unit) - 2.0 * unit[:, None] * unit[None]
