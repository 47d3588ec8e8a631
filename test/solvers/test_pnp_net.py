"""PnP-Net with its shipped weights: what it must not depend on, its kernel, and what its guidance is worth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pnp_ros.kernels import pnp_net as kernel
from pnp_ros.solvers import pnp_net
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pnp_net import PnPNet, canonicalise
from pnp_ros.solvers.search import Search
from pnp_ros.types import Correspondences
from synthetic.cpu_time import cpu_seconds
from synthetic.problems import Case, draw

HARD = Case(n=64, outliers=0.8)
CASES = [
    HARD,
    Case(n=50, outliers=0.5, lens="oak_d", shape="flat"),
    Case(n=200, outliers=0.8, lens="fisheye", kind="clustered"),
    Case(n=17, outliers=0.3, lens="ip", weights="full"),
    Case(n=4),
]


def likelihood(correspondences: Correspondences, camera) -> torch.Tensor:
    found = PnPNet().likelihood_of(correspondences, camera)
    assert found is not None
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel_is_the_plain_network(case: Case) -> None:
    problems = draw(case, 20)
    c, camera = problems.correspondences(), problems.lens.camera()
    torch.testing.assert_close(likelihood(c, camera), pnp_net.likelihood(c, camera), atol=2e-3, rtol=0)


def test_kernel_takes_batches_of_any_shape_and_a_camera_for_each() -> None:
    problems = draw(Case(n=20, outliers=0.3, lens="ip"), 6)
    c, camera = problems.correspondences(), problems.lens.camera()
    expected = likelihood(c, camera)
    each = replace(camera, intrinsics=camera.intrinsics.expand(6, 4), distortion=camera.distortion.expand(6, 14))
    torch.testing.assert_close(likelihood(c, each), expected)
    shaped = Correspondences(*(x.unflatten(0, (2, 3)) for x in (c.image_points, c.object_points, c.weights)))
    torch.testing.assert_close(likelihood(shaped, camera), expected.unflatten(0, (2, 3)))
    single = Correspondences(c.image_points[2], c.object_points[2], c.weights[2])
    torch.testing.assert_close(likelihood(single, camera), expected[2])
    nobody = Correspondences(torch.zeros(0, 2), torch.zeros(0, 3), torch.zeros(0, 2))
    assert likelihood(nobody, camera).shape == (0,)


def test_order_scale_and_missing_points_do_not_matter() -> None:
    problems = draw(HARD, 10)
    c, camera = problems.correspondences(), problems.lens.camera()
    found = likelihood(c, camera)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    shuffled = Correspondences(c.image_points[:, order], c.object_points[:, order], c.weights[:, order])
    torch.testing.assert_close(likelihood(shuffled, camera), found[:, order], atol=2e-3, rtol=0)
    in_millimetres = Correspondences(c.image_points, 1000.0 * c.object_points + 70.0, c.weights)
    torch.testing.assert_close(likelihood(in_millimetres, camera), found, atol=5e-3, rtol=0)

    weights = c.weights.clone()
    weights[:, ::2] = 0.0
    image_points = c.image_points.clone()
    image_points[:, ::2] = torch.nan
    masked = likelihood(Correspondences(image_points, c.object_points, weights), camera)
    fewer = Correspondences(c.image_points[:, 1::2], c.object_points[:, 1::2], c.weights[:, 1::2])
    torch.testing.assert_close(masked[:, 1::2], likelihood(fewer, camera), atol=2e-3, rtol=0)
    assert (masked[:, ::2] == 0).all()


def test_canonical_problem_does_not_depend_on_lens_or_place() -> None:
    problems = draw(Case(n=30, lens="rational_4k", sigma=0.01, extent=0.2), 5)
    c, camera = problems.correspondences(torch.float64), problems.lens.camera(torch.float64)
    problem = canonicalise(c, camera)
    bearings = camera.unproject(c.image_points)
    cosines = bearings @ bearings.mT
    plane = torch.cat([problem.image, torch.ones_like(problem.image[..., :1])], dim=-1)
    plane = torch.nn.functional.normalize(plane, dim=-1)
    torch.testing.assert_close(plane @ plane.mT, cosines)  # the rays have been turned, and nothing else
    assert problem.image.mean(-2).norm(dim=-1).max() < 0.01
    torch.testing.assert_close(problem.object.square().sum(-1).mean(-1), torch.ones(5, dtype=torch.float64))


def test_nothing_finite_or_not_gives_nan() -> None:
    problems = draw(HARD, 3)
    c, camera = problems.correspondences(), problems.lens.camera()
    for value in (0.0, 1e30, float("nan"), float("inf")):
        for which in range(2):
            values = [c.image_points.clone(), c.object_points.clone(), c.weights]
            values[which][1, 5] = value
            found = likelihood(Correspondences(*values), camera)
            assert found.isfinite().all()
            assert ((found >= 0) & (found <= 1)).all()
            torch.testing.assert_close(found[0], likelihood(c, camera)[0])


@pytest.mark.parametrize(
    ("case", "factor"),
    [
        (replace(HARD, outliers=0.9), 2.5),
        (replace(HARD, n=200, outliers=0.95), 3.0),
        (replace(HARD, n=200, outliers=0.9, kind="clustered"), 5.0),
        (replace(HARD, kind="second", outliers=0.4), 1.05),
        (replace(HARD, shape="flat", lens="oak_d", outliers=0.85), 2.5),
    ],
    ids=str,
)
def test_points_drawn_by_likelihood_are_inliers_more_often(case: Case, factor: float) -> None:
    problems = draw(case, 100)
    found = likelihood(problems.correspondences(), problems.lens.camera())
    inlier = torch.from_numpy(problems.inlier)
    drawn = (found * inlier).sum(-1) / found.sum(-1)
    assert drawn.mean() > factor * inlier.float().mean()


def test_guidance_finds_what_a_cluster_hides_and_saves_time() -> None:
    problems = draw(Case(n=200, outliers=0.95, kind="clustered"), 30, seed=3)
    c, camera = problems.correspondences(), problems.lens.camera()
    estimate = solve_pnp(c, camera, init=PnPNet())  # nine of ten; six without the trusted points' own pose
    right = estimate.usable.numpy() & problems.right(estimate.pose)
    assert right.mean() > 0.8

    problems = draw(HARD, 100)
    c, camera = problems.correspondences(), problems.lens.camera()
    for init in (None, PnPNet()):
        estimate = solve_pnp(c, camera, init=init)
        assert (estimate.usable.numpy() & problems.right(estimate.pose)).mean() > 0.98
    alone, guided = cpu_seconds(lambda: solve_pnp(c, camera), lambda: solve_pnp(c, camera, init=PnPNet()))
    assert guided < 0.7 * alone  # about a third


def test_a_wrong_guide_costs_time_and_no_poses() -> None:
    problems = draw(Case(n=64, outliers=0.6), 100)
    c, camera = problems.correspondences(), problems.lens.camera()
    misled = torch.from_numpy(~problems.inlier).float()
    for guide in (misled, torch.zeros(64), torch.full((64,), torch.nan)):
        estimate = solve_pnp(c, camera, init=Search(guide))
        assert (estimate.usable.numpy() & problems.right(estimate.pose)).mean() > 0.98
    told = solve_pnp(c, camera, init=Search(1.0 - misled))
    assert (told.usable.numpy() & problems.right(told.pose)).mean() > 0.98
    with pytest.raises(ValueError, match="likelihood"):
        solve_pnp(c, camera, init=Search(torch.ones(63)))


def test_weights_that_do_not_fit_are_named(tmp_path) -> None:
    with pytest.raises(ValueError, match="no file"):
        pnp_net.load_network(tmp_path / "nowhere.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="does not hold"):
        pnp_net.load_network(tmp_path / "other.safetensors")


def test_a_solve_of_64_points_costs_little_more() -> None:
    problems = draw(HARD, 1)
    c, camera = problems.correspondences(), problems.lens.camera()
    one = Correspondences(c.image_points[0], c.object_points[0], c.weights[0])
    packed = pnp_net.pack(pnp_net.load_network())
    kernel.likelihood(one, camera, packed)
    few = draw(Case(n=64, outliers=0.6), 20)
    network, solve = cpu_seconds(
        lambda: [kernel.likelihood(one, camera, packed) for _ in range(20)],
        lambda: solve_pnp(few.correspondences(), few.lens.camera()),
    )
    assert network < 4.0 * solve  # as long: 0.08 ms on a quiet core
