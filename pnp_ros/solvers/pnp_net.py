"""PnP-Net: a small network that tells which correspondences to trust, to guide the search for a pose.

After Sheffer and Wiesel, "PnP-Net: A hybrid Perspective-n-Point Network" (ECCV 2020, arXiv 2003.04626), where a network
starts an iterative solver. Here it gives each correspondence's probability to be an inlier (the paper's future work),
and the consensus search draws its samples by them: three inliers are drawn at once much more often than by chance
(Wei et al., "Adaptive Reordering Sampler with Neurally Guided MAGSAC", ICCV 2023).

Layers normalise features over the points they attend to (Sun et al., "ACNe", CVPR 2020). Between stages the network
looks at the residuals of an affine camera fitted to the points it trusts so far, corrected for perspective as in POSIT
(DeMenthon and Davis, "Model-based object pose in 25 lines of code", 1995). It is invariant to the order of the points
and takes any number of them. Its input does not depend on the camera, the object's scale or where in the image the
object is (:func:`canonicalise`).

:class:`LikelihoodNetwork` is the plain form, for training and as the reference; on CPUs one kernel evaluates it
(:mod:`pnp_ros.kernels.pnp_net`).
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
from pnp_ros.kernels import pnp_net as kernel
from pnp_ros.types import Correspondences

WEIGHTS = Path(__file__).with_name("pnp_net.safetensors")
CHANNELS, STAGES, LAYERS, HEADS = 32, 4, 3, 2  # layers: in each stage
POINT_FEATURES, LOOK_FEATURES = 7, 6
LEAST_ATTENTION = 0.02  # of a point that no head attends to: bounds its features
MIN_VARIANCE = 1e-3
LEAST_TRUST = 1e-3  # weight of a point in the affine fit that is surely an outlier
RIDGE = 1e-4  # of a squared extent; flat objects have none along their normal
MIN_FORWARD = 0.1  # cosine of the largest angle between a bearing and the mean bearing


@dataclass(frozen=True, eq=False)
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


def _rotation_to(bearing: Tensor) -> Tensor:
    """The smallest rotation (..., 3, 3) that takes the optical axis to unit vectors (..., 3)."""
    x, y, z = bearing.unbind(-1)
    k = 1.0 / (1.0 + z).clamp_min(1e-6)
    rows = [[1 - k * x * x, -k * x * y, x], [-k * x * y, 1 - k * y * y, y], [-x, -y, z]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def canonicalise(correspondences: Correspondences, camera: Camera) -> CanonicalProblem:
    """The problem in the network's frames: mean bearing along the axis, object points centred and of unit size.

    The precision takes a pixel for the same angle everywhere in the image, which the network needs no better.
    """
    weights = correspondences.weights
    weights = (weights.flatten(-2) if correspondences.has_matrices else weights).square().sum(-1).mul(0.5).sqrt()
    finite = (correspondences.image_points.sum(-1) + correspondences.object_points.sum(-1)).isfinite()
    usable = finite & (weights > 0) & weights.isfinite()
    object_points = torch.where(usable[..., None], correspondences.object_points, 0.0)
    bearings = camera.unproject(torch.where(usable[..., None], correspondences.image_points, 0.0))
    usable = usable & bearings.isfinite().all(-1)
    bearings = torch.where(usable[..., None], bearings, 0.0)

    axis = nn.functional.normalize(bearings.sum(-2), dim=-1)
    local = bearings @ _rotation_to(axis)
    forward = local[..., 2]
    usable = usable & (forward > MIN_FORWARD)
    valid = usable.to(weights)
    forward = forward.clamp_min(MIN_FORWARD)
    image = local[..., :2] / forward[..., None] * valid[..., None]
    focal = camera.intrinsics[..., :2].prod(-1, keepdim=True).sqrt()
    precision = torch.where(usable, weights * focal * forward.square(), 0.0)

    count = valid.sum(-1).clamp_min(1.0)
    centroid = (valid[..., None] * object_points).sum(-2, keepdim=True) / count[..., None, None]
    centred = (object_points - centroid) * valid[..., None]
    scale = (centred.square().sum((-2, -1)) / count).sqrt().clamp_min(1e-12)
    return CanonicalProblem(image, centred / scale[..., None, None], precision)


def affine_residuals(problem: CanonicalProblem, trust: Tensor, depth_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """One weighted iteration of POSIT without making its rows orthogonal.

    Args:
        problem: the canonical problem.
        trust: (..., N) non-negative weights.
        depth_ratio: (..., N) depth of each point relative to the centroid's, less one (0 at the first iteration).

    Returns:
        Residuals (..., N, 2) on the canonical plane, and the next depth ratios (..., N).
    """
    design = torch.cat([problem.object, torch.ones_like(problem.image[..., :1])], dim=-1)
    weighted = design.mT * (trust / trust.sum(-1, keepdim=True).clamp_min(1e-6))[..., None, :]
    stretch = (1.0 + depth_ratio)[..., None]
    ridge = RIDGE * torch.eye(4, dtype=design.dtype, device=design.device)
    solution = torch.linalg.solve_ex(weighted @ design + ridge, weighted @ (problem.image * stretch))[0]
    error = design @ solution / stretch - problem.image
    first, second = solution[..., :3, 0], solution[..., :3, 1]
    # the rows are s r1 and s r2, the depth is 1 / s and its slope r3: s r3 . X
    size = (first.square().sum(-1) * second.square().sum(-1) + 1e-12).pow(0.25)
    slope = torch.linalg.cross(first, second) / size[..., None]
    return error, (problem.object @ slope[..., None])[..., 0].clamp(-0.8, 3.0)


class _Layer(nn.Module):
    """``h + relu(norm(W h + b))``: half of the channels are normalised over the points that one head attends to."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(CHANNELS, CHANNELS + HEADS)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        values, scores = self.linear(features).split([CHANNELS, HEADS], dim=-1)
        attention = mask[..., None] * (0.5 + LEAST_ATTENTION + 0.5 * nn.functional.softsign(scores))
        attention = attention / attention.sum(-2, keepdim=True).clamp_min(1e-6)
        moments = attention.mT @ torch.cat([values, values.square()], dim=-1)  # (..., H, 2 C)
        own = moments.unflatten(-1, (2, HEADS, -1)).diagonal(dim1=-4, dim2=-2)  # (..., 2, C / H, H)
        mean, square = own.mT.flatten(-2).unbind(-2)
        scale = ((square - mean.square()).clamp_min(0.0) + MIN_VARIANCE).rsqrt()
        return features + ((values - mean[..., None, :]) * scale[..., None, :]).relu()


