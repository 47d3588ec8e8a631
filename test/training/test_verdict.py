"""A training says at its end whether the object can be used, and whether it may be taken up again."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.rendering.validation_frames import ValidationFrame
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.distributed import Group
from pnp_ros.training.trainer import _alone, _claim
from pnp_ros.training.validation import judged, verdict

MESH = TriangleMesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))


@pytest.mark.parametrize(("recall", "usable"), [(None, False), (0.0, False), (0.49, False), (0.6, True), (0.95, True)])
def test_the_verdict_follows_the_recall(recall: float | None, usable: bool) -> None:
    found = verdict({"accuracy": {"recall_10_percent": recall}}, minutes=15.0)
    assert found.usable is usable
    assert found.text.startswith("usable" if usable else "not usable yet")
    assert found.minutes == (30.0 if recall is None or recall < 0.75 else None)


def test_a_second_training_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    group = Group(torch.device("cpu"))
    with _alone(tmp_path / "training", group):
        with pytest.raises(ValueError, match="another training is at work here"), _alone(tmp_path / "training", group):
            pass
        with _alone(tmp_path / "other", group):
            pass
    with _alone(tmp_path / "training", group):
        pass


def test_a_longer_budget_goes_on_and_another_setting_is_named(tmp_path: Path) -> None:
    group, config = Group(torch.device("cpu")), TrainingConfig(minutes=1.0)
    _claim(tmp_path, "thing", MESH, config, group)
    _claim(tmp_path, "thing", MESH, dataclasses.replace(config, minutes=20.0, workers=3), group)
    with pytest.raises(ValueError, match=r"width was 32, now 16.*repeat the former settings"):
        _claim(tmp_path, "thing", MESH, dataclasses.replace(config, width=16), group)
    with pytest.raises(ValueError, match=r"mesh was"):
        _claim(tmp_path, "thing", dataclasses.replace(MESH, vertices=2 * MESH.vertices), config, group)


def test_a_slow_validation_ends_in_time_once_it_can_tell(
    untrained_package: Callable[..., ObjectPackage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pnp_ros.training.validation.FEWEST", 2)
    package = untrained_package(tmp_path / "thing")
    camera = Camera.pinhole(100.0, 100.0, 64.0, 48.0, 128, 96)
    images = [ValidationFrame(np.zeros((96, 128, 3), np.uint8), camera, None, 0.0)] * 4
    assert len(judged(package, images, until=time.monotonic())) == 2
    assert len(judged(package, images)) == 4
