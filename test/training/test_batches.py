import dataclasses
import os

import numpy as np
import pytest
import torch

from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.rendering.domain_randomisation import RandomisationConfig
from pnp_ros.training.batches import BatchConfig, BatchSource, WorkerError
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.samples import ObjectSamplerFactory, randomisation

torch.set_num_threads(1)


def _factory() -> ObjectSamplerFactory:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.2]], np.float32)
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32)
    mesh = TriangleMesh(0.05 * corners, faces, vertex_colors=colors)
    ranges = RandomisationConfig(crop_size=64, cache_size=64, pool=32)
    return ObjectSamplerFactory(mesh, torch.from_numpy(select_keypoints(mesh, 6)), Symmetry(), ranges)


def test_workers_make_batches_that_differ() -> None:
    with BatchSource(_factory(), BatchConfig("crops", 4, 2, 10)) as batches:
        made = [next(batches) for _ in range(6)]
        niceness = {os.getpriority(os.PRIO_PROCESS, process.pid or 0) for process in batches._processes}
    assert min(niceness) >= min(
        19, os.getpriority(os.PRIO_PROCESS, 0) + 10
    )  # where they share a core, training goes on
    assert {tuple(batch["images"].shape) for batch in made} == {(4, 3, 64, 64)}
    assert made[0]["images"].dtype == torch.uint8
    assert made[0]["keypoints"].shape == (4, 6, 2)
    assert len({batch["images"].numpy().tobytes() for batch in made}) == 6


def test_a_workers_error_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    broken = dataclasses.replace(_factory(), device="no such device")
    with BatchSource(broken, BatchConfig("frames", 4, 2, 0)) as batches, pytest.raises(WorkerError) as raised:
        next(batches)
    assert str(raised.value).startswith("a rendering worker failed:\nTraceback")
    assert "no such device" in str(raised.value).splitlines()[-1]
    assert isinstance(raised.value, OSError)  # which a command tells without a traceback of its own
    assert "Traceback" not in capfd.readouterr().err


def test_a_dead_worker_is_an_error() -> None:
    exits = BatchConfig("frames", 4, 1, seed=3)  # with its seed as status
    with (
        BatchSource(os._exit, exits) as batches,
        pytest.raises(WorkerError, match="ended with exit code 3"),
    ):
        next(batches)


def test_boxes_are_measured_from_the_outer_edge() -> None:
    sampler = _factory()(3)
    batch = sampler.batch("frames", 16)
    assert batch["images"].shape == (16, 3, 240, 320)
    boxes = batch["boxes"][batch["present"]]
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    assert bool((boxes[:, 2:] > 0).all())
    assert bool(((centres > 0) & (centres < torch.tensor([320.0, 240.0]))).all())


def test_crops_become_harder_until_a_share_of_the_budget_is_spent() -> None:
    sampler = dataclasses.replace(_factory(), easy_until=0.5)(3)

    def least_visible(progress: float) -> float:
        sampler.at(progress)
        crops = sampler._sampler.crops(32)
        return float(crops.visible[crops.present].min())

    assert least_visible(0.0) > 0.99
    assert least_visible(0.5) < 0.9
    assert sampler._sampler.difficulty == 1.0


def test_the_upper_views_keep_the_camera_above() -> None:
    upper = randomisation(TrainingConfig(views="upper", max_roll=45.0), 128, 1.25)
    assert upper.elevation[0] > -0.1
    assert upper.roll == pytest.approx((-np.pi / 4, np.pi / 4))
    everything = randomisation(TrainingConfig(), 128, 1.3)
    assert everything.elevation[0] == pytest.approx(-np.pi / 2)
    assert everything.crop_margin == 1.3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("minutes", 0.0),
        ("num_keypoints", 3),
        ("views", "lower"),
        ("max_roll", 200.0),
        ("focal_range", (2.0, 1.0)),
        ("seed", -1),
        ("detector_share", 0.95),
    ],
)
def test_training_config_names_the_wrong_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        TrainingConfig(**{field: value})  # type: ignore[arg-type]


def test_a_worker_that_dies_on_the_way_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    with BatchSource(_factory(), BatchConfig("crops", 2, 1, 0)) as batches:
        first = next(batches)
        batches._processes[0].kill()
        later = [next(batches) for _ in range(5)]  # more than were waiting
    assert "starting new workers" in caplog.text
    assert all(batch["images"].numpy().tobytes() != first["images"].numpy().tobytes() for batch in later)
