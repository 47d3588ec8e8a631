"""An initial pose from samples of three points in plain torch: the truth beside :mod:`pnp_ros.kernels.search_warp`.

P3P here is Grunert's quartic (1841; Haralick et al., "Review and analysis of solutions of the three point perspective
pose estimation problem", IJCV 1994), so the kernel's is checked by another algorithm. Samples, local optimisation and
the rule to stop are the kernel's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pnp_ros.geometry import se3
from pnp_ros.kernels import lm_reference, robust
from pnp_ros.kernels.accept_reference import DISTINCT, MIN_EVIDENCE, TRUSTED_EVIDENCE, Weighed
from pnp_ros.kernels.lm_problem import LMProblem, LMSettings
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.types import Pose

LOG_MISS = math.log(0.01)  # of the probability to stop before a sample without outliers was seen
LOG_MISS_TRUSTED = math.log(0.05)  # where a pose is beyond doubt and only a still better one is sought
GOOD_SAMPLE = 0.8  # share of the samples without outliers that lead to the pose
CHANCE_MISSED = 1e-3  # of a pose that would be believed: below, sampling ends
FIRST_CHECK, CHECK_AGAIN = 64.0, 1.2  # samples after which that chance is first computed, and their factor from then on
BETTER = 2.0  # times as many points as a wrong minimum explains, the right one does
LEAST_SAMPLES = 16.0  # beside a pose that is beyond doubt but explains few points
SAMPLE_SCALE = 2.0  # the loss's scale at a sample's pose, relative to the final one
TRUSTING_SAMPLES = 16  # for a loss without bound, which trusts every point
ROUND = 64  # samples at once
EVERY = 10  # points, of which all samples are tried if some of them are wrong
FEW = 16  # points, of which hypotheses are told apart by their minima
POLISHED = 6  # poses of a round that are refined
POLISH_STEPS = 6
APART = math.radians(40.0)  # between rotations that are two hypotheses

Judge = Callable[[LMProblem], Weighed]  # of a problem (B, ...) at poses


def p3p(bearings: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All poses that put three points on three rays.

    Args:
        bearings: (S, 3, 3) unit rows.
        points: (S, 3, 3) rows, m.

    Returns:
        Rotations (S, 4, 3, 3), translations (S, 4, 3), and which of them exist (S, 4).
    """
    cos_a, cos_b, cos_c = ((bearings[:, i] * bearings[:, j]).sum(-1) for i, j in ((1, 2), (0, 2), (0, 1)))
    a2, b2, c2 = ((points[:, i] - points[:, j]).square().sum(-1) for i, j in ((1, 2), (0, 2), (0, 1)))
    p, q, r = (a2 - c2) / b2, (a2 + c2) / b2, c2 / b2
    quartic = torch.stack(
        [
            (p - 1.0) ** 2 - 4.0 * r * cos_a**2,
            4.0 * (p * (1.0 - p) * cos_b - (1.0 - q) * cos_a * cos_c + 2.0 * r * cos_a**2 * cos_b),
            2.0
            * (
                p**2
                - 1.0
                + 2.0 * p**2 * cos_b**2
                + 2.0 * (1.0 - r) * cos_a**2
                - 4.0 * q * cos_a * cos_b * cos_c
                + 2.0 * (1.0 - a2 / b2) * cos_c**2
            ),
            4.0 * (-p * (1.0 + p) * cos_b + 2.0 * a2 / b2 * cos_c**2 * cos_b - (1.0 - q) * cos_a * cos_c),
            (1.0 + p) ** 2 - 4.0 * a2 / b2 * cos_c**2,
        ],
        dim=-1,
    )
    sound = (quartic.isfinite().all(-1)) & (quartic[:, 0].abs() > 1e-12)
    quartic = torch.where(sound[:, None], quartic, quartic.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0]))
    companion = torch.diag_embed(torch.ones_like(quartic[:, :3]), offset=-1)
    companion[:, 0] = -quartic[:, 1:] / quartic[:, :1]
    roots = torch.linalg.eigvals(companion)
    v = roots.real
    exists = sound[:, None] & (roots.imag.abs() < 1e-3 * (1.0 + v.abs())) & (v > 0.0)
    p, cos_a, cos_b, cos_c = (x[:, None] for x in (p, cos_a, cos_b, cos_c))
    u = ((p - 1.0) * v**2 - 2.0 * p * cos_b * v + 1.0 + p) / (2.0 * (cos_c - v * cos_a))
    depth = (b2[:, None] / (1.0 + v**2 - 2.0 * v * cos_b).clamp_min(1e-20)).sqrt()
    depths = torch.stack([depth, u * depth, v * depth], dim=-1)  # (S, 4, 3)
    exists = exists & (depths > 0.0).all(-1) & depths.isfinite().all(-1)
    in_camera = torch.where(exists[..., None, None], depths[..., None] * bearings[:, None], bearings[:, None])
    rotation = _triad(in_camera) @ _triad(points[:, None].expand_as(in_camera)).mT
    translation = in_camera.mean(-2) - (rotation @ points.mean(-2)[:, None, :, None]).squeeze(-1)
    return rotation, translation, exists & rotation.isfinite().all(-1).all(-1)


