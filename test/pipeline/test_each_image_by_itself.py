"""Without tracking nothing of one image is carried into the next."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import write_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.types import Pose
from synthetic.cad_parts import bent_sheet
from synthetic.eyes import Eyes
from synthetic.scenes import EXACT, scenes


def painted(colour: tuple[int, int, int]) -> TriangleMesh:
    mesh = bent_sheet()
    return dataclasses.replace(mesh, vertex_colors=np.full((len(mesh.vertices), 3), colour, np.uint8))


@pytest.mark.parametrize("track", [False, True])
def test_colours_learnt_of_one_image_are_forgotten_before_the_next(tmp_path: Path, track: bool) -> None:
    mesh = bent_sheet()
    package = write_object_package(tmp_path / "sheet", name="sheet", mesh=mesh, keypoints=select_keypoints(mesh, 8))
    ((red,), (blue,)) = (scenes(painted(colour), 1, 3, EXACT) for colour in ((200, 40, 30), (40, 80, 180)))
    told = []
    for images in ([blue], [red, blue]):
        eyes = Eyes(package.keypoints, torch.eye(4))
        estimator = PoseEstimator(package, EstimatorConfig(track=track), sources=[eyes])
        for scene in images:
            eyes.truth = scene.pose
            found = estimator.estimate(scene.image, scene.camera)
        assert isinstance(found.estimate and found.estimate.pose, Pose)
        told.append(found.estimate.pose.matrix().numpy().tobytes())  # type: ignore[union-attr]
    assert (told[0] == told[1]) is not track
