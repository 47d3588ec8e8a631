"""One pose from several that were measured apart, each with its covariance, and who contradicts the others.

The most probable pose under independent Gaussian errors on SE(3) (Barfoot, Furgale, "Associating uncertainty with
three-dimensional poses for use in estimation problems", 2014, section V): no quaternion is averaged, and a camera
that hardly tells the depth hardly counts in depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pnp_ros.geometry import covariance, se3
from pnp_ros.types import PoseEstimate
from pnp_ros.types.tensors import Values

_ITERATIONS = 4  # the first step leads within the second order of the poses' differences


@dataclass(frozen=True, eq=False, repr=False)
class Fused(Values):
    """What several say together.

    Args:
        estimate: pose and covariance; None where two contradict each other and nobody can tell which is wrong.
        trusted: names of those it is made of, or of those that contradict each other.
        refused: names of those that contradict the rest, which agrees.
        distances: squared Mahalanobis distance of each from the rest that is trusted; six degrees of freedom.
    """

    estimate: PoseEstimate | None
    trusted: tuple[str, ...]
    refused: tuple[str, ...] = ()
    distances: Mapping[str, float] = field(default_factory=dict)


def mean(estimates: Sequence[PoseEstimate]) -> PoseEstimate:
    """The most probable pose and its covariance, float64; at least one estimate without batch dimensions."""
    poses = [estimate.pose.to("cpu", torch.float64) for estimate in estimates]
    information = [torch.linalg.inv(estimate.covariance.detach().cpu().double()) for estimate in estimates]
    total = torch.stack(information).sum(0)
    at = poses[int(torch.stack([torch.linalg.slogdet(i).logabsdet for i in information]).argmax())]
    for _ in range(_ITERATIONS):
        pull = torch.stack([i @ se3.local(at, pose) for i, pose in zip(information, poses)]).sum(0)
        at = se3.retract(at, torch.linalg.solve(total, pull))
    return PoseEstimate.of(at, torch.linalg.inv(total))


def distance(one: PoseEstimate, other: PoseEstimate) -> Tensor:
    """Squared Mahalanobis distance between two independent estimates; six degrees of freedom where both are right."""
    delta = se3.local(*(each.pose.to("cpu", torch.float64) for each in (one, other)))
    return covariance.nees(delta, one.covariance.double() + other.covariance.double())


def fuse(seen: Mapping[str, PoseEstimate], gate: float = 22.5) -> Fused:
    """Fuse estimates of one pose in one frame, and leave out those that contradict the rest.

    Args:
        seen: estimate by name, such as the camera's; errors are independent of each other.
        gate: largest squared Mahalanobis distance of one from the rest; 22.5 refuses one right pose of a thousand.

    Raises:
        ValueError: if there is none.
    """
    if not seen:
        raise ValueError("seen: expected at least one estimate")
    trusted, refused = list(seen), list[str]()
    while len(trusted) > 1:
        distances = {name: float(distance(seen[name], _without(seen, trusted, name))) for name in trusted}
        worst = max(trusted, key=lambda name: distances[name])
        if distances[worst] <= gate:
            break
        if len(trusted) == 2:
            return Fused(None, tuple(trusted), tuple(refused), distances)
        trusted.remove(worst)
        refused.append(worst)
    else:
        distances = {}  # of a single one, from nobody
    told = mean([seen[name] for name in trusted])
    distances |= {name: float(distance(seen[name], told)) for name in refused}
    return Fused(told, tuple(trusted), tuple(refused), distances)


def _without(seen: Mapping[str, PoseEstimate], trusted: Sequence[str], name: str) -> PoseEstimate:
    return mean([seen[other] for other in trusted if other != name])
