"""Structure and motion from tracked points of a calibrated camera: keypoints of an object that has no mesh.

The incremental way (Schoenberger, Frahm, "Structure-from-motion revisited", CVPR 2016): two views by the essential
matrix (Nister, PAMI 2004), then, in rounds, the poses of all further views by :func:`solve_pnp`, the points that they
add by triangulation, and bundle adjustment. All views of a round are solved in one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.multiview import bundle_adjustment
from pnp_ros.multiview.bundle_adjustment import Structure, whitened_residuals
from pnp_ros.multiview.schur import NormalEquations
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure, RobustLoss
from pnp_ros.types import Correspondences, Pose

_LOSS = GemanMcClure()
_MIN_POINTS = 8  # to start with two views, and to place a further one
_MIN_PARALLAX = 0.03  # rad, of the rays that determine a point
_PAIR_VIEWS = 24  # views, spread over all, among which the first two are sought
_PAIRS = 12  # pairs tried
_MAX_ROUNDS = 20
_FIRST_SIGMA, _LEAST_SIGMA = 1.0, 1e-3  # px, until the residuals say more, and at least
_RAYLEIGH_MEDIAN = 1.1774  # of the length of a two-dimensional Gaussian vector
_INLIER = 0.25  # robust weight of an image point that confirms its point: within three sigmas
_INLIER_SIGMAS = 4.0  # in the end; a closer bound would cut good points off and spoil the covariance


class ReconstructionError(ValueError):
    """The tracks do not determine a structure; the message says why."""


@dataclass(frozen=True)
class Reconstruction:
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
    """

    structure: Structure
    found: Tensor
    placed: Tensor
    covariance: Tensor
    inliers: Tensor
    sigma: float
    rms: float
    converged: bool


def reconstruct(
    tracks: Tensor, camera: Camera, *, sigma: float | None = None, known_distance: tuple[int, int, float] | None = None
) -> Reconstruction:
    """Points and poses from their tracks through the views of one camera.

    Args:
        tracks: (V, M, 2) px, NaN where a view does not see a point. Wrong tracks are withstood to some extent.
        camera: of all views.
        sigma: standard deviation of the tracks in px; None takes it from the residuals.
        known_distance: two points (indices) and their distance in metres. None: the points are a unit away from their
            mean, in the root mean square.

    Raises:
        ReconstructionError: if two views with enough common points and parallax are not found, or an end of the known
            distance is not reconstructed.
        ValueError: if an argument does not fit; the message names it.
    """
    if tracks.ndim != 3 or tracks.shape[-1] != 2:
        raise ValueError(f"tracks: expected shape (V, M, 2), got {tuple(tracks.shape)}")
    if known_distance is not None:
        a, b, metres = known_distance
        if a == b or not all(0 <= end < tracks.shape[1] for end in (a, b)) or not metres > 0:
            raise ValueError(f"known_distance: expected two different points and metres, got {known_distance}")
    if sigma is not None and not sigma > 0:
        raise ValueError(f"sigma: expected more than 0 px, got {sigma}")
    builder = _Builder(tracks.double(), camera.to(dtype=torch.float64), sigma)
    builder.start()
    for _ in range(_MAX_ROUNDS):
        if not builder.place_views():
            break
        builder.triangulate()
        builder.adjust(Cauchy(), builder.seen)
    return builder.finish(known_distance)


