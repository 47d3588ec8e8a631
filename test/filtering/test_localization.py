"""Several views of a still object: what they gain over one, and that the covariance says so."""

import dataclasses
import math

import pytest
import torch

from pnp_ros.filtering.localization import View, Views, localize
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.types import Pose, PoseEstimate

SIGMAS = torch.tensor([0.001, 0.001, 0.006, 0.02, 0.02, 0.005], dtype=torch.float64)  # depth is told worst
OBJECT = Pose(so3.exp(torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64)), torch.tensor([0.4, 0.1, 0.2]).double())


def _view(angle_deg: float, error: torch.Tensor) -> View:
    """From a place on a circle about the object, with an error in the camera's axes."""
    angle = math.radians(angle_deg)
    eye = OBJECT.translation + 0.6 * torch.tensor([math.cos(angle), math.sin(angle), 0.6], dtype=torch.float64)
    T_camera_fixed = se3.look_at(eye, OBJECT.translation, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    seen = se3.retract(T_camera_fixed @ OBJECT, error)
    return View(T_camera_fixed.inverse(), PoseEstimate.of(seen, torch.diag(SIGMAS**2)))


def _views(count: int, generator: torch.Generator, shared: float = 0.5, arc: float = 100.0) -> list[View]:
    draw = torch.randn(count + 1, 6, generator=generator, dtype=torch.float64) * SIGMAS
    errors = math.sqrt(shared) * draw[0] + math.sqrt(1.0 - shared) * draw[1:]
    return [_view(arc * k / max(1, count - 1), error) for k, error in enumerate(errors)]


def test_five_views_against_one() -> None:
    """The error falls, and the covariance is that of the errors, though half of the variance is common to all."""
    generator = torch.Generator().manual_seed(3)
    errors, nees = {}, {}
    for count in (1, 5):
        deltas, values = [], []
        for _ in range(16):
            told = localize(_views(count, generator)).estimate
            assert told is not None
            deltas.append(se3.local(OBJECT, told.pose))
            values.append(covariance.nees(deltas[-1], told.covariance))
        errors[count] = torch.stack(deltas)[:, :3].square().sum(-1).mean().sqrt()
        nees[count] = torch.stack(values).mean()
    assert errors[5] < 0.5 * errors[1]
    assert 4.0 < nees[1] < 8.5
    assert 4.0 < nees[5] < 8.5


def _told_views(count: int, generator: torch.Generator, arc: float = 100.0) -> list[View]:
    """Views that tell by what they err alike: a focal length (depth, in the camera) and a mesh (a shift of its own)."""
    focal, mesh = torch.randn(2, generator=generator, dtype=torch.float64)
    own = 0.1 * SIGMAS
    views = []
    for k in range(count):
        place = _view(arc * k / max(1, count - 1), torch.zeros(6, dtype=torch.float64))
        moves = torch.zeros(6, 2, dtype=torch.float64)
        moves[2, 0] = 0.006
        moves[:3, 1] = place.estimate.pose.rotation @ torch.tensor([0.0, 0.002, 0.001], dtype=torch.float64)
        error = moves @ torch.stack([focal, mesh]) + own * torch.randn(6, generator=generator, dtype=torch.float64)
        spread = moves @ moves.T + torch.diag(own**2)
        seen = PoseEstimate.of(se3.retract(place.estimate.pose, error), spread)
        views.append(View(place.camera, seen, systematic=moves))
    return views


def test_what_views_err_by_alike_is_counted_as_it_adds_up() -> None:
    """The camera's part is found out from several sides, the mesh's turns with it and stays."""
    generator, squares = torch.Generator().manual_seed(4), []
    for _ in range(24):
        told = localize(_told_views(5, generator)).estimate
        assert told is not None
        squares.append(covariance.nees(se3.local(OBJECT, told.pose), told.covariance))
    assert 4.5 < torch.stack(squares).mean() < 8.0
    mesh = (OBJECT.rotation @ torch.tensor([0.0, 0.002, 0.001], dtype=torch.float64)).square()
    left = told.covariance.diagonal()[:3]
    assert (left > 0.9 * mesh).all()
    assert left.sum() < mesh.sum() + 0.001**2
    narrow = localize(_told_views(5, generator, arc=0.5)).estimate  # from one side nothing is found out
    assert narrow is not None
    assert narrow.covariance.diagonal()[:3].sum() > 0.8 * (0.006**2 + mesh.sum())


def test_views_from_one_side_do_not_average_what_they_share() -> None:
    generator = torch.Generator().manual_seed(0)
    narrow, wide = (localize(_views(5, generator, arc=arc)).estimate for arc in (1.0, 120.0))
    assert narrow is not None
    assert wide is not None
    assert narrow.covariance[2, 2] > 0.0
    trace = [float(each.covariance[:3, :3].diagonal().sum()) for each in (narrow, wide)]
    assert trace[0] > 0.5 * float((SIGMAS[:3] ** 2).sum())
    assert trace[1] < 0.5 * trace[0]


def test_one_view_says_what_it_says() -> None:
    view = _view(20.0, torch.zeros(6, dtype=torch.float64))
    told = localize([view])
    assert told.estimate is not None
    torch.testing.assert_close(told.estimate.pose.matrix(), OBJECT.matrix())
    torch.testing.assert_close(told.estimate.covariance, covariance.in_frame(view.camera, view.estimate).covariance)


@pytest.mark.parametrize("count", [3, 5])
def test_a_view_that_contradicts_the_others_is_left_out(count: int) -> None:
    views = _views(count, torch.Generator().manual_seed(1))
    off = SIGMAS * torch.tensor([20.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    wrong = View(views[1].camera, PoseEstimate.of(se3.retract(views[1].estimate.pose, off), torch.diag(SIGMAS**2)))
    told = localize([views[0], wrong, *views[2:]])
    assert told.refused == (1,)
    assert told.estimate is not None
    assert float((told.estimate.pose.translation - OBJECT.translation).norm()) < 0.01
    pair = localize([views[0], wrong])
    assert pair.estimate is None
    assert pair.used == (0, 1)


def test_the_distance_of_a_view_is_the_one_from_the_others_alone() -> None:
    """With nothing shared, it is the Mahalanobis distance from the pose that the other views make."""
    views = _views(4, torch.Generator().manual_seed(5), shared=0.0)
    told = localize(views, shared=0.0)
    rest = localize(views[:3], shared=0.0).estimate
    assert rest is not None
    last = covariance.in_frame(views[3].camera, views[3].estimate)
    apart = covariance.nees(se3.local(rest.pose, last.pose), rest.covariance + last.covariance)
    assert told.distances[3] == pytest.approx(float(apart), rel=0.05)


def test_views_differ() -> None:
    views, still = Views(apart_deg=5.0), torch.zeros(6, dtype=torch.float64)
    assert views.offer(_view(0.0, still)) == ""
    assert "move on" in views.offer(_view(2.0, still))
    assert views.offer(_view(10.0, still)) == ""
    assert "move on" in views.offer(_view(8.0, still))
    assert len(views.taken) == 2


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match="views"):
        localize([])
    with pytest.raises(ValueError, match="shared"):
        localize([_view(0.0, torch.zeros(6, dtype=torch.float64))], shared=1.0)
    one, other = _told_views(2, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="systematic"):
        localize([one, dataclasses.replace(other, systematic=torch.zeros(6, 3))])
