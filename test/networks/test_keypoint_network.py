import pytest
import torch

from pnp_ros.networks.decode import heat_map_peaks, local_soft_argmax, pixels_to_cells, read_at, spread
from pnp_ros.networks.fusion import fused
from pnp_ros.networks.keypoint_network import STRIDE, KeypointNetwork, KeypointNetworkConfig, RawPrediction, decode

torch.set_num_threads(1)


def _gaussian_logits(points: torch.Tensor, sigma_cells: float, cells: int = 32) -> torch.Tensor:
    """(B, K, cells, cells) logits whose softmax is a Gaussian around crop pixels (B, K, 2)."""
    at = pixels_to_cells(points, STRIDE)
    grid = torch.arange(cells, dtype=points.dtype)
    dx = (grid - at[..., 0:1]) ** 2
    dy = (grid - at[..., 1:2]) ** 2
    return -(dy[..., :, None] + dx[..., None, :]) / (2 * sigma_cells**2)


def test_local_soft_argmax_recovers_sub_cell_positions() -> None:
    points = 20.0 + 80.0 * torch.rand(4, 6, 2, generator=torch.Generator().manual_seed(0))
    logits = _gaussian_logits(points, 0.6)
    decoded = local_soft_argmax(logits, heat_map_peaks(logits), 2, STRIDE)
    assert float((decoded - points).abs().max()) < 0.1  # pixels; a cell has 4


def test_spread_grows_with_the_width_and_with_a_second_peak() -> None:
    points = torch.full((1, 1, 2), 63.5)
    narrow, wide = _gaussian_logits(points, 0.6), _gaussian_logits(points, 2.0)
    assert float(spread(wide, points, STRIDE)[0, 0, 0]) == pytest.approx(2.0 * STRIDE, rel=0.05)
    two = torch.logaddexp(narrow, _gaussian_logits(points + 40.0, 0.6))
    assert float(spread(two, points, STRIDE).min()) > 5.0 * float(spread(narrow, points, STRIDE).max())


def test_read_at_takes_the_column_from_x() -> None:
    maps = torch.arange(2 * 3 * 4 * 5.0).reshape(1, 2, 3, 4, 5)
    peak = torch.tensor([[[4, 1], [0, 3]]])
    torch.testing.assert_close(read_at(maps, peak)[0], torch.stack([maps[0, 0, :, 1, 4], maps[0, 1, :, 3, 0]]))


def test_decode_is_shift_equivariant_and_bounded() -> None:
    points = torch.tensor([[[40.0, 60.0], [80.0, 30.0]]])
    raw = RawPrediction(_gaussian_logits(points, 0.8), torch.zeros(1, 2, 2, 32, 32), torch.tensor([2.0]))
    moved = RawPrediction(_gaussian_logits(points + STRIDE, 0.8), raw.log_factor, raw.presence)
    torch.testing.assert_close(decode(moved).image_points - decode(raw).image_points, torch.full((1, 2, 2), 4.0))
    assert bool(((decode(raw).score > 0.9) & (decode(raw).score <= 1.0)).all())
    assert float(decode(raw).presence) == pytest.approx(0.8808, abs=1e-3)


def test_network_shapes_and_fusion() -> None:
    torch.manual_seed(0)
    network = KeypointNetwork(KeypointNetworkConfig(5, crop_size=64, width=8))
    images = torch.rand(3, 3, 64, 64)
    network.train()
    for _ in range(3):
        network(images)  # batch statistics that differ from their initial values
    network.eval()
    raw, folded = network(images), fused(network)(images)
    assert raw.heat.shape == (3, 5, 16, 16)
    assert raw.log_factor.shape == (3, 5, 2, 16, 16)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in fused(network).pyramid.stem.modules())
    torch.testing.assert_close(raw.heat, folded.heat, atol=1e-5, rtol=1e-4)
    prediction = network.predict(images)
    assert prediction.image_points.shape == prediction.sigma.shape == (3, 5, 2)
    assert bool((prediction.sigma > 0).all())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_keypoints", 3),
        ("crop_size", 100),
        ("width", "32"),
        ("crop_margin", 0.5),
    ],
)
def test_config_names_the_wrong_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        KeypointNetworkConfig.from_plain({"num_keypoints": 8} | {field: value})


def test_config_survives_plain_values() -> None:
    config = KeypointNetworkConfig(9, width=16)
    assert KeypointNetworkConfig.from_plain(config.to_plain()) == config
    with pytest.raises(ValueError, match="num_keypoints"):
        KeypointNetworkConfig.from_plain({})
