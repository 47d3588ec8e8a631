"""Structure and motion from tracked points of a calibrated camera: keypoints of an object that has no mesh.

The incremental way (Schoenberger, Frahm, "Structure-from-motion revisited", CVPR 2016): :mod:`two views
<pnp_ros.multiview.two_views>`, then, in rounds, the poses of all further views by :func:`solve_pnp`, the points that
they add by triangulation, and bundle adjustment. All views of a round are solved in one batch; views with few known
points come when no other is left. Where views remain, the same is tried from another pair; parts that share points are
joined where that fits, and the largest result counts.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.multiview import bundle_adjustment
from pnp_ros.multiview.bundle_adjustment import Structure, whitened_residuals
from pnp_ros.multiview.joining import LEAST_COMMON, joining_similarity, poses_after
from pnp_ros.multiview.schur import NormalEquations
from pnp_ros.multiview.triangulation import INLIER, LOSS, triangulate
from pnp_ros.multiview.two_views import from_first, likely_pairs, relative_pose, reversed_pose
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, RobustLoss
from pnp_ros.types import Correspondences, Pose
from pnp_ros.types.tensors import Values, as_tensor

_START_POINTS = (8, 6)  # to start with two views: rather many, else few
_VIEW_POINTS = (8, 6, 5)  # known points that place a view: those with many first
_MIN_POINTS = _VIEW_POINTS[-1]  # that must agree on a view in the end
_NEIGHBOUR_KNOWN = 3  # known points that tell the length of a step from a neighbour
_NO_WORSE = 1.2  # times the noise before: what a view may raise it to that is placed by its neighbour
_SAME_NOISE = 1.7  # times the least noise: a reconstruction that needs more is bent
_STARTS = 6  # pairs that are gone on from, as long as views remain
_TRIALS, _TRIAL_ROUNDS = 4, 3  # reconstructions that are tried for so many rounds, to choose one
_MIN_PARALLAX = 0.03  # rad, of the rays that determine a point
_FINAL_ROUNDS = 20
_STEPS, _FINAL_STEPS = 30, 100  # of an adjustment, between rounds and in the end
_FIRST_SIGMA, _LEAST_SIGMA = 1.0, 1e-3  # px, until the residuals say more, and at least
_RAYLEIGH_MEDIAN = 1.1774  # of the length of a two-dimensional Gaussian vector
_INLIER_SIGMAS = 4.0  # in the end; a closer bound would cut good points off and spoil the covariance

_FOCAL_TOLERANCE, _FOCAL_SIGMAS = 0.02, 4.0  # of a focal length that the tracks contradict


class ReconstructionError(ValueError):
    """The tracks do not determine a structure; the message says why."""


@dataclass(frozen=True, eq=False, repr=False)
class Reconstruction(Values):
    """Points, poses and how well they are known.

    Args:
        structure: points (M, 3) and poses (V), float64. Origin at the mean of the reconstructed points, axes those of
            the first placed view's camera. Metres if a distance was given.
        found: (M) bool: the point is reconstructed; others hold zero.
        placed: (V) bool: the view's pose is known; others hold the identity.
        covariance: (M, 3, 3) of the points, in the frame that they define themselves.
        inliers: (V, M) bool: the image point agrees with the structure, and was used.
        sigma: px, standard deviation of the tracks, given or from the residuals.
        rms: px, root mean square distance of the inliers to their projections.
        converged: whether the last adjustment did.
        focal_error: logarithm of the factor by which the camera's focal length would have to change to fit the tracks
            best (0.1: about 10 % longer), and its standard deviation. An estimate by one linear step.
    """

    structure: Structure
    found: Tensor
    placed: Tensor
    covariance: Tensor
    inliers: Tensor
    sigma: float
    rms: float
    converged: bool
    focal_error: tuple[float, float]

    @property
    def doubtful_focal_length(self) -> bool:
        """Whether the tracks contradict the camera's focal length: by more than 2 % and 4 standard deviations."""
        error, deviation = self.focal_error
        return abs(error) > max(_FOCAL_TOLERANCE, _FOCAL_SIGMAS * deviation)


