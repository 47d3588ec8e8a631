"""A pose that is a little wrong is moved to where the rendered object fits the image."""

import math
from collections.abc import Callable

import torch

from pnp_ros.adaptation.refinement import Refiner
from pnp_ros.adaptation.registration import displacement
from pnp_ros.geometry import se3
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.types import Pose


def test_wrong_poses_come_nearer(demo: ObjectPackage, observe: Callable) -> None:
    refiner = Refiner(demo.mesh)
    for index, wrong in ((0, [0.004, -0.003, 0.015, 0.05, 0.0, -0.04]), (5, [0.0, 0.004, -0.012, -0.03, 0.05, 0.02])):
        seen = observe(index)
        truth = Pose(seen.reference.rotation.float(), seen.reference.translation.float())
        start = se3.retract(truth, torch.tensor(wrong))
        found, before, after = refiner.refine(seen.rgb, seen.camera, start)
        assert after > before + 0.1
        (move_before, turn_before), (move, turn) = displacement(start, truth), displacement(found, truth)
        assert float(move.norm()) < 0.5 * float(move_before.norm())
        assert turn < 0.6 * turn_before
        assert turn < math.radians(3.0)


def test_the_best_pose_stays(demo: ObjectPackage, observe: Callable) -> None:
    refiner = Refiner(demo.mesh)
    seen = observe(3)
    truth = Pose(seen.reference.rotation.float(), seen.reference.translation.float())
    found, before, after = refiner.refine(seen.rgb, seen.camera, truth)
    move, turn = displacement(found, truth)
    assert after >= before > 0.8
    assert float(move.norm()) < 0.05 * demo.diameter
    assert turn < math.radians(2.0)