def _triad(corners: Tensor) -> Tensor:
    """Orthonormal axes, as columns (..., 3, 3), of triangles (..., 3, 3)."""
    a, b, c = corners.unbind(-2)
    x = torch.nn.functional.normalize(b - a, dim=-1)
    z = torch.nn.functional.normalize(torch.linalg.cross(x, c - a), dim=-1)
    return torch.stack([x, torch.linalg.cross(z, x), z], dim=-1)


def samples_needed(inliers: float, points: float) -> float:
    """How many samples find one of inliers alone that leads to their pose."""
    n, k = max(points, 3.0), min(max(inliers, 3.0), points)
    share = k * (k - 1.0) * (k - 2.0) / max(n * (n - 1.0) * (n - 2.0), 1.0)
    return LOG_MISS / math.log(1.0 - GOOD_SAMPLE * min(max(share, 1e-12), 1.0))


def fewest_inliers(points: int, each: float) -> int:
    """The fewest inliers that could be more than chance explains; ``each``: what one tells, log of a density ratio."""
    for k in range(4, points):
        choices = math.lgamma(points + 2.0) - math.lgamma(k + 1.0) - math.lgamma(points - k + 1.0)
        if (k - 3.0) * each - choices >= MIN_EVIDENCE:
            return k
    return max(points, 4)


def samples_until_sure(points: int, fewest: int) -> float:
    """After how many samples the chance to have missed a pose that would be believed is ``CHANCE_MISSED``.

    Any number of inliers is as probable beforehand, as it is for the acceptance.
    """
    n = max(points, 3)
    counts = torch.arange(float(fewest), points + 1.0, dtype=torch.float64)
    share = counts * (counts - 1.0) * (counts - 2.0) / (n * (n - 1.0) * (n - 2.0))
    drawn = FIRST_CHECK
    while float((-GOOD_SAMPLE * share * drawn).exp().sum()) > CHANCE_MISSED * (points + 1.0):
        drawn *= CHECK_AGAIN
    return drawn


