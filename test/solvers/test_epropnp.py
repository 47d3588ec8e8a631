"""The pose posterior against what is known of it: Gaussians, symmetric objects, gradients."""

import math

import pytest
import torch

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.covariance import nees
from pnp_ros.solvers import levenberg_marquardt
from pnp_ros.solvers.epropnp import sample_posterior
from pnp_ros.solvers.epropnp_losses import pose_cost
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure, Huber
from pnp_ros.types import Correspondences, Pose

CAMERA = Camera.pinhole(800.0, 800.0, 319.5, 239.5, 640, 480)


def _scene(batch, points, sigma, *, dtype=torch.float32, seed=0, camera=CAMERA):
    generator = torch.Generator().manual_seed(seed)
    object_points = (torch.rand(batch, points, 3, generator=generator) * 2 - 1).to(dtype)
    depth = 4 + 4 * torch.rand(batch, 1, generator=generator)
    translation = torch.cat([torch.rand(batch, 2, generator=generator) - 0.5, depth], dim=-1)
    pose = Pose(so3.random_rotation(batch, generator=generator).to(dtype), translation.to(dtype))
    camera = camera.to(dtype=dtype)
    noise = sigma * torch.randn(batch, points, 2, generator=generator)
    image_points = camera.project(pose.transform(object_points)) + noise.to(dtype)
    return Correspondences.from_sigma(image_points, object_points, sigma), camera, pose


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("points", "sigma"), [(6, 1.0), (64, 2.0), (64, 0.1), (1024, 0.1), (512, 0.01)])
def test_small_noise_gives_laplaces_gaussian_in_float32(points, sigma):
    correspondences, camera, pose = _scene(8, points, sigma)
    posterior = sample_posterior(correspondences, camera, modes=pose, num_samples=2048, generator=_generator())
    reference = solve_pnp(
        Correspondences(*(getattr(correspondences, n).double() for n in ("image_points", "object_points", "weights"))),
        camera.to(dtype=torch.float64),
        init=Pose(pose.rotation.double(), pose.translation.double()),
        loss=Gaussian(),
    )
    assert (posterior.effective_sample_size > 600).all()
    laplace = -reference.cost + 0.5 * torch.logdet(2 * math.pi * reference.covariance)
    assert (posterior.log_evidence.double() - laplace).mean().abs() < 0.1
    # In units of the inverse Hessian the sampled covariance is the identity.
    whitening = torch.linalg.inv(torch.linalg.cholesky(reference.covariance))
    whitened = whitening @ posterior.covariance.double() @ whitening.mT
    torch.testing.assert_close(whitened.mean(0), torch.eye(6).double(), rtol=0.0, atol=0.15)
    offset = se3.local(reference.pose, Pose(posterior.mean.rotation.double(), posterior.mean.translation.double()))
    assert (nees(offset, reference.covariance) < 1.0).all()


def test_posterior_covers_the_truth():
    correspondences, camera, pose = _scene(400, 8, 2.0, seed=3)
    posterior = sample_posterior(correspondences, camera, modes=pose, generator=_generator())
    values = nees(se3.local(posterior.mean, pose), posterior.covariance)
    assert 5.2 < values.mean() < 7.2  # 6 for a Gaussian; 400 draws vary by 0.17


def test_evidence_does_not_depend_on_the_proposals():
    correspondences, camera, pose = _scene(64, 6, 8.0, seed=1)
    few = sample_posterior(correspondences, camera, modes=pose, generator=_generator(1))
    many = sample_posterior(
        correspondences, camera, modes=pose, num_samples=16384, iterations=2, generator=_generator(2)
    )
    difference = few.log_evidence - many.log_evidence
    assert difference.median().abs() < 0.03
    assert difference.abs().median() < 0.08


def test_evidence_is_invariant_to_the_object_frame():
    correspondences, camera, pose = _scene(16, 8, 3.0, dtype=torch.float64)
    move = Pose(so3.random_rotation(16, generator=_generator(), dtype=torch.float64), torch.full((16, 3), 5.0).double())
    moved = Correspondences(
        correspondences.image_points,
        se3.inverse(move).transform(correspondences.object_points),
        correspondences.weights,
    )
    here = sample_posterior(correspondences, camera, modes=pose, num_samples=4096, generator=_generator())
    there = sample_posterior(moved, camera, modes=se3.compose(pose, move), num_samples=4096, generator=_generator())
    torch.testing.assert_close(here.log_evidence, there.log_evidence, rtol=0.0, atol=0.15)
    back = se3.compose(there.mean, se3.inverse(move))
    torch.testing.assert_close(back.rotation, here.mean.rotation, rtol=0.0, atol=5e-3)


