"""Blind PnP: pose and matches together, from image points and object points whose correspondence is not known.

Hypothesise and test. Three guessed matches give a pose (P3P); a right one makes many object points land on image
points. The best are refined by mutual nearest neighbours and Levenberg-Marquardt in turn, with a narrowing gate. A
pose is believed when chance would not produce as many matches (the a-contrario test of Moisan and Stival, IJCV 2004).

Without anything known beforehand the number of guesses grows with the cube of the number of image points. A pose
prior, or a table of the matches that are possible (by labels or descriptors), cuts it down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3
from pnp_ros.kernels.blind import Guesser
from pnp_ros.solvers import levenberg_marquardt
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import GemanMcClure, RobustLoss
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus
from pnp_ros.types.tensors import Values

_HIT_SIGMAS = 5.0  # a pose of three noisy matches misses the others by more than the noise
_MATCH_SIGMAS = 3.0
_GATES = (12.0, 6.0, 4.0, 3.0)  # sigmas, of the refinement
_MAX_FALSE_ALARMS = 1e-3  # believed when this few poses as good were expected by chance
_REFINED = 8  # poses of a round that are refined
_SOUND = 0.5  # share of right guesses that lead to a pose: the rest lie badly
_NEIGHBOURHOOD = 10.0  # gates around a projected point, to count image points in
_MIN_MATCHES = 4  # three make a pose, one confirms it
_PRIOR_DRAWS = 256
_PRIOR_GATE = 4.0  # standard deviations


@dataclass(frozen=True, eq=False)
class PosePrior:
    """A pose that is roughly known.

    Args:
        pose: ``T_camera_object``, unbatched.
        covariance: (6, 6) of [dt, dtheta], m and rad; see :mod:`pnp_ros.geometry`.
    """

    pose: Pose
    covariance: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class BlindPnPEstimate(Values):
    """Pose and matches.

    Args:
        estimate: unbatched; ``DEGENERATE`` if no pose is significantly better than chance.
        matches: (K, 2) int64, image point and object point of each match; empty without a pose.
        false_alarms: number of poses with as many matches that chance was expected to produce; below 0.001 the pose
            is believed.
        guesses: how many were made.
    """

    estimate: PoseEstimate
    matches: Tensor
    false_alarms: float
    guesses: int


def solve_blind_pnp(
    image_points: Tensor,
    object_points: Tensor,
    camera: Camera,
    *,
    sigma: float = 1.0,
    prior: PosePrior | None = None,
    possible: Tensor | None = None,
    matched_share: float = 0.5,
    confidence: float = 0.99,
    max_guesses: int = 100_000_000,
    loss: RobustLoss | None = None,
    seed: int = 0,
) -> BlindPnPEstimate:
    """Pose of an object from points that are not matched; both sets may hold points without a partner.

    Without ``prior`` and ``possible`` about ``(M / matched_share)^3`` guesses are needed, and ten times as many before
    giving up: fractions of a second for M = 25, many seconds on a CPU for M = 100, where a GPU is the right place.

    Args:
        image_points: (M, 2) px.
        object_points: (N, 3) m.
        camera: unbatched.
        sigma: standard deviation of the image points in px.
        prior: roughly known pose.
        possible: (M, N) bool: image point and object point may match; None: any may.
        matched_share: share of the object points that have a partner, at least; sets the number of guesses.
        confidence: probability to make three right guesses, if that share holds.
        max_guesses: limit of the guesses.
        loss: of the final solve; None as in :func:`solve_pnp`.
        seed: of the guesses.

    Returns:
        The estimate. Bad data never raises: the status says it.

    Raises:
        ValueError: if shapes do not fit or a number is out of range; the message names the field.
    """
    _check(image_points, object_points, possible, sigma, matched_share, confidence)
    allowed = torch.ones(len(image_points), len(object_points), dtype=torch.bool, device=image_points.device)
    allowed = allowed & image_points.isfinite().all(-1)[:, None] & object_points.isfinite().all(-1)
    if possible is not None:
        allowed = allowed & possible
    points = torch.nan_to_num(object_points, posinf=0.0, neginf=0.0).float()
    pixels = torch.nan_to_num(image_points, posinf=0.0, neginf=0.0).float()
    problem = _Problem(pixels, points, camera.to(dtype=torch.float32), sigma, allowed)
    if prior is not None:
        problem.allowed = allowed & problem.near_prior(prior, seed)
    pose, false_alarms, guesses = problem.find(matched_share, confidence, max_guesses, seed)
    if pose is None:
        return BlindPnPEstimate(_unknown(image_points), torch.zeros(0, 2, dtype=torch.int64), false_alarms, guesses)
    matches = problem.matches(pose)
    correspondences = Correspondences.from_sigma(image_points[matches[:, 0]], object_points[matches[:, 1]], sigma)
    start = Pose(pose.rotation.to(image_points), pose.translation.to(image_points))
    estimate = solve_pnp(correspondences, camera.to(dtype=image_points.dtype), init=start, loss=loss)
    return BlindPnPEstimate(estimate, matches, false_alarms, guesses)


def _check(
    image_points: Tensor,
    object_points: Tensor,
    possible: Tensor | None,
    sigma: float,
    matched_share: float,
    confidence: float,
) -> None:
    m, n = image_points.shape[0], object_points.shape[0]
    if image_points.shape != (m, 2) or object_points.shape != (n, 3):
        shapes = f"{tuple(image_points.shape)} and {tuple(object_points.shape)}"
        raise ValueError(f"image_points, object_points: expected shapes (M, 2) and (N, 3), got {shapes}")
    if possible is not None and (possible.shape != (m, n) or possible.dtype != torch.bool):
        raise ValueError(f"possible: expected bool ({m}, {n}), got {possible.dtype} {tuple(possible.shape)}")
    if not 0.0 < sigma < math.inf:
        raise ValueError(f"sigma: expected more than 0 px, got {sigma}")
    for name, value in (("matched_share", matched_share), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name}: expected between 0 and 1, got {value}")


def _unknown(like: Tensor) -> PoseEstimate:
    pose = Pose(torch.eye(3).to(like), torch.zeros(3).to(like))
    status = torch.tensor(int(SolveStatus.DEGENERATE), dtype=torch.int8, device=like.device)
    return PoseEstimate(pose, 1e6 * torch.eye(6).to(like), torch.zeros(0).to(like), torch.zeros(()).to(like), status)


class _Problem:
    """Two point sets in float32, and which pairs are allowed (M, N)."""

    def __init__(self, pixels: Tensor, points: Tensor, camera: Camera, sigma: float, allowed: Tensor) -> None:
        self.pixels, self.points, self.camera, self.sigma, self.allowed = pixels, points, camera, sigma, allowed

    def near_prior(self, prior: PosePrior, seed: int) -> Tensor:
        """(M, N) bool: the pair agrees with the prior, by the spread of projections of poses drawn from it."""
        generator = torch.Generator().manual_seed(seed)
        factor, _ = torch.linalg.cholesky_ex(prior.covariance.detach().cpu().double())
        draws = torch.randn(_PRIOR_DRAWS, 6, generator=generator, dtype=torch.float64) @ factor.mT
        mean = Pose(prior.pose.rotation.to(self.points), prior.pose.translation.to(self.points))
        projected = self.camera.project(se3.retract(mean, draws.to(self.points)).transform(self.points))
        middle = projected.median(0).values
        off = projected - middle
        covariance = torch.einsum("dni,dnj->nij", off, off) / _PRIOR_DRAWS
        covariance = covariance + self.sigma**2 * torch.eye(2).to(off)
        gap = (self.pixels[:, None] - middle)[..., None]
        return (gap * torch.linalg.solve(covariance, gap)).sum((-2, -1)) < _PRIOR_GATE**2

    def find(self, share: float, confidence: float, max_guesses: int, seed: int) -> tuple[Pose | None, float, int]:
        """A significant pose, the number of false alarms expected of it, and the guesses made."""
        made, fewest = 0, math.inf
        if min(int(self.allowed.any(0).sum()), int(self.allowed.any(1).sum())) < _MIN_MATCHES:
            return None, fewest, made
        guesser = Guesser(self.pixels, self.points, self.camera, _HIT_SIGMAS * self.sigma, self.allowed, share)
        choices = float(self.allowed.sum(0)[self.allowed.any(0)].float().mean())
        right = _SOUND * (share / choices) ** 3  # probability that a guess is
        needed = min(math.log(1.0 - confidence) / math.log1p(-right), max_guesses)
        while made < needed:
            poses, hits, guesses = guesser.round(seed + made, _REFINED)
            made += guesses
            promising = [log_tail(guesser.points, guesser.coverage, int(h)) + math.log(made) < 0.0 for h in hits]
            chosen = torch.tensor(promising, dtype=torch.bool, device=poses.rotation.device)
            if not any(promising):
                continue
            pose, false_alarms = self._refine(Pose(poses.rotation[chosen], poses.translation[chosen]))
            fewest = min(fewest, false_alarms)
            if false_alarms < _MAX_FALSE_ALARMS:
                return pose, false_alarms, made
        return None, fewest, made

    def _refine(self, poses: Pose) -> tuple[Pose, float]:
        """The pose, of several (K), with most matches after refinement, and the false alarms expected of it."""
        for gate in _GATES:
            partner, matched = self._pair(poses, gate)
            weights = matched.to(self.pixels)[..., None].expand(-1, -1, 2) / self.sigma
            points = self.points.expand(len(partner), -1, -1)
            correspondences = Correspondences(self.pixels[partner], points, weights.contiguous())
            loss = GemanMcClure(scale=max(0.5 * gate, _MATCH_SIGMAS))
            poses = levenberg_marquardt.refine(
                correspondences, self.camera, poses, loss, anneal=False, accept=False
            ).pose
        _, matched = self._pair(poses, _MATCH_SIGMAS)
        count, best = matched.sum(-1).max(0)
        pose = Pose(poses.rotation[best], poses.translation[best])
        # A refined pose is near one of those that any three allowed pairs make, guessed or not: so many were tried.
        poses_tried = 3.0 * math.log(int(self.allowed.sum())) + math.log(4.0 / 6.0)
        tail = poses_tried + log_tail(int(self.allowed.any(0).sum()), self._coverage(pose, int(count)), int(count))
        return pose, math.exp(min(tail, 700.0))

    def _coverage(self, pose: Pose, matched: int) -> float:
        """Probability that an object point meets an image point by chance: from the density of the others around it."""
        projected = self.camera.project(pose.transform(self.points))
        near = _distances(projected, self.pixels) < _NEIGHBOURHOOD * _MATCH_SIGMAS * self.sigma
        others = max(int((near & self.allowed.mT).sum()) - matched, 1) / len(projected)
        return min(others / (_NEIGHBOURHOOD**2 - 1.0), 1.0)

    def _pair(self, poses: Pose, gate: float) -> tuple[Tensor, Tensor]:
        """Mutually nearest pairs within ``gate`` sigmas: each object point's image point (K, N), and whether it has."""
        projected = self.camera.project(poses.transform(self.points))
        distance = torch.where(self.allowed.mT, _distances(projected, self.pixels), torch.inf)
        nearest, partner = distance.min(-1)
        back = distance.argmin(-2).gather(-1, partner)
        mutual = back == torch.arange(len(self.points), device=back.device)
        return partner, mutual & (nearest < gate * self.sigma)

    def matches(self, pose: Pose) -> Tensor:
        """(K, 2) image point and object point of each match."""
        partner, matched = self._pair(Pose(pose.rotation[None], pose.translation[None]), _MATCH_SIGMAS)
        objects = torch.nonzero(matched[0]).squeeze(-1)
        return torch.stack([partner[0, objects], objects], dim=-1)


def _distances(projected: Tensor, pixels: Tensor) -> Tensor:
    """(..., N, M) px; by differences, as the expanded square loses a fifth of a pixel in float32."""
    return (projected[..., :, None, :] - pixels).norm(dim=-1)


def log_tail(points: int, probability: float, matches: int) -> float:
    """Log of the probability that of ``points`` object points at least ``matches`` match by chance.

    Three of them always do: they made the pose. Binomial tail, with each other point matching at ``probability``.
    """
    n, least = points - 3, matches - 3
    if least <= 0 or probability >= 1.0:
        return 0.0
    k = torch.arange(least, n + 1, dtype=torch.float64)
    choose = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return float(torch.logsumexp(choose + k * math.log(probability) + (n - k) * math.log1p(-probability), 0))
