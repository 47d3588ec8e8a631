"""PnP-Net: a network that tells outliers from inliers and gives a coarse pose, for Levenberg-Marquardt to refine.

After Sheffer and Wiesel, "PnP-Net: A hybrid Perspective-n-Point Network" (ECCV 2020, arXiv 2003.04626): a network's
coarse pose starts an iterative solver, so that robust PnP takes a fixed time whatever the share of outliers. Here the
network also gives each correspondence's probability to be an inlier (the paper's future work), and its poses are not
regressed but solved for, by weighted scaled orthography with iterations (POSIT: DeMenthon and Davis, "Model-based
object pose in 25 lines of code", 1995) in every stage; the residuals at a stage's pose are the next stage's input.

The network is invariant to the order of the points and takes any number of them. Its input does not depend on the
camera, the object's scale or where in the image the object is (:func:`canonicalise`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.solvers import levenberg_marquardt
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.types import Correspondences, Pose

WEIGHTS = Path(__file__).with_name("pnp_net.safetensors")
_RIDGE = 1e-4  # of a squared extent; leaves directions in which an object is flat to the orthogonality of the rows
_MIN_FORWARD = 0.1  # cosine of the largest angle between a canonical bearing and the axis


@dataclass(frozen=True)
class CanonicalProblem:
    """A PnP problem as the network sees it.

    Args:
        image: (..., N, 2) image points on the plane z = 1 of a camera that looks at their mean bearing.
        object: (..., N, 3) object points about their centroid, in units of their rms distance to it.
        precision: (..., N) inverse standard deviation of ``image``; 0 where a point is to be ignored.
    """

    image: Tensor
    object: Tensor
    precision: Tensor

    def depth_ratio(self, pose: Pose) -> Tensor:
        """(..., N) depth of each point relative to the centroid's, less one; kept where it is sensible."""
        depth = pose.translation[..., 2, None].clamp_min(0.1)
        return ((self.object @ pose.rotation[..., 2, :, None]).squeeze(-1) / depth).clamp(-0.8, 3.0)


@dataclass(frozen=True)
class Stage:
    """One stage's view: ``logits`` (..., N) of being an inlier, and the pose in the canonical frames."""

    logits: Tensor
    pose: Pose


@dataclass(frozen=True)
class CanonicalFrames:
    """How the canonical frames lie.

    Args:
        rotation: (..., 3, 3) from the canonical camera to the camera.
        scale: (...) metres in a unit of the canonical frames.
        centroid: (..., 3) metres, origin of the canonical object frame in the object frame.
    """

    rotation: Tensor
    scale: Tensor
    centroid: Tensor

    def to_camera(self, pose: Pose) -> Pose:
        """``T_camera_object`` of a pose in the canonical frames."""
        rotation = self.rotation @ pose.rotation
        translation = (self.rotation @ (self.scale[..., None] * pose.translation)[..., None]).squeeze(-1)
        return Pose(rotation, translation - (rotation @ self.centroid[..., None]).squeeze(-1))

    def from_camera(self, pose: Pose) -> Pose:
        """The inverse of :meth:`to_camera`."""
        centre = (pose.rotation @ self.centroid[..., None]).squeeze(-1) + pose.translation
        translation = (self.rotation.mT @ centre[..., None]).squeeze(-1) / self.scale[..., None]
        return Pose(self.rotation.mT @ pose.rotation, translation)


