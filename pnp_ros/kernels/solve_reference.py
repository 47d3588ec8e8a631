"""A whole solve in plain torch: start, refine, accept; what :mod:`pnp_ros.kernels.solve_warp` is tested against.

Nothing here calls a kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from pnp_ros.geometry import se3
from pnp_ros.geometry.covariance import UNKNOWN_VARIANCE
from pnp_ros.kernels import accept_reference, lm_reference, robust, search_reference
from pnp_ros.kernels.accept_reference import (
    DISTINCT,
    EXPLAINED,
    EXPLAINED_FOR_SURE,
    LOG_2_PI,
    MAX_DOUBT,
    MAX_ROUNDING2,
    MIN_EVIDENCE,
    MIN_EVIDENCE_WITH_PRIOR,
    MIN_PROBABILITY,
    SLENDER_WORTH,
    SURE_EVIDENCE,
    THIN,
    TRUSTED_EVIDENCE,
    VAGUE,
    Weighed,
)
from pnp_ros.kernels.doubt_reference import MANY_INLIERS, Outliers
from pnp_ros.kernels.lm_problem import LMProblem, LMResult, LMSettings
from pnp_ros.kernels.robust import NUM_PARAMETERS, RobustKind
from pnp_ros.types import Pose, SolveStatus
from pnp_ros.types.correspondences import rank_2x2

RUNNER_UP = 10.0  # of standing that another hypothesis may have less and still be tried
RUNNER_UP_POINTS = 1.5  # points, likewise, of few points or a loss without bound
OTHER_SCALE = 4.0  # the loss's scale at the start of another hypothesis, relative to the final one


@dataclass(eq=False)
class _Minimum:
    """Poses of the centroids (B, ...), whether they converged, and what speaks for them; ``standing`` -1e30: none.

    ``inlier`` (B, N) are the points that do.
    """

    rotation: Tensor
    translation: Tensor
    converged: Tensor
    hessian: Tensor
    evidence: Tensor
    standing: Tensor
    inlier: Tensor
    squares: Tensor
    outliers: Tensor
    log_spread: Tensor

    def where(self, mask: Tensor, other: _Minimum) -> _Minimum:
        """``self`` where the mask (B) holds, else ``other``."""
        chosen = {}
        for field in fields(self):
            x = getattr(self, field.name)
            chosen[field.name] = torch.where(mask.reshape(-1, *(1,) * (x.ndim - 1)), x, getattr(other, field.name))
        return _Minimum(**chosen)


class _Judge:
    """What is known of a batch of problems beside their poses."""

    def __init__(self, problem: LMProblem, settings: LMSettings) -> None:
        self.settings = settings
        self.used = problem.used
        residuals = rank_2x2(problem.weights)
        self.rank = residuals
        points, told = self.used.sum(-1).to(problem.weights), residuals.sum(-1).to(problem.weights)
        self.freedom = told - NUM_PARAMETERS
        self.planes = (residuals == 2).sum(-1)
        plane, line = (robust.calibration(settings.kind, settings.scale, count) for count in (2, 1))
        share = (2.0 * points - told) / told.clamp_min(1.0)
        self.mean_weight = plane.mean_weight + share * (line.mean_weight - plane.mean_weight)
        self.information = plane.information + share * (line.information - plane.information)
        self.area = float(problem.camera.width * problem.camera.height)
        determinant = torch.linalg.det(problem.weights).abs()
        length = problem.weights.flatten(-2).norm(dim=-1)
        size = torch.where(residuals == 2, determinant, length).clamp_min(1e-30)
        self.log_density = size.log() + 0.5 * residuals * (math.log(self.area) - LOG_2_PI)
        self.each = (self.log_density * self.used).sum(-1) / points.clamp_min(1.0)
        self.variance = (-self.each).exp() * self.area / (2.0 * math.pi)  # of an image point, px^2
        _, _, self.extent2 = accept_reference.flatness(problem.object_points, self.used)

    def only(self, index: int) -> _Judge:
        """Of one problem, for any number of poses of it."""
        one = object.__new__(_Judge)
        for name, value in vars(self).items():
            setattr(one, name, value[index : index + 1] if isinstance(value, Tensor) else value)
        return one

    def weigh(self, problem: LMProblem) -> tuple[Weighed, lm_reference.Linearised]:
        """What speaks for the problems' poses, and the normal equations there."""
        scale = problem.translation.new_full(problem.translation.shape[:1], self.settings.scale)
        at = lm_reference.linearise(problem, self.settings, problem.rotation, problem.translation, scale)
        weight = robust.weight(self.settings.kind, at.squared, scale[:, None]) * self.used
        volume = self.volume(problem, at.hessian)
        if problem.prior is not None:
            volume = volume + at.prior_cost
        weighed = accept_reference.weigh(
            at.squared,
            self.log_density,
            self.used,
            weight.sum(-1) / self.mean_weight,
            volume,
            self.area,
            problem.image_points,
            self.rank,
            self.extent2
            * problem.camera.intrinsics[..., :2].prod(-1)
            / (problem.translation.square().sum(-1) * self.variance),
        )
        return weighed, at

    def distances(self, problem: LMProblem, translation: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distance and size of the object (B), and the image's area over the product of focal lengths (B)."""
        places = self.area / problem.camera.intrinsics[..., :2].prod(-1).expand(len(translation))
        return translation.square().sum(-1) + self.extent2, places

    def volume(self, problem: LMProblem, hessian: Tensor) -> Tensor:
        """Log of how many poses could be told apart, at one where the points' and the prior's Hessian is given."""
        distance2, places = self.distances(problem, problem.translation)
        information = self.information[:, None, None]
        if problem.prior is None:
            return accept_reference.log_volume(hessian * information, distance2, places)
        before = torch.diag_embed(problem.prior.information)
        joint = (hessian - before) * information + before
        return accept_reference.log_volume_with_prior(joint, problem.prior, distance2, places)

    def weighed(self, problem: LMProblem) -> Weighed:
        """What speaks for the problems' poses."""
        return self.weigh(problem)[0]


def solve(problem: LMProblem, settings: LMSettings, given: bool) -> tuple[LMResult, Tensor]:
    """Every problem of a batch; float32 or float64, any device.

    Args:
        problem: with initial poses, which are not read unless ``given``.
        settings: loss and limits.
        given: whether to start from the problem's poses.

    Returns:
        The solution, and the second hypothesis (B, 49) as in :class:`pnp_ros.types.Alternative`.
    """
    finite = lm_reference.is_finite(problem)
    centred, centroid = lm_reference.centre(lm_reference.without_nan(problem, finite))
    judge = _Judge(centred, settings)
    many = settings.accept and settings.max_iterations > 0
    nobody = torch.zeros_like(finite)
    runner_up, worth_trying = centred, nobody
    best = _minimum(centred, settings, judge, restart=True)
    other = replace(best, standing=torch.full_like(best.standing, -1e30))
    vague = ~nobody
    if centred.prior is not None:
        vague = accept_reference.log_share(centred.prior, *judge.distances(centred, best.translation)) > VAGUE
    searched, known = ~nobody, torch.zeros_like(best.evidence)
    if given:
        points, inliers = judge.used.sum(-1), best.inlier.sum(-1)
        sure = (inliers >= EXPLAINED_FOR_SURE * points) & (best.evidence > SURE_EVIDENCE * points)
        trusted = ((inliers >= EXPLAINED * points) | sure) & (best.evidence > TRUSTED_EVIDENCE)
        slender = accept_reference.slender(centred.object_points, judge.used)
        trusted = trusted & ~slender
        known = torch.where(best.evidence > TRUSTED_EVIDENCE, inliers.to(known), 0.0)
        known = torch.where(slender, SLENDER_WORTH * known, known)
        searched = ~trusted & vague if many and settings.samples > 0 else nobody
    if bool(searched.any()):
        from_best = replace(centred, rotation=best.rotation, translation=best.translation)
        start, runner_up, worth_trying = _search(from_best, settings, judge, searched, known)
        found = _minimum(start, replace(settings, anneal_from=settings.scale), judge)
        if given:
            best, other = _better(best, other, found, searched)
        else:
            best = found
    if many:
        wide = replace(settings, anneal_from=OTHER_SCALE * settings.scale)
        turned, thickness = accept_reference.mirrored(
            centred.object_points, judge.used, best.rotation, best.translation
        )
        focal2 = centred.camera.intrinsics[..., :2].prod(-1)
        pixels2 = thickness * focal2 / best.translation.square().sum(-1)
        thin = (pixels2 <= THIN**2 * judge.variance) & vague
        if bool(thin.any()):
            start = replace(centred, rotation=turned, translation=best.translation)
            best, other = _better(best, other, _minimum(start, wide, judge), thin)
        worth_trying = worth_trying & vague
        if bool(worth_trying.any()):
            found = _minimum(runner_up, replace(settings, anneal_from=settings.scale), judge)
            best, other = _better(best, other, found, worth_trying)
    return _answer(centred, settings, judge, best, other, centroid, finite, given, vague)


def _minimum(problem: LMProblem, settings: LMSettings, judge: _Judge, restart: bool = False) -> _Minimum:
    """The minima from the problems' poses."""
    rotation, translation, converged = lm_reference.minimise(problem, settings, restart)
    weighed, at = judge.weigh(replace(problem, rotation=rotation, translation=translation))
    return _Minimum(
        rotation,
        translation,
        converged,
        at.hessian,
        weighed.evidence,
        weighed.standing,
        weighed.inlier,
        at.squared.sum(-1),
        weighed.outliers,
        weighed.log_spread,
    )


def _search(
    problem: LMProblem, settings: LMSettings, judge: _Judge, where: Tensor, known: Tensor
) -> tuple[LMProblem, LMProblem, Tensor]:
    """The best hypotheses by samples, the second best, and where the second is worth trying, for some problems.

    ``known`` (B): how many points the problem's pose explains where that is beyond doubt, else 0.
    """
    first = [problem.rotation.clone(), problem.translation.clone()]
    second = [problem.rotation.clone(), problem.translation.clone()]
    worth = torch.zeros_like(where)
    for index in where.nonzero().flatten().tolist():
        one = _single(problem, index)
        found = search_reference.search(
            one, settings, judge.only(index).weighed, float(judge.each[index]), float(known[index])
        )
        for k, name in enumerate(("rotation", "translation")):
            first[k][index], second[k][index] = getattr(found, name)
        apart = bool((found.rotation[0] != found.rotation[1]).any())
        if search_reference.by_standing(one, settings):
            standing = judge.only(index).weighed(found).standing
            worth[index] = apart and float(standing[1]) > float(standing[0]) - RUNNER_UP
        else:
            cost = search_reference.cost(found, settings, settings.scale)
            worth[index] = apart and float(cost[1]) < float(cost[0]) + RUNNER_UP_POINTS * 0.5 * settings.scale**2
    return (
        replace(problem, rotation=first[0], translation=first[1]),
        replace(problem, rotation=second[0], translation=second[1]),
        worth,
    )


def _single(problem: LMProblem, index: int) -> LMProblem:
    """Problem ``index`` alone (1, ...)."""
    camera = problem.camera
    if camera.intrinsics.ndim > 1:
        row = slice(index, index + 1)
        camera = replace(camera, intrinsics=camera.intrinsics[row], distortion=camera.distortion[row])
    tensors = {f.name: getattr(problem, f.name) for f in fields(LMProblem) if f.name not in ("camera", "prior")}
    return LMProblem(camera=camera, **{name: x[index : index + 1] for name, x in tensors.items()})


def _better(best: _Minimum, other: _Minimum, found: _Minimum, where: Tensor) -> tuple[_Minimum, _Minimum]:
    """The best two of three, where a new one is to be considered."""
    step = se3.local(Pose(best.rotation, best.translation), Pose(found.rotation, found.translation))
    lengths = [torch.einsum("bi,bij,bj->b", step, x.hessian, step) for x in (best, found)]
    distinct = (torch.maximum(*lengths) > DISTINCT) & where
    more = (found.standing > best.standing) & where
    next_best = (found.standing > other.standing) & distinct & ~more
    other = best.where(more & distinct, found.where(next_best, other))
    return found.where(more, best), other


def _answer(
    problem: LMProblem,
    settings: LMSettings,
    judge: _Judge,
    best: _Minimum,
    other: _Minimum,
    centroid: Tensor,
    finite: Tensor,
    given: bool,
    vague: Tensor,
) -> tuple[LMResult, Tensor]:
    """Statuses by what speaks for the poses, and covariances that know of the second hypothesis."""
    outliers = None
    if settings.accept and settings.kind.redescending:
        few = best.inlier.sum(-1) < MANY_INLIERS
        outliers = Outliers(best.outliers, best.log_spread, judge.each, judge.used, judge.rank, few)
    result = lm_reference.finish(problem, settings, best.rotation, best.translation, best.converged, centroid, outliers)
    status = result.status.clone()
    if settings.accept:
        believed = best.evidence > (MIN_EVIDENCE if problem.prior is None else MIN_EVIDENCE_WITH_PRIOR)
        squares, freedom = best.squares, judge.freedom
        if problem.prior is not None:
            eta, _ = problem.prior.residual(best.rotation, best.translation)
            squares = squares + (problem.prior.information * eta.square()).sum(-1)
            freedom = freedom + problem.prior.rank
        if settings.kind == RobustKind.GAUSSIAN:
            believed = (believed | ~vague) & accept_reference.fits(squares, freedom)
        if problem.prior is not None:
            believed = believed | ~judge.used.any(-1)  # no points contradict no prior
        usable = status <= int(SolveStatus.MAX_ITERATIONS)
        status[usable & ~believed] = int(SolveStatus.UNEXPLAINED)
        few = (_different(problem) < 4) & vague
        focal2 = problem.camera.intrinsics[..., :2].prod(-1)
        rounding2 = (torch.finfo(centroid.dtype).eps * centroid.norm(dim=-1)).square() * focal2
        few = few | (rounding2 > MAX_ROUNDING2 * judge.variance * best.translation.square().sum(-1))
        if not given and problem.prior is None:
            few = few | (judge.planes < 3)
        undetermined = few | (result.covariance[:, 5, 5] == UNKNOWN_VARIANCE)
        behind = status == int(SolveStatus.BEHIND_CAMERA)
        status[undetermined & ~(behind & given)] = int(SolveStatus.DEGENERATE)
    second = lm_reference.finish(problem, settings, other.rotation, other.translation, other.converged, centroid)
    there = (other.standing > -1e30) & (second.status <= int(SolveStatus.MAX_ITERATIONS))
    probability = torch.where(there, torch.sigmoid(other.standing - best.standing), 0.0)
    if settings.accept:
        shared = (best.inlier & other.inlier).sum(-1)
        swapped = shared < torch.minimum(best.inlier.sum(-1), other.inlier.sum(-1))
        swapped &= ~accept_reference.close(
            Pose(best.rotation, best.translation), Pose(other.rotation, other.translation)
        )
        doubtful = swapped & (probability > MAX_DOUBT) & (status <= int(SolveStatus.MAX_ITERATIONS))
        status[doubtful] = int(SolveStatus.UNEXPLAINED)
    step = se3.local(Pose(result.rotation, result.translation), Pose(second.rotation, second.translation))
    p = probability[:, None, None]
    mixed = result.covariance + p / (1.0 - p) * (second.covariance + step[:, :, None] * step[:, None, :])
    covariance = torch.where(p > MIN_PROBABILITY, mixed, result.covariance)
    unusable = status > int(SolveStatus.MAX_ITERATIONS)
    unknown = UNKNOWN_VARIANCE * torch.eye(6).to(covariance)
    covariance = torch.where(unusable[:, None, None], unknown, covariance)
    result = lm_reference.sanitise(replace(result, covariance=covariance, status=status), finite)
    there = there & finite & (result.status != int(SolveStatus.NOT_FINITE))
    values = [
        torch.where(there[:, None], x.flatten(1), y.flatten(1))
        for x, y in (
            (second.rotation, result.rotation),
            (second.translation, result.translation),
            (second.covariance, result.covariance),
        )
    ]
    return result, torch.cat([*values, torch.where(there, probability, 0.0)[:, None]], dim=-1)


def _different(problem: LMProblem) -> Tensor:
    """(B) how many different points with weight there are, up to four: three have up to four poses."""
    others, points = problem.used, problem.object_points
    count = torch.zeros(len(others), dtype=torch.int64, device=others.device)
    for _ in range(4):
        count += others.any(-1)
        if others.shape[-1] == 0:
            break
        index = others.to(torch.int8).argmax(-1)[:, None, None].expand(-1, 1, 3)
        others = others & (points != points.gather(1, index)).any(-1)
    return count
