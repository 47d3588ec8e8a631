import numpy as np
import pytest
import torch

from pnp_ros.detection.detector import Detector, decode_detections, letter_box
from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork, DetectorPrediction


def test_letter_box_keeps_proportions_and_says_where_the_image_lies() -> None:
    boxed, fit = letter_box(np.full((100, 400, 3), 255, np.uint8), 320, 240)
    assert boxed.shape == (240, 320, 3)
    assert fit.scale == pytest.approx(0.8)
    bright = np.argwhere(boxed[..., 0] == 255)
    assert bright[:, 0].min() == fit.offset_y == 80
    assert bright[:, 0].max() == 159


def _prediction() -> DetectorPrediction:
    heat = torch.full((1, 30, 40), -10.0)
    heat[0, 10, 20], heat[0, 10, 21], heat[0, 25, 5] = 3.0, 2.0, 1.0  # the second is no local maximum
    offset = torch.full((1, 2, 30, 40), 0.5)
    log_size = torch.full((1, 2, 30, 40), 48.0).log()
    return DetectorPrediction(heat, offset, log_size)


def test_decode_gives_local_maxima_best_first() -> None:
    first, second = decode_detections(_prediction(), 5)[0][:2]
    assert first.box == pytest.approx((20.5 * 8 - 24, 10.5 * 8 - 24, 48, 48), abs=1e-3)
    assert first.score == pytest.approx(1 / (1 + np.exp(-3.0)), rel=1e-4)
    assert second.box[:2] == pytest.approx((5.5 * 8 - 24, 25.5 * 8 - 24), abs=1e-3)


class _Fixed(DetectorNetwork):
    def forward(self, images: torch.Tensor) -> DetectorPrediction:
        assert images.shape == (1, 3, 240, 320)
        return _prediction()


def test_detect_answers_in_image_pixels() -> None:
    found = Detector(_Fixed(DetectorConfig()).eval()).detect(np.zeros((960, 1280, 3), np.uint8))[0]
    assert found.box == pytest.approx((4 * (20.5 * 8 - 24), 4 * (10.5 * 8 - 24), 192, 192), abs=1e-2)


@pytest.mark.parametrize(("field", "value"), [("width", 100), ("height", "240"), ("channels", 0), ("channels", True)])
def test_config_names_the_wrong_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        DetectorConfig.from_plain({field: value})


def test_config_survives_plain_values() -> None:
    config = DetectorConfig(160, 128, 8)
    assert DetectorConfig.from_plain(config.to_plain()) == config
    with pytest.raises(ValueError, match="colour"):
        DetectorConfig.from_plain({"colour": 1})
