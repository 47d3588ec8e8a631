"""Two reconstructions of parts of the same tracks, brought into one frame by the points that both have.

Each part has a frame and a size of its own. Three common points tell the similarity between them; as some of few common
points may be wrong, it is that of the three by which most of the others agree (least median of squares: Rousseeuw,
1984).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from pnp_ros.multiview.bundle_adjustment import similarity
from pnp_ros.types import Pose

LEAST_COMMON = 4  # points: three tell the similarity, one confirms it
_MOST_TRIPLES = 200


def joining_similarity(points: Tensor, reference: Tensor) -> tuple[float, Tensor, Tensor]:
    """Scale, rotation (3, 3), translation (3) that map points (M, 3) to their reference (M, 3), where some are wrong.

    Args:
        points, reference: at least ``LEAST_COMMON`` of them.
    """
    triples = list(itertools.combinations(range(len(points)), 3))
    triples = triples[:: -(-len(triples) // _MOST_TRIPLES)]
    found = [similarity(points[list(triple)], reference[list(triple)]) for triple in triples]
    misses = torch.stack([_misses(points, reference, *one) for one in found])  # (T, M)
    # The three themselves always agree: the median is that of the others.
    typical = misses.sort(-1).values[:, (len(points) + 3) // 2].nan_to_num(torch.inf)
    near = misses[typical.argmin()].argsort()[: max(3, (len(points) + 4) // 2)]
    return similarity(points[near], reference[near])


def _misses(points: Tensor, reference: Tensor, scale: float, rotation: Tensor, translation: Tensor) -> Tensor:
    return (scale * points @ rotation.mT + translation - reference).norm(dim=-1)


def poses_after(poses: Pose, scale: float, rotation: Tensor, translation: Tensor) -> Pose:
    """Poses (V) of the same cameras in the frame into which a similarity maps points, and in its unit of length."""
    turned = poses.rotation @ rotation.mT
    return Pose(turned, scale * poses.translation - turned @ translation)