def reconstruct(
    tracks: ArrayLike,
    camera: Camera,
    *,
    sigma: float | None = None,
    known_distance: tuple[int, int, float] | None = None,
) -> Reconstruction:
    """Points and poses from their tracks through the views of one camera.

    Args:
        tracks: (V, M, 2) px, NaN where a view does not see a point. Wrong tracks are withstood to some extent.
        camera: of all views.
        sigma: standard deviation of the tracks in px; None takes it from the residuals.
        known_distance: two points (indices) and their distance in metres. None: the points are a unit away from their
            mean, in the root mean square.

    The result need not hold all views: see ``placed``. A view needs five known points, seen by two views before; two
    parts are joined by four common points.

    Raises:
        ReconstructionError: if two views with enough common points and parallax are not found, or an end of the known
            distance is not reconstructed.
        ValueError: if an argument does not fit; the message names it.
    """
    tracks = as_tensor("tracks", tracks, torch.zeros((), dtype=torch.float64)).detach().double()
    if tracks.ndim != 3 or tracks.shape[-1] != 2:
        raise ValueError(f"tracks: expected shape (V, M, 2), got {tuple(tracks.shape)}")
    if known_distance is not None:
        a, b, metres = known_distance
        if a == b or not all(0 <= end < tracks.shape[1] for end in (a, b)) or not metres > 0:
            raise ValueError(f"known_distance: expected two different points and metres, got {known_distance}")
    if sigma is not None and not sigma > 0:
        raise ValueError(f"sigma: expected more than 0 px, got {sigma}")
    camera = camera.to(dtype=torch.float64)
    parts: list[_Builder] = []
    tried = torch.zeros(len(tracks), dtype=torch.bool)
    for _ in range(_STARTS):
        starts = _Builder(tracks, camera, sigma).starts(tried)
        if not starts:
            break
        for builder in starts:
            builder.grow(_TRIAL_ROUNDS)
        builder = _most_consistent(starts)
        builder.grow()
        parts = _joined([*parts, builder])
        tried |= builder.placed | parts[-1].placed
        if parts[-1].placed.all():
            break
    if not parts:
        raise ReconstructionError(
            f"tracks: expected two views that see {_START_POINTS[-1]} common points from clearly different places"
        )
    return _finished(parts, known_distance)


def _joined(parts: list[_Builder]) -> list[_Builder]:
    """The parts, the last joined with each of the others that fits; what was joined grows further."""
    *others, last = parts
    left = []
    for part in others:
        both = part.joined(last)
        if both is None:
            left.append(part)
        else:
            both.grow()
            last = both
    return [*left, last]


def _finished(parts: list[_Builder], known_distance: tuple[int, int, float] | None) -> Reconstruction:
    """The most consistent of the parts that a last adjustment leaves."""
    finished: list[tuple[_Builder, Reconstruction]] = []
    failure = None
    for part in parts:
        try:
            finished.append((part, part.finish(known_distance)))
        except ReconstructionError as error:
            failure = error
    if not finished:
        assert failure is not None
        raise failure
    best = _most_consistent([part for part, _ in finished])
    return next(result for part, result in finished if part is best)


def _most_consistent(builders: list[_Builder]) -> _Builder:
    """The one that explains most image points, all judged by the least noise that any of them needs."""
    sigma = min([b.sigma for b in builders if b.placed.sum() > 3] or [b.sigma for b in builders])
    consistent = [b for b in builders if b.sigma <= _SAME_NOISE * sigma] or builders
    return max(consistent, key=lambda builder: builder.explained(sigma))


