"""Whether a pose is believed, in plain torch: the truth that :mod:`pnp_ros.kernels.accept_warp` is tested against.

A pose of unrelated points fits some of them, too. The evidence for a pose is the logarithm of the Bayes factor between
"the inliers are images of the object at some pose, the others anywhere" and "all points are anywhere in the image"::

    sum over inliers of log(A |W| / 2 pi) - s / 2      how much better than anywhere (A: px^2 of the image)
    - log((n + 1) C(n, k))                             any k of the n points may be the inliers, any k as probable
    - log(V |H|^(1/2) / (2 pi)^3)                      Laplace's integral over V, the volume of poses in view

with squared whitened residuals ``s`` and the inliers' information ``H`` of the pose. By Markov's inequality a Bayes
factor of 100 has for unrelated points a probability of at most 1 %, whatever their number, the image's size and the
noise; as only one minimum of many is integrated over, much less of it has, too (``MIN_EVIDENCE``). The number of false
alarms of Moisan and Stival (IJCV 2004) bounds the same by counting samples. The evidence of two poses also tells how
probable each of them is.

"Anywhere in the image" is too sure where wrong points crowd in one spot, and a pose is easily found for some of them.
So an inlier tells less by the logarithm of how much denser than over the image the pose's own *outliers* lie around it.
What crowds because the object is small crowds without outliers, and tells all it can. Every pose is weighed so, also
one that nobody would believe: else chance has a rival for each right pose among a crowd.

It is too sure, too, where wrong points lie about their right places: any pose near by explains some. Outliers that are
many tell their spread by their own residuals (:func:`near_spread`). Another null hypothesis then is that *all* points
lie so about some pose: an inlier tells how much denser it lies than such outliers would at its place, and of the volume
of poses only the part counts that these leave open. The worse of both nulls decides. Poses compete by their *standing*,
in which these outliers' likelihood counts, too: about the right pose they lie closer than about a wrong one, which
tells it apart where a wrong one has as many inliers. That likelihood is compared with that of points that lie normally
about one mean; and a spread as wide as the object's image tells no places apart: such outliers may crowd anywhere.

Another pose may explain the points nearly as well. Where it explains the same points, as the mirrored pose of a flat
object does, the estimate carries both. Where each explains points that the other calls wrong, the question is which
points to trust; unless the other is improbable (``MAX_DOUBT``), or so close that a covariance covers both, the points
do not tell, and neither pose is believed.

A prior takes the place of "some pose in view": the points must then agree on a pose that it expects, which is far
easier to believe than one anywhere. Where they do not, only the prior remains.
A Gaussian loss says that there are no outliers: beside a prior that is not vague, the sum of squares decides alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pnp_ros.geometry import so3
from pnp_ros.kernels.pose_prior import PosePrior
from pnp_ros.types import Pose

MIN_EVIDENCE = 1.0  # measured: at most 0.5 % of unrelated points reach it
MIN_EVIDENCE_WITH_PRIOR = math.log(100.0)  # about a prior, all of the integral is in the one minimum
VAGUE = -10.0  # log of the share of all poses that a prior expects; 0.2 rad and 15 % of the distance are -10.0
TRUSTED_EVIDENCE = 12.0  # of a minimum near a given start; with less of it, others are sought
EXPLAINED = 0.5  # share of the points, likewise
# Nor are others sought if a smaller share has more evidence. Measured over shapes, lenses and sizes from random starts:
# minima that are wrong explain at most a fifth of the points, with at most 0.7 a point.
EXPLAINED_FOR_SURE = 0.3
SURE_EVIDENCE = 1.0  # a point
# Of a slender object most points fit a pose that is turned about its axis: there, others are always sought.
SLENDER = 0.02  # mean square across an object for that in all directions
SLENDER_WORTH = 0.5  # of the points that its pose explains: a turned one explains nearly as many as the right one
LOG_TURNS = math.log(8.0 * math.pi**2)  # volume of all rotations, rad^3
LOG_DEPTHS = math.log(math.log(10.0))  # distances within a decade, equally probable by their logarithm
LOG_2_PI = math.log(2.0 * math.pi)
BROAD_TURN2 = math.exp(2.0 / 3.0 * LOG_TURNS - LOG_2_PI)  # variance of a turn about any axis, rad^2
CHI_SQUARE_DEVIATION = 3.72  # of a normal variable: one in ten thousand is larger
TRUSTED_VARIANCE = 4.0  # a Gaussian fit's residuals may be twice as large as the weights say
THIN = 4.0  # standard deviations of an image point: a relief below that may be flat
CENTRES = 64  # points, at most, of which the outliers' density is estimated
CROWD = 1e-3  # of the image's area: squared width of a point's share in that density (Student's t, two degrees)
CROWD_DOUBT = 1.5  # of evidence besides, as that density is an estimate; without it five times as many wrong ones
NEAR_SHARE = 0.25  # of the mean square radius of the object's image: a wider spread tells no places apart
LEAST_NEAR = 8.0  # outliers that tell how far from their places they lie; fewer do not
CLOSE_TURN, CLOSE_MOVE = math.radians(5.0), 0.05  # rad, share of the distance: between poses that are one answer
DISTINCT = 25.0  # squared deviations between two poses that are two answers
MAX_ROUNDING2 = 0.25  # of an image point's variance, that the rounding of object points may make
MIN_PROBABILITY = 1e-3  # of another pose that the covariance has to cover
MAX_DOUBT = 0.02  # probability of another pose that calls other points right: with more, neither is believed


class Weighed(NamedTuple):
    """What speaks for poses.

    Args:
        evidence: (B) logarithm of the Bayes factor.
        standing: (B) what it is compared with other poses by: how well all points are explained, outliers included.
        inlier: (B, N) bool.
        near: (B) whether outliers lie about their places rather than anywhere.
        outliers: (B) how many there are if they may lie anywhere.
        log_spread: (B) log of how far from their places these lie, with one that stands for none: half-way between a
            deviation and the image.
    """

    evidence: Tensor
    standing: Tensor
    inlier: Tensor
    near: Tensor
    outliers: Tensor
    log_spread: Tensor


def weigh(
    squared: Tensor,
    log_density: Tensor,
    used: Tensor,
    likely: Tensor,
    volume: Tensor,
    area: float,
    image_points: Tensor,
    rank: Tensor,
    size2: Tensor,
) -> Weighed:
    """What speaks for poses.

    Args:
        squared: (B, N) squared whitened residuals.
        log_density: (B, N) ``log(A |W| / 2 pi)``, of a line ``log(A |w|^2 / 2 pi) / 2``.
        used: (B, N) bool: points with weight.
        likely: (B) about how many inliers there are: what a point must tell to be counted depends on it.
        volume: (B) :func:`log_volume`, or :func:`log_volume_with_prior` and the prior's cost.
        area: of the image, px^2.
        image_points: (B, N, 2) px.
        rank: (B, N) directions that a point tells, 1 or 2.
        size2: (B) mean square radius of the object's image, in squared deviations.
    """
    n = used.sum(-1).to(squared)
    likely = torch.minimum(likely.clamp_min(1.0), n.clamp_min(1.0))
    price = ((n - likely + 1.0) / (likely + 1.0)).log()[:, None]
    told = log_density - 0.5 * squared
    inlier = used & (told > price)
    spread = near_spread(squared, used & ~inlier, rank)
    outliers = (used & ~inlier).sum(-1).to(squared)
    usual = (log_density * used).sum(-1) / (rank * used).sum(-1).clamp_min(1)
    log_spread = (outliers * spread.log() + usual) / (outliers + 1.0)
    nearness = _nearness(squared, log_density, spread, rank) * used
    local = used & (told - nearness > price)
    at_outliers = torch.where(local, 0.0, nearness).sum(-1) - (used & ~local).sum(-1) * _blob(image_points, used, area)
    informed = (outliers >= LEAST_NEAR) & (spread < NEAR_SHARE * size2) & (at_outliers > 0.0)
    inlier = torch.where(informed[:, None], local, inlier)
    at_inliers = torch.where(inlier, nearness, 0.0).sum(-1) * informed
    k = inlier.sum(-1).to(squared)
    choices = torch.lgamma(n + 2.0) - torch.lgamma(k + 1.0) - torch.lgamma(n - k + 1.0)
    evidence = torch.where(inlier, told, 0.0).sum(-1) - choices - volume
    broader = 3.0 * (0.75 * spread * k.clamp_min(1.0) / n.clamp_min(1.0)).log()
    less = (at_inliers - (volume - broader.clamp_min(0.0)).clamp_min(0.0)).clamp_min(0.0) * informed
    near = less > 0.0
    crowd = (0.5 * rank * crowding(image_points, used, inlier, area) * inlier).sum(-1)
    standing = evidence + torch.where(informed, at_outliers, 0.0) - (crowd - at_inliers).clamp_min(0.0)
    evidence = evidence - torch.maximum(less, torch.where(crowd > 0.0, crowd + CROWD_DOUBT, 0.0))
    evidence, standing = (x.nan_to_num(-1e30, -1e30, -1e30) for x in (evidence, standing))
    return Weighed(evidence, standing, inlier, near, outliers, log_spread)


def near_spread(squared: Tensor, outlier: Tensor, rank: Tensor) -> Tensor:
    """(B) how far from their places outliers (B, N) lie, in squared deviations.

    They follow Student's t with two degrees of freedom, whose heavy tail stands for the few that lie anywhere. The log
    of its squared residual has the log of the spread as mean, in two directions, and ``log 4`` less in one.
    """
    logs = squared.clamp_min(1e-30).log() + 2.0 * math.log(2.0) * (2.0 - rank)
    return (torch.where(outlier, logs, 0.0).sum(-1) / outlier.sum(-1).clamp_min(1)).exp()


def _blob(image_points: Tensor, used: Tensor, area: float) -> Tensor:
    """(B) log of how much denser than over the image points lie that are normal about their mean, at least 0."""
    count = used.sum(-1).clamp_min(1)[:, None]
    offsets = (image_points - (image_points * used[..., None]).sum(-2, keepdim=True) / count[..., None]) * used[
        ..., None
    ]
    square = (torch.linalg.det(offsets.mT @ offsets) / count[:, 0] ** 2).clamp_min(1.0)
    return (math.log(area) - 0.5 * square.log() - LOG_2_PI - 1.0).clamp_min(0.0).nan_to_num(0.0)


def _nearness(squared: Tensor, log_density: Tensor, spread: Tensor, rank: Tensor) -> Tensor:
    """(B, N) log of how much denser than over the image outliers near their places lie; half of them lie anywhere."""
    return (0.5 + 0.5 * log_density.clamp_max(60.0).exp() * near_density(squared, spread, rank)).log()


def near_density(squared: Tensor, spread: Tensor, rank: Tensor) -> Tensor:
    """(B, N) of outliers near their places, for that of inliers with no residual."""
    spread = spread[:, None]
    closer = spread / (spread + squared)
    plane, line = closer.square() * 2.0 / spread, math.sqrt(0.5 * math.pi) * closer * (closer / spread).sqrt()
    return torch.where(rank > 1.5, plane, line)


def log_volume(information: Tensor, distance2: Tensor, places: Tensor) -> Tensor:
    """(B) log of how many poses could be told apart: of all that show the object in the image.

    Args:
        information: (B, 6, 6) of the pose of the points' centroid.
        distance2: (B) squared distance of the centroid and size of the object, m^2.
        places: (B) the image's area over the product of the focal lengths.
    """
    least = torch.ones_like(information[:, 0])  # nothing makes a pose less known than to a radian and to its distance
    least[:, :3] = distance2.clamp_min(1e-30).reciprocal()[:, None]
    known = torch.linalg.slogdet(information + torch.diag_embed(least)).logabsdet
    return LOG_TURNS + LOG_DEPTHS + places.log() + 1.5 * distance2.log() - 3.0 * LOG_2_PI + 0.5 * known


def log_volume_with_prior(joint: Tensor, prior: PosePrior, distance2: Tensor, places: Tensor) -> Tensor:
    """(B) log of how many poses that the prior expects could be told apart.

    ``log |1 + C H| / 2``; with ``eta^T C^-1 eta / 2``, how far the pose is from the prior, it stands in place of
    Laplace's integral over all poses. A direction of which the prior knows nothing has the variance that makes both
    the same volume.

    Args:
        joint: (B, 6, 6) information of points and prior, in the prior's axes.
        prior: on the pose.
        distance2, places: as of :func:`log_volume`.
    """
    least = _least(prior, distance2, places)
    known = torch.linalg.slogdet(joint + torch.diag_embed(least)).logabsdet
    expected = (prior.information + least).log().sum(-1)
    return 0.5 * (known - expected)


def log_share(prior: PosePrior, distance2: Tensor, places: Tensor) -> Tensor:
    """(B) log of the share of all poses that show the object in the image that a prior expects."""
    least = _least(prior, distance2, places)
    return 0.5 * (least.log() - (prior.information + least).log()).sum(-1)


def _least(prior: PosePrior, distance2: Tensor, places: Tensor) -> Tensor:
    """(B, 6) along the prior's axes: what is known of any pose that shows the object in the image."""
    move = (math.exp(LOG_DEPTHS) * places) ** (2.0 / 3.0) / (2.0 * math.pi) * distance2
    broad = torch.full_like(prior.deviations, BROAD_TURN2)
    broad[:, :3] = move[:, None]
    return ((prior.deviations[..., None] * prior.axes).square() / broad[..., None]).sum(-2).clamp_min(1e-30)