@pytest.mark.parametrize("loss", [Gaussian(), Huber(1.0)])
@pytest.mark.parametrize(("field", "size"), [("image_points", 3.0), ("object_points", 0.02), ("weights", 0.03)])
def test_gradient_of_the_evidence_against_finite_differences(field, size, loss):
    correspondences, camera, pose = _scene(1, 7, 3.0, dtype=torch.float64, seed=5)

    def log_evidence(value, seed):
        changed = Correspondences(**{**vars(correspondences), field: value})
        return sample_posterior(
            changed, camera, modes=pose, num_samples=65536, iterations=2, loss=loss, generator=_generator(seed)
        ).log_evidence.squeeze()

    value = getattr(correspondences, field).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_evidence(value, 1), value)
    direction = torch.randn(value.shape, generator=_generator(9), dtype=torch.float64) * size
    step = 0.02
    # The same seed on both sides: most of the sampling noise cancels.
    ahead, behind = (log_evidence((value + s * direction).detach(), 2) for s in (step, -step))
    numeric = ((ahead - behind) / (2 * step)).item()
    assert (gradient * direction).sum().item() == pytest.approx(numeric, rel=0.03, abs=0.1)  # of about 5


def test_distorted_camera():
    distortion = torch.tensor([-0.25, 0.08, 1e-3, -1e-3, 0.0] + [0.0] * 9)
    lens = Camera(CameraModel.BROWN_CONRADY, CAMERA.intrinsics, distortion, 640, 480)
    correspondences, camera, pose = _scene(8, 64, 1.0, camera=lens)
    posterior = sample_posterior(correspondences, camera, modes=pose, num_samples=2048, generator=_generator())
    estimate = solve_pnp(correspondences, camera, init=pose, loss=Gaussian())
    values = nees(se3.local(estimate.pose, posterior.mean), estimate.covariance)
    assert (values < 0.5).all()
    ratio = torch.linalg.det(posterior.covariance.double()) / torch.linalg.det(estimate.covariance.double())
    assert ratio.log().mean().abs() < 0.3


def _turned_about_z(angle):
    return so3.exp(torch.tensor([0.0, 0.0, angle]))


def test_three_points_show_all_four_solutions():
    # An equilateral triangle seen from above its centre: three tilted poses beside the upright one.
    angle = torch.arange(3) * 2 * math.pi / 3
    triangle = torch.stack([angle.cos(), angle.sin(), torch.zeros(3)], dim=-1)
    pose = Pose(torch.eye(3), torch.tensor([0.0, 0.0, 2.5]))
    camera = Camera.pinhole(500.0, 500.0, 319.5, 239.5, 640, 480)
    correspondences = Correspondences.from_sigma(camera.project(pose.transform(triangle)), triangle, 2.0)
    posterior = sample_posterior(correspondences, camera, num_samples=8192, generator=_generator())
    normal = posterior.poses.rotation[:, :, 2]
    upright = normal[:, 2] > 0.98
    directions = torch.stack([angle.cos(), angle.sin()])
    toward = (normal[:, :2] @ directions).argmax(-1)
    shares = torch.stack([posterior.weights[~upright & (toward == k)].sum() for k in range(3)])
    # Four equal costs: by Laplace's rule the shares are those of the covariances' square-rooted determinants.
    # Three points alone are never believed, so the minima are refined without being judged.
    estimates = levenberg_marquardt.refine(
        Correspondences.from_sigma(*(x.expand(4, -1, -1) for x in (correspondences.image_points, triangle)), 2.0),
        camera,
        Pose(posterior.modes.rotation, posterior.modes.translation),
        Gaussian(),
        accept=False,
    )
    assert (estimates.cost < 1e-3).all()
    volume = torch.linalg.det(estimates.covariance.double()).sqrt()
    is_upright = estimates.pose.rotation[:, 2, 2] > 0.98
    assert is_upright.sum() == 1
    expected = (volume[~is_upright] / volume.sum()).mean().item()
    assert shares.tolist() == pytest.approx([expected] * 3, rel=0.2)
    assert posterior.weights[upright].sum().item() == pytest.approx(1 - 3 * expected, rel=0.1)


@pytest.mark.parametrize("loss", [Cauchy(), GemanMcClure()])
def test_a_symmetric_object_shows_all_its_orientations(loss):
    # A threefold symmetric object: the image does not tell which of three points an image point belongs to.
    symmetry = [_turned_about_z(k * 2 * math.pi / 3) for k in range(3)]
    generator = _generator(2)
    points = torch.rand(12, 3, generator=generator) * 2 - 1
    pose = Pose(so3.random_rotation(generator=generator), torch.tensor([0.2, -0.1, 5.0]))
    image_points = CAMERA.project(pose.transform(points))
    correspondences = Correspondences.from_sigma(
        image_points.repeat(3, 1), torch.cat([points @ turn.mT for turn in symmetry]), 1.0
    )
    posterior = sample_posterior(
        correspondences, CAMERA, loss=loss, max_modes=4, num_samples=4096, generator=_generator()
    )
    equivalent = torch.stack([pose.rotation @ turn.mT for turn in symmetry])
    angle = so3.angle_between(posterior.poses.rotation[:, None], equivalent)
    shares = (posterior.weights[:, None] * (angle < 0.1)).sum(0)
    assert shares.tolist() == pytest.approx([1 / 3] * 3, rel=0.15)


