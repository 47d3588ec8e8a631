"""The Warp kernel against the torch reference, on every camera model, loss and way of running it."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import warp as wp

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.covariance import nees
from pnp_ros.kernels import lm, lm_launch, solve_warp
from pnp_ros.kernels.lm_launch import Block
from pnp_ros.kernels.lm_problem import LMSettings
from pnp_ros.kernels.pose_prior import PosePrior
from pnp_ros.kernels.robust import RobustKind
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus
from synthetic.cube import random_problems

_INTRINSICS = torch.tensor([500.0, 510.0, 330.0, 230.0])
_PLUMB_BOB = torch.tensor([-0.25, 0.08, 1e-3, -2e-3, 0.01, 0.02, -0.01, 0.005, 1e-3, -5e-4, 2e-3, 3e-4, 0.02, -0.03])
CAMERAS = {
    "pinhole": Camera(CameraModel.PINHOLE, _INTRINSICS, torch.zeros(0), 640, 480),
    "brown_conrady": Camera(CameraModel.BROWN_CONRADY, _INTRINSICS, _PLUMB_BOB, 640, 480),
    "kannala_brandt": Camera(
        CameraModel.KANNALA_BRANDT, _INTRINSICS * 0.6, torch.tensor([0.05, -0.02, 0.01, -0.002]), 640, 480
    ),
}


def _double(correspondences: Correspondences, camera: Camera, pose: Pose) -> tuple[Correspondences, Camera, Pose]:
    fields = (correspondences.image_points, correspondences.object_points, correspondences.weights)
    return (
        Correspondences(*(field.double() for field in fields)),
        camera.to(dtype=torch.float64),
        Pose(pose.rotation.double(), pose.translation.double()),
    )


def _away(truth: Pose, degrees: float) -> Pose:
    turn = so3.exp(torch.deg2rad(torch.tensor([1.0, -2.0, 2.0]) / 3.0 * degrees))
    return Pose(turn @ truth.rotation, truth.translation * 1.1)


def _assert_same(kernel: PoseEstimate, reference: PoseEstimate) -> None:
    """Equal to a twentieth of a standard deviation, covariances to 2 %."""
    assert torch.equal(kernel.status, reference.status)
    ok = reference.usable
    pose = Pose(kernel.pose.rotation.double()[ok], kernel.pose.translation.double()[ok])
    delta = se3.local(Pose(reference.pose.rotation[ok], reference.pose.translation[ok]), pose)
    assert nees(delta, reference.covariance[ok]).max() < 0.05**2
    std = reference.covariance[ok].diagonal(dim1=-2, dim2=-1).sqrt()
    scale = std[..., :, None] * std[..., None, :]
    assert ((kernel.covariance.double()[ok] - reference.covariance[ok]) / scale).abs().max() < 0.02
    torch.testing.assert_close(kernel.cost.double()[ok], reference.cost[ok], rtol=1e-3, atol=1e-3)
    weights = reference.inlier_weights[ok]
    torch.testing.assert_close(kernel.inlier_weights.double()[ok], weights, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", list(CAMERAS))
@pytest.mark.parametrize("kind", list(RobustKind))
def test_kernel_equals_reference(name: str, kind: RobustKind) -> None:
    outliers = 0.25 if kind.redescending else 0.0
    correspondences, camera, truth = random_problems(40, 27, outliers=outliers, camera=CAMERAS[name], seed=3)
    settings = LMSettings(kind, 2.5, 50.0 if kind == RobustKind.GEMAN_MCCLURE else 2.5, max_iterations=60)
    init = _away(truth, 15.0)
    kernel = lm.solve(correspondences, camera, init, settings)
    double = _double(correspondences, camera, init)
    _assert_same(kernel, lm.solve(*double, replace(settings, tolerance=1e-6)))


def test_one_camera_for_each_problem() -> None:
    correspondences, camera, truth = random_problems(4, 12, camera=CAMERAS["brown_conrady"], seed=4)
    cameras = replace(camera, intrinsics=camera.intrinsics.repeat(4, 1), distortion=camera.distortion.repeat(4, 1))
    shared = lm.solve(correspondences, camera, truth, LMSettings())
    each = lm.solve(correspondences, cameras, truth, LMSettings())
    assert torch.equal(shared.pose.rotation, each.pose.rotation)
    assert torch.equal(shared.covariance, each.covariance)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_of_any_shape(batch: tuple[int, ...], dtype: torch.dtype) -> None:
    correspondences, camera, truth = random_problems(6, 10, seed=5, dtype=dtype)
    each = [lm.solve(_select(correspondences, i), camera, _pose(truth, i), LMSettings()) for i in range(6)]
    count = int(torch.tensor(batch).prod()) if batch else 1
    shaped = Correspondences(
        correspondences.image_points[:count].reshape(*batch, 10, 2),
        correspondences.object_points[:count].reshape(*batch, 10, 3),
        correspondences.weights[:count].reshape(*batch, 10, 2),
    )
    start = Pose(truth.rotation[:count].reshape(*batch, 3, 3), truth.translation[:count].reshape(*batch, 3))
    estimate = lm.solve(shaped, camera, start, LMSettings())
    assert estimate.status.shape == batch
    assert estimate.covariance.shape == (*batch, 6, 6)
    rotations = estimate.pose.rotation.reshape(count, 3, 3)
    for i in range(count):
        torch.testing.assert_close(rotations[i], each[i].pose.rotation, atol=1e-5, rtol=0)


def _select(correspondences: Correspondences, i: int) -> Correspondences:
    return Correspondences(
        correspondences.image_points[i], correspondences.object_points[i], correspondences.weights[i]
    )


def _pose(pose: Pose, i: int) -> Pose:
    return Pose(pose.rotation[i], pose.translation[i])


def test_shared_points_and_an_empty_batch() -> None:
    correspondences, camera, truth = random_problems(3, 10, seed=6)
    shared = Correspondences(
        correspondences.image_points, correspondences.object_points[0], correspondences.weights[0, :1].expand(10, 2)
    )
    assert lm.solve(shared, camera, truth, LMSettings()).status.shape == (3,)
    nothing = Correspondences(torch.zeros(0, 10, 2), torch.zeros(0, 10, 3), torch.zeros(0, 10, 2))
    empty = lm.solve(nothing, camera, Pose(torch.zeros(0, 3, 3), torch.zeros(0, 3)), LMSettings())
    assert empty.pose.rotation.shape == (0, 3, 3)


def test_one_recorded_launch_serves_all_sizes() -> None:
    """Also in turn: nothing of a call before may be left in the arguments, such as another camera or a prior."""
    settings = LMSettings()
    made, expected = lm_launch.launches.get.cache_info, []
    calls = []
    for n, name in ((9, "pinhole"), (700, "kannala_brandt"), (4, "brown_conrady"), (33, "pinhole")):
        correspondences, camera, truth = random_problems(2, n, sigma=1.0, seed=n, camera=CAMERAS[name])
        calls.append((_select(correspondences, 0), camera, _pose(truth, 0), None))
        calls.append((replace(correspondences, weights=torch.diag_embed(correspondences.weights)), camera, truth, None))
        prior = PoseEstimate.of(truth, 1e-2 * torch.eye(6))
        calls.append((correspondences, camera, truth, PosePrior.of(prior, truth.translation)))
    for call in calls:
        lm_launch.launches.get.cache_clear()
        expected.append(lm.solve(*call[:3], settings, prior=call[3]))
    before = made().currsize
    for call, alone in [*zip(calls, expected), *reversed(list(zip(calls, expected)))]:
        found = lm.solve(*call[:3], settings, prior=call[3])
        torch.testing.assert_close(found.pose.rotation, alone.pose.rotation, rtol=0, atol=0)
        torch.testing.assert_close(found.covariance, alone.covariance, rtol=0, atol=0)
        torch.testing.assert_close(found.inlier_weights, alone.inlier_weights, rtol=0, atol=0)
    assert made().currsize == before == 1


def test_a_kernel_called_directly_does_what_its_launch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    correspondences, camera, truth = random_problems(3, 20, sigma=1.0, outliers=0.3, seed=4)
    found = []
    for directly in (True, False):
        monkeypatch.setattr(lm_launch, "CALLED_DIRECTLY", directly)
        lm_launch.launches.get.cache_clear()
        for count in (3, 1):  # the bounds are new ones
            some = Pose(truth.rotation[:count], truth.translation[:count])
            found.append(lm.solve(_first(correspondences, count), camera, some, LMSettings(samples=100)))
    lm_launch.launches.get.cache_clear()
    for one, other in zip(found[:2], found[2:]):
        for name in ("covariance", "cost", "inlier_weights", "status"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


def _first(correspondences: Correspondences, count: int) -> Correspondences:
    return Correspondences(*(x[:count] for x in vars(correspondences).values()))


def test_fields_that_are_made_when_they_are_read_are_those_of_the_problem() -> None:
    correspondences, camera, truth = random_problems(6, 12, sigma=1.0, outliers=0.2, seed=8)
    correspondences.image_points[2, 3, 0] = torch.nan
    batch = lm.solve(correspondences, camera, truth, LMSettings())
    assert batch.status.dtype == torch.int8
    assert batch.status[2] == int(SolveStatus.NOT_FINITE)
    assert torch.equal(batch.usable, batch.status <= int(SolveStatus.MAX_ITERATIONS))
    stored = pickle.loads(pickle.dumps(lm.solve(correspondences, camera, truth, LMSettings())))
    for i in range(6):
        one = lm.solve(_select(correspondences, i), camera, _pose(truth, i), LMSettings())
        for name in ("covariance", "cost", "inlier_weights", "status", "usable"):
            assert torch.equal(getattr(one, name), getattr(batch, name)[i]), name
            assert torch.equal(getattr(one, name), getattr(stored, name)[i]), name
        assert one.alternative is not None
        assert batch.alternative is not None
        assert torch.equal(one.alternative.values, batch.alternative.values[i])
    assert not replace(batch, status=torch.full_like(batch.status, 4)).usable.any()
    assert [f.name for f in fields(batch)] == [name for name in vars(replace(batch)) if not name.startswith("_")]
    with pytest.raises(AttributeError, match="no attribute 'covarience'"):
        batch.covarience  # noqa: B018


@pytest.mark.parametrize("lanes", [4, 32])
def test_threads_of_a_block_that_share_a_problem(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # What runs on CUDA, with its lanes and reductions, executed on the CPU.
    monkeypatch.setattr(wp.config, "enable_cpu_blocks", True)
    correspondences, camera, truth = random_problems(3, 21, outliers=0.3, seed=7)
    for settings, init in (
        (LMSettings(RobustKind.GEMAN_MCCLURE, 3.0, 100.0), _away(truth, 10.0)),
        (LMSettings(RobustKind.GEMAN_MCCLURE, 3.0, 3.0, samples=500), None),
    ):
        block = lm.solve(correspondences, camera, init, settings, block=Block(1, lanes, lanes))
        alone = lm.solve(correspondences, camera, init, settings)
        assert (block.status == int(SolveStatus.CONVERGED)).all()
        delta = se3.local(alone.pose, block.pose).double()
        assert nees(delta, alone.covariance.double()).max() < 0.05**2


def _compile_for_cuda(
    block: Block, arch: int, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: object
) -> Path:
    monkeypatch.setattr(wp.config, "use_precompiled_headers", False)  # 80 MB that nvrtc leaves in the temporary folder
    lm_launch.initialise()
    module = solve_warp.build(block.width, block.lanes).module
    for name, value in {"block_dim": block.threads, **options}.items():
        monkeypatch.setitem(module.options, name, value)
    (found,) = wp.compile_aot_module(module, arch=arch, module_dir=folder, use_ptx="mode" in options)
    return found


def test_the_source_is_one_for_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, without optimising: a seventh of the time."""
    assembly = _compile_for_cuda(lm_launch.CUDA_FEW, 90, tmp_path, monkeypatch, mode="debug").read_text()
    assert ".entry build__locals__solve_poses" in assembly


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "arch"), [(lm_launch.CUDA_FEW, 90), (lm_launch.CUDA_FEW, 87), (lm_launch.CUDA_MANY, 90)]
)
def test_kernel_compiles_for_cuda_without_a_driver(
    block: Block, arch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cubin = _compile_for_cuda(block, arch, tmp_path, monkeypatch)
    assert cubin.suffix == ".cubin"
    assert cubin.stat().st_size > 10_000


def test_disagreeing_fields_are_named() -> None:
    correspondences, camera, truth = random_problems(2, 8)
    with pytest.raises(ValueError, match=r"init\.translation.*float32"):
        lm.solve(correspondences, camera, Pose(truth.rotation, truth.translation.double()), LMSettings())
    with pytest.raises(ValueError, match=r"batch dimensions.*init\.rotation \(3, 3, 3\)"):
        lm.solve(correspondences, camera, Pose(torch.zeros(3, 3, 3), torch.zeros(3, 3)), LMSettings())
    with pytest.raises(ValueError, match="init: expected a pose with samples = 0"):
        lm.solve(correspondences, camera, None, LMSettings())


@pytest.mark.parametrize("kind", [RobustKind.HUBER, RobustKind.CAUCHY])
def test_a_narrowing_scale_compares_costs_of_one_residual(kind: RobustKind) -> None:
    # With a scale that changes, the kernel evaluates the loss twice of the same residuals.
    correspondences, camera, truth = random_problems(20, 27, outliers=0.1, seed=3)
    settings = LMSettings(kind, 2.0, 40.0, max_iterations=60)
    init = _away(truth, 10.0)
    kernel = lm.solve(correspondences, camera, init, settings)
    _assert_same(kernel, lm.solve(*_double(correspondences, camera, init), replace(settings, tolerance=1e-6)))
