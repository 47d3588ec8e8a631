"""The dense network: settings, what its weights mean, and that it learns with each loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from pnp_ros.evaluation.pose_error import add
from pnp_ros.geometry import so3
from pnp_ros.networks.dense_network import DenseNetwork, DenseNetworkConfig, RawDense, all_cells, best_cells
from pnp_ros.networks.keypoint_network import KeypointNetworkConfig
from pnp_ros.networks.onnx_runtime import OnnxDenseNetwork
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.training.batches import Batch
from pnp_ros.training.pose_losses import Loss, PoseLoss
from pnp_ros.training.steps import DenseStep, of_present
from pnp_ros.types import Pose

torch.set_num_threads(1)
BOUNDS = torch.tensor([[-0.1, -0.2, 0.0], [0.1, 0.2, 0.3]])


def _network(size: int = 64) -> DenseNetwork:
    torch.manual_seed(0)
    return DenseNetwork(DenseNetworkConfig(crop_size=size, width=8, count=64), BOUNDS)


def test_settings_go_into_a_package_and_back_and_name_what_is_wrong() -> None:
    config = DenseNetworkConfig(crop_size=64, width=8, count=32)
    assert DenseNetworkConfig.from_plain(config.to_plain()) == config
    assert config.to_plain()["kind"] == "dense"
    with pytest.raises(ValueError, match="kind: expected keypoints, got 'dense'"):
        KeypointNetworkConfig.from_plain(config.to_plain())
    with pytest.raises(ValueError, match="kind: expected dense, got 'keypoints'"):
        DenseNetworkConfig.from_plain({"width": 8})
    with pytest.raises(ValueError, match="count: expected an integer from 16 to 256, got 500"):
        DenseNetworkConfig(crop_size=64, count=500)
    with pytest.raises(ValueError, match="num_keypoints: unknown field of the dense network"):
        DenseNetworkConfig.from_plain({"kind": "dense", "num_keypoints": 8})


def test_weights_are_shares_times_a_scale_and_the_best_cells_keep_their_order() -> None:
    network = _network().eval()
    images = torch.rand(2, 3, 64, 64)
    raw = network(images)
    cells = all_cells(raw)
    total = cells.weights.sum(-2) / cells.weights.shape[-2]
    assert bool(((total > 0.02) & (total < 0.2)).all()), "an untrained cell claims some 20 pixels"
    low, high = BOUNDS
    assert bool(((cells.object_points > low) & (cells.object_points < high)).all())
    assert cells.image_points[0, 0].tolist() == [1.5, 1.5]  # the middle of the first 4 x 4 pixels
    assert cells.image_points[0, 1].tolist() == [5.5, 1.5]
    best = best_cells(raw, 64).correspondences
    squares = cells.weights.square().sum(-1).sort(dim=-1, descending=True).values[:, :64]
    torch.testing.assert_close(best.weights.square().sum(-1), squares)
    cell = ((best.image_points[0, 0] + 0.5) / 4 - 0.5).round().long()
    torch.testing.assert_close(best.object_points[0, 0], raw.coordinates[0, :, cell[1], cell[0]])


def test_onnx_runtime_agrees() -> None:
    pytest.importorskip("onnxruntime")
    network, images = _network().eval(), torch.rand(1, 3, 64, 64)
    theirs, ours = OnnxDenseNetwork(network, images).predict(images), network.predict(images)
    torch.testing.assert_close(
        theirs.correspondences.object_points, ours.correspondences.object_points, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(theirs.presence, ours.presence, atol=1e-4, rtol=0)


class _Maps(nn.Module):
    """Free maps: what a network could learn, without the network."""

    def __init__(self, start: Tensor, cells: int) -> None:
        super().__init__()
        self.coordinates = nn.Parameter(start.clone())
        self.shares = nn.Parameter(torch.zeros(len(start), 2, cells * cells))
        self.scale = nn.Parameter(torch.full((len(start), 2, 1), math.log(cells * cells / 10.0)))

    def forward(self, images: Tensor) -> RawDense:
        weights = (self.shares.log_softmax(-1) + self.scale).unflatten(-1, self.coordinates.shape[-2:])
        return RawDense(self.coordinates, weights, torch.zeros(len(images)))


def _batch(seed: int) -> tuple[Batch, Tensor]:
    """Crops of a bumpy thing in their middle half, and coordinates (B, 3, 16, 16) that err, most at the left."""
    generator = torch.Generator().manual_seed(seed)
    count, cells, focal = 4, 16, 150.0
    pose = Pose(
        so3.exp(0.4 * torch.randn(count, 3, generator=generator)),
        torch.tensor([0.0, 0.0, 4.0]) + 0.05 * torch.randn(count, 3, generator=generator),
    )
    centres = (torch.arange(cells) + 0.5) * 4 - 0.5
    rays = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
    rays = torch.cat([(rays - 31.5) / focal, torch.ones(cells, cells, 1)], dim=-1).expand(count, -1, -1, -1)
    depth = 4.0 + 0.3 * torch.randn(count, cells, cells, 1, generator=generator)
    points = (rays * depth - pose.translation[:, None, None]) @ pose.rotation[:, None]
    coordinates = torch.full((count, 3, cells, cells), torch.nan)
    coordinates[..., 4:12, 4:12] = points.permute(0, 3, 1, 2)[..., 4:12, 4:12]
    start = coordinates.nan_to_num(0.0) + 0.03 * torch.randn(count, 3, cells, cells, generator=generator)
    start[..., :8] += 0.2 * torch.randn(count, 3, cells, 8, generator=generator)
    batch = {
        "images": torch.zeros(count, 3, 64, 64, dtype=torch.uint8),
        "coordinates": coordinates,
        "present": torch.tensor([True, True, True, False]),
        "intrinsics": torch.tensor([focal, focal, 31.5, 31.5]).expand(count, 4),
        "pose": pose.matrix()[:, :3],
    }
    return batch, start


@pytest.mark.parametrize(("kind", "from_poses"), [("heatmap", False), ("epropnp", True), ("both", False)])
def test_poses_get_better_and_cells_beside_the_object_count_little(kind: Loss, from_poses: bool) -> None:
    ratio, contrast = _learnt(kind, from_poses, 0)
    assert ratio < 0.4
    assert contrast > 1.25


def _learnt(kind: Loss, from_poses: bool, seed: int) -> tuple[float, float]:
    """By what the error of the poses is multiplied, and how much more good cells weigh than those beside the object."""
    batch, start = _batch(seed)
    network, points = _Maps(start, 16), 0.3 * torch.randn(30, 3)
    box = torch.tensor([[-0.5] * 3, [0.5] * 3]) if from_poses else None
    step = DenseStep(PoseLoss(kind, points, seed, together=True), 2.0, 0.0, box)

    def error() -> float:
        with torch.no_grad():
            cells, camera, pose = of_present(all_cells(network(batch["images"])), batch)
            found = solve_pnp(cells, camera, init=pose)
        return float(add(found.pose, pose, points).mean())

    before = error()
    optimizer = torch.optim.Adam(network.parameters(), 0.1)
    for _ in range(15):
        optimizer.zero_grad()
        loss, figures = step(network, batch, 1.0)
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)
    assert ("epropnp" in figures) == (kind != "heatmap")
    weights = network(batch["images"]).log_weight[:3].detach().exp()
    return error() / before, float(weights[..., 4:12, 8:12].mean() / weights[..., :4].mean())


def test_what_is_not_in_the_image_teaches_the_presence_alone() -> None:
    batch, start = _batch(0)
    network = _Maps(start, 16)
    step = DenseStep(PoseLoss("both", torch.randn(8, 3)), 2.0, 0.0)
    step(network, batch, 1.0)[0].backward()
    for parameter in (network.coordinates, network.shares):
        assert parameter.grad is not None
        assert float(parameter.grad[3].abs().max()) == 0.0
        assert float(parameter.grad[0].abs().max()) > 0.0