def test_points_on_a_line_show_a_ring():
    line = torch.linspace(-1, 1, 8)[:, None] * torch.tensor([[0.0, 0.0, 1.0]])
    pose = Pose(so3.exp(torch.tensor([0.3, 1.2, 0.0])), torch.tensor([0.0, 0.0, 4.0]))
    correspondences = Correspondences.from_sigma(CAMERA.project(pose.transform(line)), line, 1.0)
    posterior = sample_posterior(correspondences, CAMERA, num_samples=8192, generator=_generator())
    roll = so3.log(pose.rotation.mT @ posterior.poses.rotation)[:, 2]
    # Turning about the line changes nothing: every sixth of the turn has a sixth of the weight.
    sixth = ((roll + math.pi) / (math.pi / 3)).long().clamp(0, 5)
    shares = torch.zeros(6).index_add(0, sixth, posterior.weights)
    assert (shares - 1 / 6).abs().max() < 0.06
    assert (so3.angle_between(pose.rotation[None], posterior.poses.rotation) > 1.0).any()


def test_given_modes_each_get_samples():
    correspondences, camera, pose = _scene(2, 16, 1.0)
    twice = Pose(pose.rotation[:, None].expand(-1, 2, -1, -1), pose.translation[:, None].expand(-1, 2, -1))
    one = sample_posterior(correspondences, camera, modes=pose, num_samples=4096, generator=_generator())
    two = sample_posterior(correspondences, camera, modes=twice, num_samples=4096, generator=_generator())
    assert two.modes.translation.shape == (2, 2, 3)
    # The same mode twice is no more evidence.
    torch.testing.assert_close(one.log_evidence, two.log_evidence, rtol=0.0, atol=0.1)


def test_points_that_fit_no_pose_do_not_make_the_truth_certain():
    """What an untrained dense network says: the nearest minimum may lie in the camera, where the posterior has none."""
    generator, axis = torch.Generator().manual_seed(1), torch.arange(2.0, 64.0, 4.0)
    cells = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).flatten(0, 1)
    target = Pose(so3.random_rotation(128, generator=generator), torch.tensor([0.0, 0.0, 0.45]).expand(128, 3))
    slopes = 0.003 * torch.randn(128, 2, 3, generator=generator)  # metres a pixel
    points = (cells - 31.5) @ slopes + 0.01 * torch.randn(128, len(cells), 3, generator=generator)
    found = Correspondences(cells.expand(128, -1, -1), points, torch.full((128, len(cells), 2), 1 / 30))
    camera = Camera.pinhole(250.0, 250.0, 31.5, 31.5, 64, 64)
    posterior = sample_posterior(found, camera, modes=target, loss=Cauchy(2.0), generator=generator)
    log_density = -(pose_cost(found, camera, target, loss=Cauchy(2.0)) + posterior.log_evidence)
    assert float(log_density.max()) < 25.0  # it was 9,000


def test_shapes_and_unbatched_input():
    correspondences, camera, pose = _scene(6, 10, 1.0)
    folded = Correspondences(*(x.unflatten(0, (2, 3)) for x in vars(correspondences).values()))
    modes = Pose(pose.rotation.unflatten(0, (2, 3)), pose.translation.unflatten(0, (2, 3)))
    posterior = sample_posterior(folded, camera, modes=modes, generator=_generator())
    assert posterior.poses.rotation.shape == (2, 3, 512, 3, 3)
    assert posterior.covariance.shape == (2, 3, 6, 6)
    assert posterior.log_evidence.shape == (2, 3)
    single = Correspondences(*(x[0] for x in vars(correspondences).values()))
    posterior = sample_posterior(
        single, camera, modes=Pose(pose.rotation[0], pose.translation[0]), generator=_generator()
    )
    assert posterior.log_evidence.shape == ()
    assert posterior.mean.rotation.shape == (3, 3)


def test_a_camera_for_each_problem():
    correspondences, camera, pose = _scene(3, 10, 1.0)
    cameras = Camera(camera.model, camera.intrinsics.expand(3, 4), camera.distortion.expand(3, 0), 640, 480)
    shared = sample_posterior(correspondences, camera, modes=pose, generator=_generator())
    own = sample_posterior(correspondences, cameras, modes=pose, generator=_generator())
    torch.testing.assert_close(own.log_evidence, shared.log_evidence)
    found = sample_posterior(correspondences, cameras, generator=_generator())
    torch.testing.assert_close(found.log_evidence, shared.log_evidence, rtol=0.0, atol=0.4)