class LikelihoodNetwork(nn.Module):
    """Stages of layers; after each one the network judges the points, and looks at an affine fit to those it trusts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(POINT_FEATURES, CHANNELS)
        self.layers = nn.ModuleList([_Layer() for _ in range(STAGES * LAYERS)])
        self.look = nn.ModuleList([nn.Linear(LOOK_FEATURES, CHANNELS) for _ in range(STAGES - 1)])
        self.judge = nn.ModuleList([nn.Linear(CHANNELS, 1) for _ in range(STAGES)])

    def forward(self, problem: CanonicalProblem) -> list[Tensor]:
        """Each stage's logits (..., N) of being an inlier; the last are the best."""
        mask = (problem.precision > 0).to(problem.image)
        spread = problem.image.square().sum((-2, -1)) / mask.sum(-1).clamp_min(1.0)
        spread = spread.clamp_min(1e-12).sqrt()[..., None]
        precision = torch.log1p(problem.precision * spread)[..., None] / 5.0
        wide = spread.log()[..., None].expand_as(precision)
        features = torch.cat([problem.image / spread[..., None], problem.object, precision, wide], dim=-1)
        features = self.embed(features)
        depth_ratio = torch.zeros_like(mask)
        judgements: list[Tensor] = []
        for stage, judge in enumerate(self.judge):
            for layer in self.layers[LAYERS * stage : LAYERS * (stage + 1)]:
                features = layer(features, mask)
            logits = judge(features).squeeze(-1)
            judgements.append(logits)
            if stage < len(self.look):
                error, depth_ratio = affine_residuals(problem, mask * (logits.sigmoid() + LEAST_TRUST), depth_ratio)
                sigmas = torch.asinh(error * problem.precision[..., None])
                length = torch.log1p(error.square().sum(-1, keepdim=True) * problem.precision[..., None].square())
                relative = torch.asinh(3.0 * error / spread[..., None])
                seen = torch.cat([sigmas, length, relative, logits[..., None]], dim=-1)
                features = features + self.look[stage](seen)
        return judgements