class _Builder:
    """The state of an incremental reconstruction."""

    def __init__(self, tracks: Tensor, camera: Camera, sigma: float | None) -> None:
        views, count = tracks.shape[:2]
        self.seen = tracks.isfinite().all(-1)
        self.pixels = torch.where(self.seen[..., None], tracks, torch.zeros_like(tracks))
        self.camera = camera
        bearings = camera.unproject(self.pixels)
        self.seen = self.seen & bearings.isfinite().all(-1)  # the lens maps no ray to the others
        self.bearings = bearings.nan_to_num(0.0)
        self.given_sigma = sigma
        self.sigma = sigma or _FIRST_SIGMA
        self.focal = float(camera.intrinsics[..., :2].mean())
        self.found = torch.zeros(count, dtype=torch.bool)
        self.placed = torch.zeros(views, dtype=torch.bool)
        self.points = torch.zeros(count, 3, dtype=torch.float64)
        self.rotation = torch.eye(3, dtype=torch.float64).repeat(views, 1, 1)
        self.translation = torch.zeros(views, 3, dtype=torch.float64)

    def starts(self, tried: Tensor) -> list[_Builder]:
        """Reconstructions of two views, not both of those (V) that were tried: rather of many points, else of few.

        Of a small object two views tell little apart from its mirror image in depth (Necker's reversal), so that each
        pair gives two.
        """
        for minimum in _START_POINTS:
            found = []
            for i, j in likely_pairs(self.bearings, self.seen, minimum, tried):
                pose = self._relative_pose(i, j, minimum)
                if pose is None:
                    continue
                for second in (pose, self._reversed(i, j, pose)):
                    poses = from_first(second)
                    _, parallax = triangulate(self.bearings[[i, j]], poses, self._angular_weights()[[i, j]])
                    good = parallax > _MIN_PARALLAX
                    if int(good.sum()) >= minimum:
                        found.append((float(parallax[good].clamp(max=0.35).sum()), i, j, poses))
            if found:
                found.sort(key=lambda entry: -entry[0])
                return [self._started((i, j), poses.rotation, poses.translation) for _, i, j, poses in found[:_TRIALS]]
        return []

    def _started(self, views: tuple[int, ...], rotation: Tensor, translation: Tensor) -> _Builder:
        """A copy with further views at poses (n, 3, 3), (n, 3), adjusted."""
        builder = copy.copy(self)
        builder.rotation, builder.translation = self.rotation.clone(), self.translation.clone()
        builder.points, builder.found = self.points.clone(), self.found.clone()
        builder.placed = self.placed.clone()
        builder.rotation[list(views)], builder.translation[list(views)] = rotation, translation
        builder.placed[list(views)] = True
        builder.triangulate()
        builder.adjust(Cauchy(), builder.seen)
        return builder

    def _relative_pose(self, i: int, j: int, minimum: int) -> Pose | None:
        """The pose of view j in the frame of view i, a unit away, on which so many points agree."""
        return relative_pose(self.bearings[[i, j]], self.seen[[i, j]], self.sigma / self.focal, minimum)

    def _reversed(self, i: int, j: int, pose: Pose) -> Pose:
        """The pose of view j that shows, far away, the same of the points mirrored along the ray of view i."""
        points, parallax = triangulate(self.bearings[[i, j]], from_first(pose), self._angular_weights()[[i, j]])
        return reversed_pose(pose, points[parallax > 0].mean(0) if bool((parallax > 0).any()) else points.mean(0))

    def grow(self, rounds: int | None = None) -> None:
        """Place further views as long as there are any, those with many known points before those with few."""
        while rounds != 0:
            rounds = None if rounds is None else rounds - 1
            if any(self.place_views(minimum) for minimum in _VIEW_POINTS):
                self.triangulate()
                self.adjust(Cauchy(), self.seen)
            elif not self.place_by_neighbour():
                break

    def place_by_neighbour(self) -> bool:
        """Place one view by the points that it shares with a placed one, known or not; whether one was.

        Where neighbours share few points, too few of them are known to place a view by those alone. The essential
        matrix tells the rest, up to the length of the step, which the known ones tell. What comes of it is kept only if
        it fits as well as all before.
        """
        common = (self.seen[:, None] & self.seen[None, self.placed]).sum(-1)  # (V, placed)
        known = (self.seen & self.found).sum(-1)
        views = torch.nonzero(~self.placed & (known >= _NEIGHBOUR_KNOWN)).flatten()
        placed = torch.nonzero(self.placed).flatten()
        for view in sorted(views.tolist(), key=lambda v: -int(common[v].max() + known[v])):
            neighbour = int(placed[common[view].argmax()])
            if int(common[view].max()) < _START_POINTS[-1]:
                continue
            relative = self._relative_pose(neighbour, view, _START_POINTS[-1])
            for step in () if relative is None else (relative, self._reversed(neighbour, view, relative)):
                trial = self._with_neighbour(view, neighbour, step)
                if trial is not None:
                    self.__dict__.update(trial.__dict__)
                    return True
        return False

    def _with_neighbour(self, view: int, neighbour: int, step: Pose) -> _Builder | None:
        """With a view a step away from its neighbour, adjusted; None if that does not fit."""
        rotation = step.rotation @ self.rotation[neighbour]
        shift = step.rotation @ self.translation[neighbour]
        known = self.seen[view] & self.found
        turned = self.points[known] @ rotation.mT + shift
        ray = self.bearings[view, known]
        # the length l for which turned + l t is along the ray: the cross product with the ray is linear in l
        across, along = torch.linalg.cross(ray, turned), torch.linalg.cross(ray, step.translation.expand_as(ray))
        length = (-(across * along).sum(-1) / along.square().sum(-1).clamp(min=1e-12)).median()
        moved = Pose(rotation, shift + length * step.translation)
        trial = self._started((view,), moved.rotation[None], moved.translation[None])
        agreeing, used = (trial.inliers()[view], trial.seen[view] & trial.found)
        enough = int(agreeing.sum()) >= _START_POINTS[-1] and 5 * int(agreeing.sum()) >= 4 * int(used.sum())
        return trial if enough and trial.sigma <= _NO_WORSE * self.sigma else None

    def joined(self, other: _Builder) -> _Builder | None:
        """Both in one, adjusted; None where they share too few points, or do not fit."""
        common = self.found & other.found
        added = torch.nonzero(other.placed & ~self.placed).flatten()
        if int(common.sum()) < LEAST_COMMON or len(added) == 0:
            return None
        step = joining_similarity(other.points[common], self.points[common])
        poses = poses_after(Pose(other.rotation[added], other.translation[added]), *step)
        trial = self._started(tuple(added.tolist()), poses.rotation, poses.translation)
        agreeing, used = trial.inliers()[added].sum(), (trial.seen & trial.found)[added].sum()
        fits = 5 * int(agreeing) >= 4 * int(used) and trial.sigma <= _NO_WORSE * max(self.sigma, other.sigma)
        return trial if fits else None

    def _angular_weights(self) -> Tensor:
        return self.seen.to(self.pixels) * (self.focal / self.sigma)

    def place_views(self, minimum: int) -> bool:
        """Solve the poses of the views that see so many known points; whether any was added.

        In single precision, for which there is a kernel: bundle adjustment goes on from there.
        """
        known = self.seen & self.found & ~self.placed[:, None]
        views = torch.nonzero(known.sum(-1) >= minimum).squeeze(-1)
        if len(views) == 0:
            return False
        weights = (known[views, :, None].to(self.pixels) / self.sigma).expand(-1, -1, 2)
        points = self.points.expand(len(views), -1, -1)
        seen = Correspondences(self.pixels[views].float(), points.float(), weights.float())
        estimate = solve_pnp(seen, self.camera.to(dtype=torch.float32), loss=LOSS)
        inliers = (estimate.inlier_weights > INLIER).sum(-1)
        good = estimate.usable & (inliers >= minimum) & (2 * inliers > known[views].sum(-1))
        chosen = views[good]
        rotation = so3.matrix_from_quat_wxyz(estimate.pose.quat_wxyz[good].double())  # orthonormal to all digits
        self.rotation[chosen], self.translation[chosen] = rotation, estimate.pose.translation[good].double()
        self.placed[chosen] = True
        return len(chosen) > 0

    def triangulate(self) -> None:
        """All points anew from the placed views; a known one moves only if more of its image points then agree."""
        weights = self._angular_weights()[self.placed]
        points, parallax = triangulate(self.bearings[self.placed], self._poses(), weights)
        before = self.inliers().sum(0)
        known, known_points = self.found, self.points
        self.found, self.points = parallax > _MIN_PARALLAX, points
        better = self.inliers().sum(0) > before
        self.points = torch.where((self.found & better)[:, None], points, known_points)
        self.found = known | (self.found & better)

    def _poses(self) -> Pose:
        return Pose(self.rotation[self.placed], self.translation[self.placed])

    def adjust(self, loss: RobustLoss, used: Tensor) -> tuple[NormalEquations, bool]:
        """Bundle adjustment of what is known, on some image points; then sigma from the residuals, if not given."""
        weights = (used.to(self.pixels) / self.sigma)[..., None].expand(-1, -1, 2)
        pixels, weights = (values[self.placed][:, self.found] for values in (self.pixels, weights))
        start = Structure(self.points[self.found], self._poses())
        steps = _FINAL_STEPS if isinstance(loss, Gaussian) else _STEPS
        result, equations, converged = bundle_adjustment.adjust(pixels, weights, self.camera, start, loss, steps)
        self.points[self.found] = result.points
        self.rotation[self.placed], self.translation[self.placed] = result.poses.rotation, result.poses.translation
        if self.given_sigma is None:
            self._estimate_sigma()
        return equations, converged

    def _errors(self) -> tuple[Tensor, Tensor]:
        """Distances (V, M) px of projected and measured points, and where they count."""
        used = self.seen & self.found & self.placed[:, None]
        structure = Structure(self.points, Pose(self.rotation, self.translation))
        weights = used[..., None].to(self.pixels).expand(-1, -1, 2)
        return whitened_residuals(self.pixels, weights, self.camera, structure).norm(dim=-1), used

    def _estimate_sigma(self) -> None:
        """From the inliers' squared errors, for the parameters that were fitted to them."""
        errors, used = self._errors()
        inlier = used & (errors < _INLIER_SIGMAS * max(self.sigma, float(errors[used].median()) / _RAYLEIGH_MEDIAN))
        parameters = 6 * int(self.placed.sum()) + 3 * int(self.found.sum()) - 7
        freedom = max(2 * int(inlier.sum()) - parameters, 1)
        self.sigma = max(float(errors[inlier].square().sum() / freedom) ** 0.5, _LEAST_SIGMA)

    def explained(self, sigma: float) -> float:
        """How many image points agree with the structure, each counted by how well at this noise (px)."""
        errors, used = self._errors()
        return float((1.0 - (errors[used] / (_INLIER_SIGMAS * sigma)).square()).clamp(min=0.0).sum())

    def inliers(self) -> Tensor:
        """(V, M) whether an image point is close enough to its point's projection."""
        errors, used = self._errors()
        return used & (errors < _INLIER_SIGMAS * self.sigma)

    def prune(self) -> Tensor:
        """Forget points that too few views confirm and views that too few points do; the image points (V, M) left.

        Two rays of a wrong track can meet by chance: with more than two views three must agree.
        """
        inliers = self.inliers()
        self.found = self.found & (inliers.sum(0) >= min(3, int(self.placed.sum())))
        self.placed = self.placed & ((inliers & self.found).sum(1) >= _MIN_POINTS)
        if int(self.found.sum()) < _START_POINTS[-1] or int(self.placed.sum()) < 2:
            raise ReconstructionError("tracks: too few of them agree on a structure")
        return inliers & self.found & self.placed[:, None]

    def finish(self, known_distance: tuple[int, int, float] | None) -> Reconstruction:
        """Adjust by least squares on the inliers alone, fix origin and size, and compute covariances."""
        for _ in range(_FINAL_ROUNDS):
            inliers = self.prune()
            equations, converged = self.adjust(Gaussian(), inliers)
            if torch.equal(self.prune(), inliers):
                break
        factor, ends = self._size(known_distance)
        points = self.points[self.found]
        blocks = bundle_adjustment.points_covariance(equations, points, ends)
        if not bool(blocks.isfinite().all()):
            raise ReconstructionError("tracks: parts of what they show can move against each other; track more points")
        covariance = torch.zeros(len(self.points), 3, 3, dtype=torch.float64)
        covariance[self.found] = factor**2 * blocks
        weights = (inliers.to(self.pixels) / self.sigma)[..., None].expand(-1, -1, 2)
        pixels, weights = (values[self.placed][:, self.found] for values in (self.pixels, weights))
        focal_error = bundle_adjustment.focal_length_error(
            pixels, weights, self.camera, Structure(points, self._poses())
        )
        structure = Structure(self.points, Pose(self.rotation, self.translation)).about(points.mean(0)).scaled(factor)
        structure.points[~self.found] = 0.0
        structure.poses.translation[~self.placed] = 0.0
        rms = float(self._errors()[0][inliers].square().mean().sqrt())
        return Reconstruction(
            structure, self.found, self.placed, covariance, inliers, self.sigma, rms, converged, focal_error
        )

    def _size(self, known_distance: tuple[int, int, float] | None) -> tuple[float, tuple[int, int] | None]:
        """The factor to metres, and the places among the found points of the ends of the known distance."""
        if known_distance is None:
            points = self.points[self.found]
            return 1.0 / float((points - points.mean(0)).square().sum(-1).mean().sqrt()), None
        a, b, metres = known_distance
        if not (self.found[a] and self.found[b]):
            raise ReconstructionError(f"known_distance: points {a} and {b} are not both reconstructed")
        order = self.found.cumsum(0) - 1
        return metres / float((self.points[a] - self.points[b]).norm()), (int(order[a]), int(order[b]))
