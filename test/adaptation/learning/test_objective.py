"""Crops keep points on their pixels; the pose losses fall when the keypoints move towards the truth."""

import math

import pytest
import torch

from pnp_ros.adaptation.config import Objective
from pnp_ros.adaptation.examples.example import WINDOW_MARGIN, Example
from pnp_ros.adaptation.learning.objective import (
    EProPnPLoss,
    RealCrops,
    bpnp_loss,
    correspondences_of,
    pose_term,
    real_crops,
)
from pnp_ros.networks.keypoint_network import STRIDE, RawPrediction
from pnp_ros.objects.object_package import ObjectPackage

SIZE = 128


@pytest.fixture
def crops(demo: ObjectPackage, examples: list[Example]) -> RealCrops:
    generator = torch.Generator().manual_seed(0)
    return real_crops(examples[:4], torch.from_numpy(demo.keypoints), SIZE, 1.25, WINDOW_MARGIN, 0.25, generator)


def raw_of(points: torch.Tensor, logits: float = 12.0) -> RawPrediction:
    """Heat maps whose local mean lies at ``points`` (B, K, 2) crop pixels."""
    batch, count, _ = points.shape
    side = SIZE // STRIDE
    cells = (torch.arange(side) + 0.5) * STRIDE - 0.5
    x = -((cells - points[..., 0:1]) ** 2) / (2.0 * STRIDE**2)
    y = -((cells - points[..., 1:2]) ** 2) / (2.0 * STRIDE**2)
    heat = logits / 12.0 * (y[..., :, None] + x[..., None, :])
    return RawPrediction(heat.requires_grad_(), torch.zeros(batch, count, 2, side, side), torch.ones(batch))


def test_crops_show_the_object_at_its_keypoints(crops: RealCrops) -> None:
    assert crops.images.shape == (4, 3, SIZE, SIZE)
    inside = (crops.keypoints > 0.0) & (crops.keypoints < SIZE)
    assert float(inside.float().mean()) > 0.95
    extent = crops.keypoints.amax(1) - crops.keypoints.amin(1)
    assert 0.4 * SIZE < float(extent.amax(1).min()) < SIZE


def test_points_come_back_to_the_window(crops: RealCrops) -> None:
    points, scale = correspondences_of(raw_of(crops.keypoints), crops)
    expected = crops.camera.project(crops.pose.transform(crops.object_points))
    inside = ((crops.keypoints > 8) & (crops.keypoints < 120)).all(-1)
    error = (points.image_points - expected).norm(dim=-1).detach()[inside]
    assert float(error.median()) < 1.0
    assert float(scale.min()) > 0.3


def test_the_bpnp_loss_is_least_at_the_truth(crops: RealCrops) -> None:
    noise = torch.randn(crops.keypoints.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        at_truth = bpnp_loss(raw_of(crops.keypoints), crops)
        beside = bpnp_loss(raw_of(crops.keypoints + 5.0 * noise), crops)
    assert float(at_truth) < 0.5 * float(beside)


def test_the_bpnp_loss_falls_as_its_gradient_says(crops: RealCrops) -> None:
    raw = raw_of(crops.keypoints + torch.tensor([4.0, -2.0]))  # through the heat maps, as in the network
    (slope,) = torch.autograd.grad(bpnp_loss(raw, crops), raw.heat)

    def loss(step: float) -> float:
        moved = RawPrediction(raw.heat.detach() - step * slope, raw.log_factor, raw.presence)
        return float(bpnp_loss(moved, crops))

    step = 0.1  # so short that no cell becomes the highest in another's place
    assert (loss(-step) - loss(step)) / (2.0 * step) == pytest.approx(float(slope.square().sum()), rel=0.05)


def test_the_bpnp_loss_sees_a_wrong_depth_that_the_image_hardly_shows(crops: RealCrops) -> None:
    centre = crops.keypoints.mean(1, keepdim=True)
    raw = raw_of(centre + 0.97 * (crops.keypoints - centre))  # 1 px of the crop, 3 % of the depth
    assert float(bpnp_loss(raw, crops).detach()) > 3.0 * math.log(2.0)  # which is what the pixel alone counts


@pytest.mark.parametrize("objective", ["correspondence", "bpnp", "epropnp"])
def test_every_objective_gives_a_finite_loss_and_gradient(crops: RealCrops, objective: Objective) -> None:
    raw = raw_of(crops.keypoints + 3.0)
    loss = pose_term(objective, EProPnPLoss(0).train(), raw, crops)
    assert math.isfinite(float(loss.detach()))
    if objective == "correspondence":
        assert float(loss.detach()) == 0.0
    else:
        (slope,) = torch.autograd.grad(loss, raw.heat)
        assert bool(torch.isfinite(slope).all())
        assert float(slope.abs().max()) > 0.0


def test_keypoints_that_make_no_pose_give_no_nan(crops: RealCrops) -> None:
    collapsed = torch.full_like(crops.keypoints, 60.0)
    raw = raw_of(collapsed)
    loss = bpnp_loss(raw, crops)
    (slope,) = torch.autograd.grad(loss, raw.heat)
    assert math.isfinite(float(loss.detach()))
    assert bool(torch.isfinite(slope).all())
