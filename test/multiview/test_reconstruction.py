"""Reconstruction from synthetic tracks: accuracy, covariance, outliers, size, and honest refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.multiview.bundle_adjustment import Structure, similarity
from pnp_ros.multiview.joining import joining_similarity, poses_after
from pnp_ros.multiview.reconstruction import Reconstruction, ReconstructionError, reconstruct
from pnp_ros.types import Pose
from synthetic.tracks import random_tracks


def aligned_errors(result: Reconstruction, truth: Structure, *, metric: bool = False) -> tuple[Tensor, Tensor]:
    """Errors (M', 3) m of the found points after alignment, and their squared lengths in sigmas (M').

    The alignment is by rotation and translation if ``metric``, else by scale too.
    """
    points, reference = result.structure.points[result.found], truth.points[result.found]
    scale, rotation, _ = similarity(points, reference)
    scale = 1.0 if metric else scale
    errors = scale * (points - points.mean(0)) @ rotation.mT - (reference - reference.mean(0))
    covariance = scale**2 * rotation @ result.covariance[result.found] @ rotation.mT
    nees = (errors[:, None] @ torch.linalg.solve(covariance, errors[..., None])).flatten()
    return errors, nees


@pytest.mark.parametrize(("views", "points", "outliers"), [(8, 30, 0.0), (20, 60, 0.1)])
def test_structure_is_right_and_its_covariance_honest(views: int, points: int, outliers: float) -> None:
    tracks, camera, truth = random_tracks(views, points, sigma=0.5, outliers=outliers, visible=0.4)
    result = reconstruct(tracks, camera)
    assert result.converged
    assert result.placed.all()
    assert result.found.sum() >= 0.9 * points
    errors, nees = aligned_errors(result, truth)
    assert errors.norm(dim=-1).median() < 1e-3  # of a 20 cm object
    assert 0.6 < nees.mean() / 3.0 < 1.6
    assert result.sigma == pytest.approx(0.5, rel=0.15)
    error, deviation = result.focal_error
    assert abs(error) < 3.5 * deviation < 0.06
    assert not result.doubtful_focal_length


def test_neighbours_that_share_few_points_make_a_chain() -> None:
    """30 views: neighbours share 7 to 10 points in the median, 3 to 4 at the weakest link.

    One chain may break at a link that holds with another version of OpenCV; the three together are 51 views long
    without neighbours, and 71 to 78 with them.
    """
    placed = 0
    for seed in (0, 6, 8):
        tracks, camera, truth = random_tracks(30, 60, sigma=0.3, visible=0.1, seed=seed)
        result = reconstruct(tracks, camera)
        placed += int(result.placed.sum())
        errors, _ = aligned_errors(result, truth)
        assert errors.norm(dim=-1).median() < 2e-3  # and none of the bent ones that fit nearly as well
        assert result.sigma < 0.45
    assert placed >= 62


def test_parts_that_share_few_points_are_joined() -> None:
    """Seven views each, with four points in common: too few to place a view of one part in the other."""
    tracks, camera, truth = random_tracks(14, 44, sigma=0.3, visible=1.0)
    tracks[:7, 24:], tracks[7:, :20] = torch.nan, torch.nan
    result = reconstruct(tracks, camera)
    assert result.placed.all()
    errors, _ = aligned_errors(result, truth)
    assert errors.norm(dim=-1).median() < 2e-3


def test_a_similarity_is_found_among_wrong_points() -> None:
    generator = torch.Generator().manual_seed(0)
    points, reference = torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)
    rotation, shift = (
        so3.random_rotation(1, generator=generator, dtype=torch.float64)[0],
        torch.tensor([1.0, -2.0, 3.0]),
    )
    reference[:6] = 0.4 * points[:6] @ rotation.mT + shift
    scale, turn, move = joining_similarity(points, reference)
    assert scale == pytest.approx(0.4)
    torch.testing.assert_close(turn, rotation)
    pose = Pose(so3.random_rotation(1, generator=generator, dtype=torch.float64), reference[7:8] + 5.0)
    seen = poses_after(pose, scale, turn, move).transform(reference[:6])
    torch.testing.assert_close(seen, 0.4 * pose.transform(points[:6]))


def test_without_noise_the_structure_is_exact() -> None:
    tracks, camera, truth = random_tracks(10, 30, sigma=0.0, visible=0.5)
    result = reconstruct(tracks, camera)
    errors, _ = aligned_errors(result, truth)
    assert errors.norm(dim=-1).max() < 1e-6
    turns = result.structure.poses.rotation
    assert (turns @ turns.mT - torch.eye(3)).abs().max() < 1e-12  # although views are placed in single precision


def test_a_fisheye_works_too() -> None:
    distortion = torch.tensor([0.02, -0.01, 0.002, 0.0])
    camera = Camera(CameraModel.KANNALA_BRANDT, torch.tensor([500.0, 500.0, 320.0, 240.0]), distortion, 640, 480)
    tracks, camera, truth = random_tracks(12, 40, sigma=0.3, visible=0.5, camera=camera)
    errors, _ = aligned_errors(reconstruct(tracks, camera), truth)
    assert errors.norm(dim=-1).median() < 1e-3


def test_a_known_distance_gives_metres() -> None:
    tracks, camera, truth = random_tracks(12, 40, sigma=0.3, visible=1.0)
    metres = float((truth.points[3] - truth.points[7]).norm())
    result = reconstruct(tracks, camera, known_distance=(3, 7, metres))
    points = result.structure.points
    assert float((points[3] - points[7]).norm()) == pytest.approx(metres, rel=1e-9)
    scale, _, _ = similarity(points[result.found], truth.points[result.found])
    assert scale == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("metric", [False, True])
def test_covariance_is_that_of_many_draws(metric: bool) -> None:
    tracks, camera, truth = random_tracks(8, 12, sigma=0.0, visible=1.0)
    known = (0, 5, float((truth.points[0] - truth.points[5]).norm())) if metric else None
    generator = torch.Generator().manual_seed(0)
    nees = []
    for _ in range(15):
        noise = 0.5 * torch.randn(tracks.shape, generator=generator, dtype=torch.float64)
        result = reconstruct(tracks + noise, camera, sigma=0.5, known_distance=known)
        assert result.found.all()
        nees.append(aligned_errors(result, truth, metric=metric)[1] / 3.0)
    assert 0.8 < float(torch.stack(nees).mean()) < 1.2


@pytest.mark.parametrize("wrong", [0.9, 1.1])
def test_a_wrong_focal_length_is_told(wrong: float) -> None:
    tracks, camera, _ = random_tracks(8, 30, sigma=0.5, visible=0.4)
    result = reconstruct(tracks, replace(camera, intrinsics=camera.intrinsics * torch.tensor([wrong, wrong, 1.0, 1.0])))
    error, deviation = result.focal_error
    assert result.doubtful_focal_length
    assert error == pytest.approx(-math.log(wrong), abs=3.0 * deviation)


def test_tracks_that_do_not_suffice_are_refused() -> None:
    tracks, camera, _ = random_tracks(6, 20, visible=1.0)
    with pytest.raises(ReconstructionError, match="two views"):
        reconstruct(tracks[:1].expand(6, -1, -1), camera)  # the camera did not move
    with pytest.raises(ReconstructionError, match="two views"):
        reconstruct(tracks[:, :5], camera)
    with pytest.raises(ValueError, match="tracks"):
        reconstruct(tracks[0], camera)
    with pytest.raises(ValueError, match="known_distance"):
        reconstruct(tracks, camera, known_distance=(0, 0, 1.0))
    with pytest.raises(ValueError, match="sigma"):
        reconstruct(tracks, camera, sigma=-1.0)
    unseen = tracks.clone()
    unseen[1:, 4] = torch.nan
    with pytest.raises(ReconstructionError, match="known_distance"):
        reconstruct(unseen, camera, known_distance=(3, 4, 0.1))