def _rotation_to(bearing: Tensor) -> Tensor:
    """The smallest rotation (..., 3, 3) that takes the optical axis to unit vectors (..., 3)."""
    x, y, z = bearing.unbind(-1)
    k = 1.0 / (1.0 + z).clamp_min(1e-6)
    rows = [[1 - k * x * x, -k * x * y, x], [-k * x * y, 1 - k * y * y, y], [-x, -y, z]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def canonicalise(correspondences: Correspondences, camera: Camera) -> tuple[CanonicalProblem, CanonicalFrames]:
    """The problem in the network's frames: mean bearing along the axis, object points centred and of unit size."""
    weights = correspondences.square_root_information.det().abs().sqrt()  # zero for lines
    finite = (correspondences.image_points.sum(-1) + correspondences.object_points.sum(-1)).isfinite()
    valid = (finite & (weights > 0) & weights.isfinite()).to(weights)
    count = valid.sum(-1).clamp_min(1.0)[..., None]
    weights, object_points, image_points = (
        torch.where(finite.reshape(finite.shape + (1,) * (x.ndim - finite.ndim)), x, 0.0)
        for x in (weights, correspondences.object_points, correspondences.image_points)
    )

    bearings = camera.unproject(image_points)
    reached = bearings.isfinite().all(-1)  # the lens maps no ray to the others
    bearings, valid = bearings.where(reached[..., None], 0.0), valid * reached
    axis = nn.functional.normalize((valid[..., None] * bearings).sum(-2) / count, dim=-1)
    rotation = _rotation_to(axis)
    local = bearings @ rotation
    forward = local[..., 2]
    valid = valid * (forward > _MIN_FORWARD)
    image = local[..., :2] / forward.clamp_min(_MIN_FORWARD)[..., None]
    _, jacobian = camera.project_with_jacobian(bearings)
    pixels_per_radian = (jacobian @ jacobian.mT).det().clamp_min(0.0).pow(0.25)
    precision = valid * weights * pixels_per_radian * forward.clamp_min(_MIN_FORWARD).pow(1.5)

    centroid = (valid[..., None] * object_points).sum(-2) / count
    centred = object_points - centroid[..., None, :]
    scale = ((valid * centred.square().sum(-1)).sum(-1) / count[..., 0]).sqrt().clamp_min(1e-12)
    points = centred / scale[..., None, None] * valid[..., None]
    return CanonicalProblem(image, points, precision), CanonicalFrames(rotation, scale, centroid)


def scaled_orthographic_pose(problem: CanonicalProblem, weights: Tensor, depth_ratio: Tensor) -> Pose:
    """One weighted iteration of POSIT, coplanar points included.

    Args:
        problem: the canonical problem.
        weights: (..., N) non-negative weights.
        depth_ratio: (..., N) depth of each point relative to the centroid's, less one (0 at the first iteration).

    Returns:
        The pose in the canonical frames.
    """
    design = torch.cat([problem.object, torch.ones_like(problem.image[..., :1])], dim=-1)
    total = weights.sum(-1).clamp_min(1e-6)[..., None, None]
    weighted = design.mT * (weights[..., None, :] / total)
    scatter = weighted @ design
    target = problem.image * (1.0 + depth_ratio)[..., None]
    ridge = _RIDGE * torch.eye(4, dtype=design.dtype, device=design.device)
    solution = torch.linalg.solve_ex(scatter + ridge, weighted @ target)[0]
    affine, offset = solution[..., :3, :], solution[..., 3, :]

    mean = scatter[..., :3, 3]
    covariance = scatter[..., :3, :3] - mean[..., None] * mean[..., None, :]
    extent, axes = torch.linalg.eigh(covariance.detach().nan_to_num(0.0, 0.0, 0.0))
    if not (extent[..., 0] < 100 * _RIDGE).any():
        return _pose_of_affine(affine, offset)
    normal, missing = axes[..., :, :1], _RIDGE / (extent[..., :1, None].clamp_min(0.0) + _RIDGE)
    candidates = [
        _pose_of_affine(affine + missing * normal @ slope, offset) for slope in _slopes_of_flat(affine, normal)
    ]
    errors = [(weights * residuals(problem, pose).square().sum(-1)).sum(-1) for pose in candidates]
    first = (errors[0] <= errors[1])[..., None]
    return Pose(
        torch.where(first[..., None], candidates[0].rotation, candidates[1].rotation),
        torch.where(first, candidates[0].translation, candidates[1].translation),
    )


def _slopes_of_flat(affine: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """What the rows (..., 3, 2) of a scaled rotation lack along the normal (..., 3, 1) of a flat object.

    The two rows are orthogonal and of equal length, which leaves two solutions (..., 1, 2), mirrored at the image
    plane (Oberkampf, DeMenthon and Davis, "Iterative pose estimation using coplanar feature points", 1996).
    """
    along = normal.mT @ affine
    flat = affine - normal @ along
    x, y = flat.unbind(-1)
    difference, product = (y.square() - x.square()).sum(-1), -(x * y).sum(-1)
    # slope_x^2 - slope_y^2 = difference, slope_x slope_y = product: the square root of a complex number
    modulus = (difference.square() + 4.0 * product.square() + 1e-8).sqrt()
    slope_x = (0.5 * (modulus + difference) + 1e-8).sqrt()
    slope_y = torch.where(product < 0, -1.0, 1.0) * (0.5 * (modulus - difference) + 1e-8).sqrt()
    slope = torch.stack([slope_x, slope_y], dim=-1)[..., None, :]
    return slope - along, -slope - along


def _pose_of_affine(affine: Tensor, offset: Tensor) -> Pose:
    """The pose whose scaled orthographic image is nearest to an affine one: (..., 3, 2) and (..., 2)."""
    length = affine.square().sum(-2).clamp_min(1e-12).sqrt()
    first, second = (affine / length[..., None, :]).unbind(-1)
    # Two unit vectors, made orthogonal without preferring one.
    plus = nn.functional.normalize(first + second, dim=-1, eps=1e-4)
    minus = first - second
    minus = nn.functional.normalize(minus - (minus * plus).sum(-1, keepdim=True) * plus, dim=-1, eps=1e-4)
    x, y = (plus + minus) / 2**0.5, (plus - minus) / 2**0.5
    depth = length.prod(-1).rsqrt().clamp(max=1e3)
    translation = torch.cat([offset * depth[..., None], depth[..., None]], dim=-1)
    return Pose(torch.stack([x, y, torch.linalg.cross(x, y)], dim=-2), translation)


def residuals(problem: CanonicalProblem, pose: Pose) -> Tensor:
    """Reprojection error (..., N, 2) on the canonical plane; points behind the camera are held in front of it."""
    points = pose.transform(problem.object)
    return points[..., :2] / points[..., 2:].clamp_min(0.1) - problem.image


def gauss_newton(problem: CanonicalProblem, pose: Pose, likelihood: Tensor, iterations: int = 3) -> Pose:
    """Damped Gauss-Newton steps on the canonical plane, weighted by the likelihoods; autograd goes through them."""
    weight = (likelihood * problem.precision.square())[..., None]
    # Clamped to a 20 deg, 30 % neighbourhood: a step from a bad start must not blow up.
    limit = torch.tensor([0.3, 0.3, 0.3, 0.35, 0.35, 0.35], dtype=weight.dtype, device=weight.device)
    for _ in range(iterations):
        rotated = problem.object @ pose.rotation.mT
        x, y, z = (rotated + pose.translation[..., None, :]).unbind(-1)
        inverse = 1.0 / z.clamp_min(0.1)
        zero = torch.zeros_like(inverse)
        projection = torch.stack([inverse, zero, -x * inverse**2, zero, inverse, -y * inverse**2], dim=-1)
        projection = projection.unflatten(-1, (2, 3))
        jacobian = torch.cat([projection, -projection @ so3.hat(rotated)], dim=-1)
        weighted = (weight[..., None] * jacobian).flatten(-3, -2)
        hessian = weighted.mT @ jacobian.flatten(-3, -2)
        gradient = weighted.mT @ residuals(problem, pose).flatten(-2)[..., None]
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        damping = torch.diag_embed(1e-3 * diagonal + 1e-3 * diagonal.mean(-1, keepdim=True) + 1e-6)
        step = -torch.linalg.solve_ex(hessian + damping, gradient)[0].squeeze(-1)
        bound = torch.cat([limit[:3] * pose.translation[..., 2:].detach(), limit[3:].expand_as(step[..., 3:])], dim=-1)
        pose = se3.retract(pose, bound * torch.tanh(step / bound))
    return pose


class _AttentiveNorm(nn.Module):
    """Normalises features over the points, each head by the points it attends to (Sun et al., ACNe, CVPR 2020)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.Linear(channels, heads)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        scores = self.attention(features).masked_fill(mask[..., None] == 0, -1e4)
        uniform = mask / mask.sum(-1, keepdim=True).clamp_min(1.0)
        # The uniform share bounds the features of points that no head attends to.
        attention = 0.8 * scores.softmax(dim=-2) + 0.2 * uniform[..., None]
        mean = self._of_own_head(attention.mT @ features)
        variance = self._of_own_head(attention.mT @ features.square()) - mean.square()
        scale = (variance.clamp_min(0.0) + 1e-3).rsqrt()
        return torch.addcmul(-mean * scale, features, scale)

    def _of_own_head(self, moments: Tensor) -> Tensor:
        """(..., 1, C) of moments (..., H, C): each channel's under its own head's attention."""
        blocks = moments.unflatten(-1, (self.heads, -1)).diagonal(dim1=-3, dim2=-2)
        return blocks.mT.flatten(-2)[..., None, :]


class _Block(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.first_norm, self.second_norm = _AttentiveNorm(channels, heads), _AttentiveNorm(channels, heads)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        hidden = self.first_norm(self.first(features), mask).relu()
        return features + self.second_norm(self.second(hidden), mask).relu()


class PnPNet(nn.Module):
    """Stages of two residual blocks; each stage weighs the points, solves for the pose and looks at the residuals."""

    def __init__(self, channels: int = 96, stages: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(7, channels)
        self.blocks = nn.ModuleList([_Block(channels, heads) for _ in range(2 * stages)])
        self.look = nn.ModuleList([nn.Linear(6, channels) for _ in range(stages - 1)])
        self.judge = nn.ModuleList([nn.Linear(channels, 1) for _ in range(stages)])

    def forward(self, problem: CanonicalProblem) -> list[Stage]:
        """The stages' likelihoods and poses, the last being the best."""
        mask = (problem.precision > 0).to(problem.image)
        spread = (mask * problem.image.square().sum(-1)).sum(-1) / mask.sum(-1).clamp_min(1.0)
        spread = spread.clamp_min(1e-12).sqrt()[..., None]
        scaled_precision = torch.log1p(problem.precision * spread)[..., None] / 5.0
        wide = spread.log()[..., None].expand_as(scaled_precision)
        features = self.embed(
            torch.cat([problem.image / spread[..., None], problem.object, scaled_precision, wide], dim=-1)
        )
        depth_ratio = torch.zeros_like(mask)
        stages: list[Stage] = []
        for index, judge in enumerate(self.judge):
            for block in self.blocks[2 * index : 2 * index + 2]:
                features = block(features, mask)
            logits = judge(features).squeeze(-1)
            weights = mask * logits.sigmoid() + 1e-4 * mask
            pose = scaled_orthographic_pose(problem, weights, depth_ratio)
            pose = gauss_newton(problem, pose, weights, 1)
            depth_ratio = problem.depth_ratio(pose)
            stages.append(Stage(logits, pose))
            if index < len(self.look):
                error = residuals(problem, pose)
                sigmas = torch.asinh(error * problem.precision[..., None])
                length = torch.log1p(error.square().sum(-1, keepdim=True) * problem.precision[..., None].square())
                relative = torch.asinh(3.0 * error / spread[..., None])
                seen = torch.cat([sigmas, length, relative, logits[..., None]], dim=-1)
                features = features + self.look[index](seen)
        return stages


@functools.cache
def load_network(path: Path = WEIGHTS, device: str = "cpu") -> PnPNet:
    """The trained network, read once.

    Raises:
        ValueError: if the file is missing or does not hold this network's weights.
    """
    if not path.is_file():
        raise ValueError(f"path: expected the weights of PnP-Net, found no file {path}")
    network = PnPNet()
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"path: {path} does not hold PnP-Net's weights: {error}") from error
    return network.to(device).eval()


@torch.no_grad()
def coarse_pose(correspondences: Correspondences, camera: Camera, network: PnPNet | None = None) -> tuple[Pose, Tensor]:
    """A start for Levenberg-Marquardt, whatever the share of outliers.

    Args:
        correspondences: at least four with positive weights; any object scale.
        camera: any model; points more than 84 deg away from the mean bearing are ignored.
        network: None takes the shipped one.

    Returns:
        The coarse pose (mostly within 30 deg), and the probability (..., N) of each correspondence to be an inlier,
        0 where its weight is 0. Both are finite for finite input.
    """
    image_points = correspondences.image_points
    network = network or load_network(device=str(image_points.device))
    problem, frames = canonicalise(correspondences, camera)
    problem = CanonicalProblem(problem.image.float(), problem.object.float(), problem.precision.float())
    last = network(problem)[-1]
    pose = frames.to_camera(Pose(last.pose.rotation.to(image_points), last.pose.translation.to(image_points)))
    likelihood = (last.logits.sigmoid() * (problem.precision > 0)).to(image_points)
    sound = pose.rotation.isfinite().all((-2, -1)) & pose.translation.isfinite().all(-1)
    ahead = image_points.new_tensor([0.0, 0.0, 1.0])
    upright = torch.eye(3, dtype=image_points.dtype, device=image_points.device)
    pose = Pose(
        torch.where(sound[..., None, None], pose.rotation, upright),
        torch.where(sound[..., None], pose.translation, ahead),
    )
    return pose, likelihood.nan_to_num(0.0)


@dataclass(frozen=True)
class PnPNetStart:
    """Finds initial poses by the shipped network, in a time that does not depend on the share of outliers."""

    def initial_pose(self, correspondences: Correspondences, camera: Camera) -> Pose:
        """The network's pose, refined with each point weighted by its likelihood to be an inlier.

        Args:
            correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) 1/px.
            camera: of any model.
        """
        pose, likelihood = coarse_pose(correspondences, camera)
        trusted = correspondences.scaled(likelihood.sqrt())
        return levenberg_marquardt.refine(trusted, camera, pose, Cauchy(), anneal=False, accept=False).pose
