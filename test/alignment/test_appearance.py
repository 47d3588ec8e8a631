"""The image tells turned poses apart by what is printed on the body, and only by that."""

import numpy as np
import torch

from pnp_ros.alignment.appearance import Appearance
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.turns import alike_turns
from pnp_ros.types import Pose
from synthetic.alike_box import alike_box
from synthetic.printed_box import printed_box
from synthetic.scenes import EXACT, Errors, scenes


def _likely(mesh: TriangleMesh, seed: int) -> torch.Tensor:
    """(S) log likelihoods of the turned poses against the true one, in one image."""
    (scene,) = scenes(mesh, 1, seed, Errors(size=0.0, shape=0.0, focal=0.0, centre=0.0, light=0.5))
    turned = [Pose.from_matrix(scene.pose.matrix() @ turn) for turn in alike_turns(mesh)]
    likely = Appearance(mesh).log_likelihoods(scene.image, scene.camera, [scene.pose, *turned])
    return likely[1:] - likely[0]


def test_sides_that_show_the_same_are_equally_likely() -> None:
    likely = _likely(alike_box(), 1)
    same = likely.abs() < 0.1
    assert int(same.sum()) == 3  # the quarter turns
    assert float(likely[~same].max()) < -5.0  # upside down


def test_sides_that_show_other_prints_are_not() -> None:
    assert float(_likely(printed_box(), 2).max()) < -5.0


def test_a_place_out_of_the_image_tells_nothing() -> None:
    mesh = printed_box()
    (scene,) = scenes(mesh, 1, 1)
    away = Pose(scene.pose.rotation, scene.pose.translation + torch.tensor([9.0, 0.0, 0.0]))
    assert Appearance(mesh).log_likelihoods(scene.image, scene.camera, [away, away]).tolist() == [0.0, 0.0]


def test_what_hides_half_of_it_says_nothing() -> None:
    mesh = printed_box()
    (scene,) = scenes(mesh, 1, 2, EXACT)
    turned = [Pose.from_matrix(scene.pose.matrix() @ turn) for turn in alike_turns(mesh)]
    image, (_, y) = scene.image.copy(), scene.camera.project(scene.pose.translation[None])[0].round().int().tolist()
    image[y:] = np.random.default_rng(0).integers(0, 255, (480 - y, 160, 1)).repeat(4, axis=1)  # up to its middle
    likely = Appearance(mesh).log_likelihoods(image, scene.camera, [scene.pose, *turned])
    assert float((likely[1:] - likely[0]).max()) < -4.0