def triangulate(bearings: Tensor, poses: Pose, weights: Tensor, hypotheses: int = 24) -> tuple[Tensor, Tensor]:
    """Points (M, 3) that most of their rays meet, and the parallax (M) in rad of those rays; 0 where none is found.

    For each point the best of some two-ray hypotheses, refined by reweighted least squares on the distances to the
    rays (Geman-McClure on the angles).

    Args:
        bearings: (V, M, 3) unit, in each camera's frame.
        poses: (V) ``T_camera_object``.
        weights: (V, M) inverse standard deviation of the bearings, 1/rad; zero where not seen.
        hypotheses: pairs of rays tried for each point.
    """
    rays = bearings @ poses.rotation
    centres = -(poses.rotation.mT @ poses.translation[..., None]).squeeze(-1)[:, None]
    seen = weights > 0
    lottery = torch.rand(hypotheses, *weights.shape, generator=torch.Generator().manual_seed(0)).to(rays)
    threshold = torch.where(seen, lottery, -1.0).topk(2, dim=1).values[:, 1:]
    pairs = (seen & (lottery >= threshold)).to(rays)
    points, _ = _nearest(rays, centres, pairs)
    support = _ray_weights(points, rays, centres, weights)
    best = support.sum(1).argmax(0)
    chosen = support[best, :, torch.arange(len(best))].mT
    for _ in range(5):
        points, normal = _nearest(rays, centres, chosen)
        chosen = _ray_weights(points, rays, centres, weights)
    # Two rays at an angle phi: the smallest eigenvalue of the mean of their projectors is (1 - cos phi) / 2.
    share = torch.linalg.eigvalsh(normal)[:, 0] / chosen.sum(0).clamp(min=1e-12)
    parallax = torch.acos((1.0 - 2.0 * share).clamp(-1.0, 1.0))
    return points, torch.where((chosen > _INLIER).sum(0) >= 2, parallax, torch.zeros_like(parallax))