def search(
    problem: LMProblem, settings: LMSettings, judge: Judge, each: float, known_inliers: float = 0.0
) -> LMProblem:
    """The best two hypotheses for one problem.

    Args:
        problem: (1, ...), about its points' centroid; its pose is not read unless it is known.
        settings: loss and the most samples.
        judge: what speaks for poses.
        each: what a point tells in the mean, log of its density ratio.
        known_inliers: how many points the problem's pose explains, if it is beyond doubt; 0: it is not. Then only a
            pose that explains more is sought.

    Returns:
        The problem twice (2, ...) at both poses, the better one first; the same pose twice if there is no other.
    """
    kind = RobustKind.GEMAN_MCCLURE if settings.kind == RobustKind.CAUCHY else settings.kind
    rough = replace(settings, kind=kind, max_iterations=POLISH_STEPS, anneal_from=SAMPLE_SCALE * settings.scale)
    bearings = problem.camera.unproject(problem.image_points)[0]
    planes = (torch.linalg.det(problem.weights[0]) != 0) & bearings.isfinite().all(-1)
    candidates = planes.nonzero().squeeze(-1)
    points = int(problem.used.sum())
    if len(candidates) < 3:
        return _at(problem, *(torch.cat([x, x]) for x in (problem.rotation, problem.translation)))
    most = float(settings.samples)
    sure = samples_until_sure(points, fewest_inliers(points, each)) if kind.redescending else TRUSTING_SAMPLES
    most = min(most, sure)
    generator = torch.Generator().manual_seed(points)
    poses = [problem.rotation, problem.translation]
    costs = torch.full((1,), math.inf).to(bearings)
    needed, drawn = most, 0
    if known_inliers > 0.0 and points >= FEW:
        costs = cost(problem, rough, settings.scale)
        better = samples_needed(BETTER * known_inliers, points) * LOG_MISS_TRUSTED / LOG_MISS
        needed = min(most, max(better, LEAST_SAMPLES))
    polished = POLISHED if problem.used.shape[-1] > EVERY else 8 * POLISHED
    while drawn < needed:
        if problem.used.shape[-1] <= EVERY:  # all at once
            sample = torch.combinations(candidates, 3)
            needed = 0.0
        else:
            order = torch.rand(ROUND, len(candidates), generator=generator).argsort(-1)[:, :3].to(candidates.device)
            sample = candidates[order]
        rotation, translation, exists = p3p(bearings[sample], problem.object_points[0, sample])
        drawn += ROUND
        if not bool(exists.any()):
            continue
        tried = _at(problem, rotation[exists], translation[exists])
        chosen = cost(tried, rough, rough.anneal_from).topk(min(polished, int(exists.sum())), largest=False).indices
        start = _at(problem, tried.rotation[chosen], tried.translation[chosen])
        rotation, translation, _ = lm_reference.iterate(start, rough)
        poses = [torch.cat(pair) for pair in zip(poses, (rotation, translation))]
        costs = torch.cat([costs, cost(_at(problem, rotation, translation), rough, settings.scale)])
        poses, costs = _best_two(problem, settings, judge, poses, costs)
        if kind.redescending:
            best = judge(_at(problem, poses[0][:1], poses[1][:1]))
            evidence, inliers = best.evidence, best.inlier.sum(-1)
            if needed > 0.0 and float(evidence) > MIN_EVIDENCE:
                needed = samples_needed(float(inliers), points)
                if float(evidence) > TRUSTED_EVIDENCE:
                    needed *= LOG_MISS_TRUSTED / LOG_MISS
                needed = min(most, needed)
    return _at(problem, *(torch.cat([x, x])[:2] for x in poses))


def by_standing(problem: LMProblem, settings: LMSettings) -> bool:
    """Whether hypotheses compete by their standing; of few points, or with a loss without bound, by their cost."""
    return settings.kind.redescending and int(problem.used.sum()) >= FEW


def _best_two(
    problem: LMProblem, settings: LMSettings, judge: Judge, poses: list[Tensor], costs: Tensor
) -> tuple[list[Tensor], Tensor]:
    """The best pose, and the best other one where there is one."""
    many, near, given = by_standing(problem, settings), False, costs
    if many:
        weighed = judge(_at(problem, *poses))
        costs = torch.where(costs.isfinite(), -weighed.standing, costs)
        near = bool(weighed.near[costs.argmin()])
    best = int(costs.argmin())
    if int(problem.used.sum()) < FEW or near:
        scale = costs.new_full((len(costs),), settings.scale)
        hessian = lm_reference.linearise(_at(problem, *poses), settings, *poses, scale).hessian
        step = se3.local(Pose(poses[0][best].expand_as(poses[0]), poses[1][best].expand_as(poses[1])), Pose(*poses))
        lengths = [torch.einsum("bi,bij,bj->b", step, x.expand_as(hessian), step) for x in (hessian, hessian[best])]
        different = torch.maximum(*lengths) > DISTINCT
    else:
        different = 0.5 * ((poses[0] * poses[0][best]).sum((-2, -1)) - 1.0) < math.cos(APART)
    others = torch.where(different, costs, torch.inf)
    keep = [best] + ([int(others.argmin())] if bool(others.isfinite().any()) else [])
    return [x[keep] for x in poses], given[keep]


def _at(problem: LMProblem, rotation: Tensor, translation: Tensor) -> LMProblem:
    """One problem (1, ...) at many poses."""
    count = len(rotation)

    def repeat(x: Tensor) -> Tensor:
        return x[:1].expand(count, *x.shape[1:])

    return replace(
        problem,
        image_points=repeat(problem.image_points),
        object_points=repeat(problem.object_points),
        weights=repeat(problem.weights),
        rotation=rotation,
        translation=translation,
    )


def cost(problem: LMProblem, settings: LMSettings, c: float) -> Tensor:
    """(B) robust cost at the problems' poses."""
    scale = problem.translation.new_full((len(problem.translation),), c)
    squared = lm_reference.linearise(problem, settings, problem.rotation, problem.translation, scale).squared
    return 0.5 * robust.rho(settings.kind, squared, c).sum(-1)