@pytest.mark.parametrize("shared", ["image_points", "object_points", "weights", "all but image_points", "matrices"])
def test_fields_that_problems_share_are_broadcast(shared):
    correspondences, camera, pose = _scene(3, 10, 1.0)
    whole = {name: value.expand(2, *value.shape) for name, value in vars(correspondences).items()}
    small = dict(whole)
    if shared == "all but image_points":
        small |= {name: whole[name][0] for name in ("object_points", "weights")}
    elif shared == "matrices":
        small["weights"] = torch.eye(2).expand(10, 2, 2)
    else:
        small[shared] = whole[shared] = whole[shared][:1, :1].expand_as(whole[shared])
        small[shared] = small[shared][0, 0]
    modes = Pose(pose.rotation.expand(2, 3, 3, 3), pose.translation.expand(2, 3, 3))
    for at in (modes, None):
        expected = sample_posterior(Correspondences(**whole), camera, modes=at, generator=_generator())
        found = sample_posterior(Correspondences(**small), camera, modes=at, generator=_generator())
        assert found.log_evidence.shape == (2, 3)
        torch.testing.assert_close(found.log_evidence, expected.log_evidence)
    with pytest.raises(ValueError, match="batch dimensions do not agree: image_points"):
        sample_posterior(Correspondences(**(small | {"weights": torch.ones(4, 10, 2)})), camera)


def test_the_camera_follows_the_correspondences():
    for dtype, other in ((torch.float32, torch.float64), (torch.float64, torch.float32)):
        correspondences, camera, pose = _scene(2, 10, 1.0, dtype=dtype)
        expected = sample_posterior(correspondences, camera, modes=pose, generator=_generator())
        found = sample_posterior(correspondences, camera.to(dtype=other), modes=pose, generator=_generator())
        assert found.log_evidence.dtype == dtype
        torch.testing.assert_close(found.log_evidence, expected.log_evidence)


@pytest.mark.parametrize("given", [False, True])
def test_a_batch_without_problems_has_no_posteriors(given):
    correspondences, camera, _ = _scene(2, 10, 1.0)
    points = correspondences.image_points[:0].expand(3, 0, 10, 2).clone().requires_grad_()
    none = Correspondences(points, correspondences.object_points[:0], correspondences.weights[:0])
    modes = Pose(torch.zeros(3, 0, 2, 3, 3), torch.zeros(3, 0, 2, 3)) if given else None
    posterior = sample_posterior(none, camera, modes=modes)
    assert posterior.log_evidence.shape == (3, 0)
    assert posterior.poses.translation.shape == (3, 0, 512, 3)
    assert posterior.covariance.shape == (3, 0, 6, 6)
    posterior.log_evidence.sum().backward()
    assert points.grad.shape == points.shape


@pytest.mark.parametrize("sigma", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("kind", ["random", "zero weights", "one point", "duplicates", "outliers only"])
def test_nothing_but_finite_numbers(kind, sigma):
    correspondences, camera, pose = _scene(2, 8, 1.0)
    image_points = correspondences.image_points
    object_points = correspondences.object_points
    weights = torch.full_like(image_points, 1.0 / sigma)
    if kind == "zero weights":
        weights = torch.zeros_like(weights)
    elif kind == "one point":
        image_points, object_points, weights = (x[:, :1] for x in (image_points, object_points, weights))
    elif kind == "duplicates":
        image_points, object_points = (x[:, :1].expand_as(x) for x in (image_points, object_points))
    elif kind == "outliers only":
        image_points = 640 * torch.rand(image_points.shape, generator=_generator())
    inputs = [x.clone().requires_grad_() for x in (image_points, object_points, weights)]
    for modes in (None, pose):
        posterior = sample_posterior(Correspondences(*inputs), camera, modes=modes, generator=_generator())
        gradients = torch.autograd.grad(posterior.log_evidence.sum(), inputs)
        tensors = [posterior.log_weights, posterior.log_evidence, posterior.covariance, posterior.mean.rotation]
        for tensor in [*tensors, posterior.poses.rotation, posterior.poses.translation, *gradients]:
            assert tensor.isfinite().all()


def test_bad_arguments_are_named():
    correspondences, camera, pose = _scene(2, 8, 1.0)
    with pytest.raises(ValueError, match="num_samples"):
        sample_posterior(correspondences, camera, modes=pose, num_samples=510)
    with pytest.raises(ValueError, match="modes"):
        sample_posterior(correspondences, camera, modes=Pose(torch.eye(3).expand(3, 3, 3), torch.ones(3, 3)))