def _nearest(rays: Tensor, centres: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Points (..., M, 3) nearest to rays (V, M, 3) from centres (V, 1, 3), and the normal matrices (..., M, 3, 3)."""
    across = torch.eye(3).to(rays) - rays[..., :, None] * rays[..., None, :]
    target = (across @ centres[..., None]).squeeze(-1)
    normal = torch.einsum("...vm,vmij->...mij", weights, across)
    right = torch.einsum("...vm,vmi->...mi", weights, target)
    return torch.linalg.solve(normal + 1e-9 * torch.eye(3).to(rays), right), normal


def _ray_weights(points: Tensor, rays: Tensor, centres: Tensor, weights: Tensor) -> Tensor:
    """Robust weights (..., V, M) of rays, by their angle to points (..., M, 3)."""
    towards = points[..., None, :, :] - centres
    off = torch.linalg.cross(towards, rays.expand_as(towards)).norm(dim=-1) / towards.norm(dim=-1).clamp(min=1e-12)
    ahead = (towards * rays).sum(-1) > 0
    return torch.where(ahead & (weights > 0), _LOSS.weight((weights * off).square()), torch.zeros_like(off))


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

    def start(self) -> None:
        """Place the two views that see most points under a good angle."""
        best, best_score = None, 0.0
        for i, j in self._likely_pairs():
            pose = self._relative_pose(i, j)
            if pose is None:
                continue
            rotation = torch.stack([torch.eye(3, dtype=torch.float64), pose.rotation])
            poses = Pose(rotation, torch.stack([torch.zeros(3, dtype=torch.float64), pose.translation]))
            _, parallax = triangulate(self.bearings[[i, j]], poses, self._angular_weights()[[i, j]])
            good = parallax > _MIN_PARALLAX
            score = float(parallax[good].clamp(max=0.35).sum())
            if int(good.sum()) >= _MIN_POINTS and score > best_score:
                best, best_score = (i, j, poses), score
        if best is None:
            raise ReconstructionError(
                f"tracks: expected two views that see {_MIN_POINTS} common points from clearly different places"
            )
        i, j, poses = best
        self.rotation[[i, j]], self.translation[[i, j]] = poses.rotation, poses.translation
        self.placed[[i, j]] = True
        self.triangulate()
        self.adjust(Cauchy(), self.seen)

    def _likely_pairs(self) -> list[tuple[int, int]]:
        """Pairs of views with many common points that moved far, best first."""
        views = torch.linspace(0, len(self.seen) - 1, min(len(self.seen), _PAIR_VIEWS)).round().long()
        pairs = torch.combinations(views, 2)
        common = self.seen[pairs[:, 0]] & self.seen[pairs[:, 1]]
        moved = torch.where(common, (self.bearings[pairs[:, 0]] - self.bearings[pairs[:, 1]]).norm(dim=-1), torch.nan)
        score = common.sum(-1) * moved.nanmedian(-1).values.clamp(max=0.5)
        score = torch.where(common.sum(-1) >= _MIN_POINTS, score, torch.zeros_like(score))
        order = score.argsort(descending=True)[:_PAIRS]
        return [(int(i), int(j)) for i, j in pairs[order[score[order] > 0]]]

    def _relative_pose(self, i: int, j: int) -> Pose | None:
        """The pose of view j in the frame of view i, a unit away, by the five-point method and RANSAC."""
        import cv2

        ahead = (self.bearings[[i, j], :, 2] > 0.1).all(0)
        common = torch.nonzero(self.seen[i] & self.seen[j] & ahead).squeeze(-1)
        if len(common) < _MIN_POINTS:
            return None
        a, b = (np.ascontiguousarray((r[:, :2] / r[:, 2:]).numpy()) for r in self.bearings[[i, j]][:, common])
        essential, inliers = cv2.findEssentialMat(
            a, b, np.eye(3), method=cv2.RANSAC, prob=0.9999, threshold=2.0 * self.sigma / self.focal
        )
        if essential is None or essential.shape != (3, 3):
            return None
        count, rotation, translation, _ = cv2.recoverPose(essential, a, b, np.eye(3), mask=inliers)
        if count < _MIN_POINTS:
            return None
        return Pose(torch.from_numpy(rotation), torch.from_numpy(translation).squeeze(-1))

    def _angular_weights(self) -> Tensor:
        return self.seen.to(self.pixels) * (self.focal / self.sigma)

    def place_views(self) -> bool:
        """Solve the poses of the views that see enough points; whether any was added."""
        known = self.seen & self.found & ~self.placed[:, None]
        views = torch.nonzero(known.sum(-1) >= _MIN_POINTS).squeeze(-1)
        if len(views) == 0:
            return False
        weights = (known[views, :, None].to(self.pixels) / self.sigma).expand(-1, -1, 2)
        points = self.points.expand(len(views), -1, -1)
        estimate = solve_pnp(Correspondences(self.pixels[views], points, weights), self.camera, loss=_LOSS)
        inliers = (estimate.inlier_weights > _INLIER).sum(-1)
        good = estimate.usable & (inliers >= _MIN_POINTS) & (2 * inliers > known[views].sum(-1))
        chosen = views[good]
        self.rotation[chosen], self.translation[chosen] = estimate.pose.rotation[good], estimate.pose.translation[good]
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
        result, equations, converged = bundle_adjustment.adjust(pixels, weights, self.camera, start, loss)
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
        if int(self.found.sum()) < _MIN_POINTS or int(self.placed.sum()) < 2:
            raise ReconstructionError("tracks: too few of them agree on a structure")
        return inliers & self.found & self.placed[:, None]

    def finish(self, known_distance: tuple[int, int, float] | None) -> Reconstruction:
        """Adjust by least squares on the inliers alone, fix origin and size, and compute covariances."""
        for _ in range(_MAX_ROUNDS):
            inliers = self.prune()
            equations, converged = self.adjust(Gaussian(), inliers)
            if torch.equal(self.prune(), inliers):
                break
        factor, ends = self._size(known_distance)
        points = self.points[self.found]
        blocks = bundle_adjustment.points_covariance(equations, points, ends)
        covariance = torch.zeros(len(self.points), 3, 3, dtype=torch.float64)
        covariance[self.found] = factor**2 * blocks
        structure = Structure(self.points, Pose(self.rotation, self.translation)).about(points.mean(0)).scaled(factor)
        structure.points[~self.found] = 0.0
        structure.poses.translation[~self.placed] = 0.0
        rms = float(self._errors()[0][inliers].square().mean().sqrt())
        return Reconstruction(structure, self.found, self.placed, covariance, inliers, self.sigma, rms, converged)

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
