import torch

from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork, DetectorPrediction
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig, RawPrediction, decode
from pnp_ros.training.losses import detector_loss, gaussian_target, keypoint_loss

torch.set_num_threads(1)


def _perfect(keypoints: torch.Tensor, presence: float) -> RawPrediction:
    heat = 10.0 * gaussian_target((keypoints + 0.5) / 4 - 0.5, 16, 16, 1.0)
    return RawPrediction(heat, torch.zeros(*keypoints.shape[:2], 2, 16, 16), torch.full((len(keypoints),), presence))


def test_keypoint_loss_prefers_the_truth_and_ignores_absent_objects() -> None:
    keypoints = 10.0 + 40.0 * torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(0))
    present = torch.tensor([True, False])
    right = keypoint_loss(_perfect(keypoints, 0.0), keypoints, present)[0]
    assert float(right) < float(keypoint_loss(_perfect(keypoints + 9.0, 0.0), keypoints, present)[0])
    moved = keypoints.clone()
    moved[1] += 20.0  # of the absent object
    torch.testing.assert_close(keypoint_loss(_perfect(moved, 0.0), moved, present)[0], right)


def test_keypoints_outside_the_crop_keep_the_loss_finite() -> None:
    keypoints = torch.tensor([[[-500.0, 20.0], [30.0, 30.0], [64.1, 10.0]]])
    raw = _perfect(keypoints.clamp(0, 60), 0.0)
    assert torch.isfinite(keypoint_loss(raw, keypoints, torch.tensor([True]))[0])
    nobody = keypoint_loss(raw, keypoints, torch.tensor([False]))
    assert torch.isfinite(nobody[0])
    assert float(nobody[1]["error"]) == 0.0


def test_sigma_learns_the_size_of_the_error() -> None:
    torch.manual_seed(0)
    factor = torch.zeros(1, 1, 2, 16, 16, requires_grad=True)
    optimizer = torch.optim.Adam([factor], 0.05)
    heat = 10.0 * gaussian_target(torch.tensor([[[8.0, 8.0]]]), 16, 16, 1.0)
    for _ in range(300):
        error = 6.0 * torch.randn(1, 1, 2)
        raw = RawPrediction(heat, factor, torch.zeros(1))
        loss = keypoint_loss(raw, torch.tensor([[[33.5, 33.5]]]) + error, torch.tensor([True]))[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    sigma = decode(RawPrediction(heat, factor.detach(), torch.zeros(1))).sigma
    assert bool(((sigma > 4.0) & (sigma < 9.0)).all())


def test_keypoint_network_overfits_one_batch() -> None:
    torch.manual_seed(0)
    network = KeypointNetwork(KeypointNetworkConfig(4, crop_size=64, width=8))
    images = torch.rand(4, 3, 64, 64)
    keypoints = 8.0 + 48.0 * torch.rand(4, 4, 2)
    present = torch.tensor([True, True, True, False])
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    for _ in range(150):
        loss, figures = keypoint_loss(network(images), keypoints, present)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(figures["error"]) < 1.5
    assert bool(((network(images).presence > 0) == present).all())


def test_detector_loss_is_least_at_the_truth() -> None:
    boxes = torch.tensor([[100.0, 60.0, 48.0, 30.0], [0.0, 0.0, 0.0, 0.0]])
    present = torch.tensor([True, False])
    cell_x, cell_y = 124 // 8, 75 // 8

    def prediction(x: int, size: float) -> DetectorPrediction:
        heat = torch.full((2, 30, 40), -6.0)
        heat[0, cell_y, x] = 6.0
        offset = torch.tensor([124 / 8 - cell_x, 75 / 8 - cell_y]).view(1, 2, 1, 1).expand(2, 2, 30, 40)
        log_size = torch.tensor([size, 30.0]).log().view(1, 2, 1, 1).expand(2, 2, 30, 40)
        return DetectorPrediction(heat, offset, log_size)

    right = float(detector_loss(prediction(cell_x, 48.0), boxes, present)[0])
    assert right < 0.1
    assert float(detector_loss(prediction(cell_x + 3, 48.0), boxes, present)[0]) > right + 1.0
    assert float(detector_loss(prediction(cell_x, 96.0), boxes, present)[0]) > right + 0.5


def test_detector_loss_takes_objects_cut_by_the_edge() -> None:
    network = DetectorNetwork(DetectorConfig(64, 64, 4))
    boxes = torch.tensor([[-60.0, 50.0, 40.0, 40.0]])
    loss = detector_loss(network(torch.rand(1, 3, 64, 64)), boxes, torch.tensor([True]))[0]
    loss.backward()
    assert torch.isfinite(loss)