def crowding(image_points: Tensor, used: Tensor, inlier: Tensor, area: float) -> Tensor:
    """(B, N) log of how much denser than over the image the outliers lie around a point, at least 0.

    One half of the density is that over the image. It is 0 where that explains the outliers no better than the image
    alone, each told by the others: points that lie evenly have neighbours, too.
    """
    stride = max(-(-image_points.shape[-2] // CENTRES), 1)
    centres, drawn = image_points[:, ::stride], used[:, ::stride]
    outlier = drawn & ~inlier[:, ::stride]
    distance2 = (image_points[:, :, None] - centres[:, None]).square().sum(-1)  # (B, N, centres)
    near = (1.0 + distance2 / (CROWD * area)).square().reciprocal()
    each = 1.0 / (math.pi * CROWD * drawn.sum(-1).clamp_min(1))[:, None]
    density = 0.5 + 0.5 * each * (near * outlier[:, None]).sum(-1)
    by_others = torch.where(outlier, (density[:, ::stride] - 0.5 * each).log(), 0.0).sum(-1, keepdim=True)
    return torch.where(by_others > 0.0, density.clamp_min(1.0).log(), 0.0)


def fits(squares: Tensor, freedom: Tensor) -> Tensor:
    """(B) whether a Gaussian fit's sum of squares is one that its weights allow (Wilson and Hilferty, 1931)."""
    width = 2.0 / (9.0 * freedom.clamp_min(1.0))
    bound = TRUSTED_VARIANCE * freedom * (1.0 - width + CHI_SQUARE_DEVIATION * width.sqrt()) ** 3
    return (freedom <= 0.0) | (squares <= bound)


def mirrored(points: Tensor, used: Tensor, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (B, 3, 3) that show flat objects alike from afar, and the objects' mean square thickness (B), m^2.

    Seen from afar an object and its mirror image in a plane across the view are alike; a flat one is its own mirror
    image in its plane: ``R' = (1 - 2 v v^T) R (1 - 2 n n^T)`` with the view v and the normal n.
    """
    normal, thickness, _ = flatness(points, used)
    view = torch.nn.functional.normalize(translation, dim=-1)
    eye = torch.eye(3).to(points)
    across = eye - 2.0 * view[:, :, None] * view[:, None, :]
    through = eye - 2.0 * normal[:, :, None] * normal[:, None, :]
    return across @ rotation @ through, thickness


def close(a: Pose, b: Pose) -> Tensor:
    """(B) whether two poses are so near that a covariance that covers both says all."""
    turned = so3.angle_between(a.rotation, b.rotation)
    moved = (b.translation - a.translation).norm(dim=-1)
    return (turned < CLOSE_TURN) & (moved < CLOSE_MOVE * a.translation.norm(dim=-1))


def slender(points: Tensor, used: Tensor) -> Tensor:
    """(B) whether an object's points (B, N, 3) about their centroid are nearly on a line."""
    weighted = points * used[..., None]
    squares = torch.linalg.eigvalsh(weighted.mT @ weighted)
    pairs = 0.5 * (squares.sum(-1).square() - squares.square().sum(-1))
    return pairs < SLENDER * squares.sum(-1).square()


def flatness(points: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of points (B, N, 3) about their centroid: normal (B, 3), mean square along it (B), and in all directions (B)."""
    weighted = points * used[..., None]
    scatter = weighted.mT @ weighted / used.sum(-1).clamp_min(1)[:, None, None]
    squares, axes = torch.linalg.eigh(scatter)
    return axes[..., 0], squares[:, 0].clamp_min(0.0), squares.sum(-1)