@functools.cache
def load_network(path: Path = WEIGHTS, device: str = "cpu") -> LikelihoodNetwork:
    """The trained network, read once.

    Raises:
        ValueError: if the file is missing or does not hold this network's weights.
    """
    if not path.is_file():
        raise ValueError(f"path: expected the weights of PnP-Net, found no file {path}")
    network = LikelihoodNetwork()
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"path: {path} does not hold PnP-Net's weights: {error}") from error
    return network.to(device).eval()


@functools.cache
def _packed(path: Path = WEIGHTS) -> kernel.PackedNetwork:
    """The trained network as the kernel reads it."""
    return pack(load_network(path))


def pack(network: LikelihoodNetwork) -> kernel.PackedNetwork:
    """A network as the kernel reads it."""

    def with_bias(linear: nn.Module) -> Tensor:
        assert isinstance(linear, nn.Linear)
        return torch.cat([linear.weight, linear.bias[:, None]], dim=-1).detach()

    return kernel.PackedNetwork(
        embed=with_bias(network.embed)[None],
        layers=torch.stack([with_bias(layer.get_submodule("linear")) for layer in network.layers]),
        look=torch.stack([with_bias(linear) for linear in network.look]),
        judge=torch.cat([with_bias(linear) for linear in network.judge]),
    )


@torch.no_grad()
def likelihood(correspondences: Correspondences, camera: Camera, network: LikelihoodNetwork | None = None) -> Tensor:
    """How probably each point is an inlier, by the plain network: on any device, in its dtype.

    Args:
        correspondences: of any object scale.
        camera: any model; points more than 84 deg away from the mean bearing are ignored.
        network: None takes the shipped one.

    Returns:
        (..., N) from 0 to 1, 0 where the weight is 0.
    """
    like = correspondences.image_points
    network = network or load_network(device=str(like.device))
    problem = canonicalise(correspondences, camera.to(like.device, like.dtype))
    problem = CanonicalProblem(problem.image.float(), problem.object.float(), problem.precision.float())
    return (network(problem)[-1].sigmoid() * (problem.precision > 0)).nan_to_num(0.0).to(like)


@dataclass(frozen=True)
class PnPNet:
    """Guides the solver's search by the shipped network: ``solve_pnp(correspondences, camera, init=PnPNet())``.

    Worth its time (below 0.1 ms at 64 points, 0.2 at 200) from about 70 % outliers on, and where wrong points stand in
    a cluster.
    """

    def likelihood_of(self, correspondences: Correspondences, camera: Camera) -> Tensor:
        """(..., N) from 0 to 1."""
        if correspondences.image_points.device.type != "cpu":
            return likelihood(correspondences, camera)
        like = correspondences.image_points
        if like.dtype is not torch.float32:
            correspondences = correspondences.to(dtype=torch.float32)
        if camera.intrinsics.dtype is not torch.float32 or camera.intrinsics.device.type != "cpu":
            camera = camera.to("cpu", torch.float32)
        return kernel.likelihood(correspondences, camera, _packed()).to(like)
