import math
from collections.abc import Callable, Sequence

import pytest
import torch

from pnp_ros.filtering.pose_filter import FilterConfig, Outcome, PoseFilter
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.types import Pose, PoseEstimate

RATE, LATENCY = 30.0, 0.1
SIGMA = torch.tensor([0.001, 0.001, 0.003, 0.01, 0.01, 0.01], dtype=torch.float64)
SHARED = 0.5


def _vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def still(_: float) -> Pose:
    return Pose(torch.eye(3, dtype=torch.float64), _vector(0.0, 0.0, 1.0))


def steady(stamp: float) -> Pose:
    """0.3 m/s and 1 rad/s."""
    return Pose(so3.exp(_vector(0.0, stamp, 0.0)), _vector(0.3 * stamp - 0.5, 0.0, 1.0))


def swinging(stamp: float) -> Pose:
    """As in a hand."""
    turn = _vector(0.5 * math.sin(3 * stamp), 0.4 * math.sin(2 * stamp), 0.0)
    return Pose(so3.exp(turn), _vector(0.1 * math.sin(3 * stamp), 0.05 * math.cos(4 * stamp), 1.0))


class Seen:
    """Poses of an object, measured with errors of which a part is common to all."""

    def __init__(
        self, path: Callable[[float], Pose], seed: int = 0, dropped: float = 0.0, seconds: float = 3.0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        noise = SIGMA * torch.randn(int(RATE * seconds) + 1, 6, generator=generator, dtype=torch.float64)
        keep = torch.rand(len(noise), generator=generator) >= dropped
        self.path, self.common = path, math.sqrt(SHARED) * noise[0]
        own = math.sqrt(1.0 - SHARED) * noise[1:]
        stamps = [k / RATE for k in range(len(own)) if keep[k]]
        self.poses = [(t, se3.retract(path(t), self.common + own[round(t * RATE)])) for t in stamps]


def _estimate(pose: Pose) -> PoseEstimate:
    return PoseEstimate.of(pose, torch.diag(SIGMA**2))


def _rms(errors: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(errors).square().mean(0).sqrt()


def test_a_still_object_jitters_much_less() -> None:
    ratios = []
    for seed in range(2):
        seen, told, raw = Seen(still, seed), PoseFilter(FilterConfig(shared=SHARED)), []
        filtered = []
        for stamp, pose in seen.poses:
            assert told.update(_estimate(pose), stamp) in (Outcome.STARTED, Outcome.ACCEPTED)
            if stamp > 1.0:
                raw.append(se3.local(still(0.0), pose))
                filtered.append(se3.local(still(0.0), told.predict(stamp).pose))
        ratios.append(torch.stack(filtered).std(0) / torch.stack(raw).std(0))
    assert float(torch.stack(ratios).mean()) < 0.4


def _before_a_moving_camera(
    k: int, common: torch.Tensor, own: torch.Tensor, shared: float = SHARED
) -> tuple[PoseEstimate, torch.Tensor]:
    """A still object in the world as image k tells it, and by how much each of six causes moves that."""
    angle, moves = 1.2 * math.sin(k / 40.0), math.sqrt(shared) * torch.diag(SIGMA)
    eye = 0.8 * _vector(math.cos(angle), math.sin(angle), 0.6)
    camera = se3.look_at(eye, _vector(0.0, 0.0, 0.0), _vector(0.0, 0.0, 1.0)).inverse()
    off = moves @ common + math.sqrt(1.0 - shared) * SIGMA * own
    seen = PoseEstimate.of(se3.retract(camera.inverse() @ still(0.0), off), torch.diag(SIGMA**2))
    return covariance.in_frame(camera, seen), covariance.turned(moves, camera.rotation)


def _off_before_a_moving_camera(
    common: torch.Tensor, errors: Sequence[torch.Tensor], squares: list[torch.Tensor], shared: float = SHARED
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """By what single and filtered poses of a still body are off, from the 45th on; NEES of these go to ``squares``."""
    motion, raw, filtered = PoseFilter(), [], []
    for k, error in enumerate(errors):
        seen, moves = _before_a_moving_camera(k, common, error, shared)
        assert motion.update(seen, k / RATE, moves) in (Outcome.STARTED, Outcome.ACCEPTED)
        if k >= 45:
            told = motion.predict(k / RATE)
            raw.append(se3.local(still(0.0), seen.pose))
            filtered.append(se3.local(still(0.0), told.pose))
            squares.append(covariance.nees(filtered[-1], told.covariance))
    return raw, filtered


def test_what_all_images_have_wrong_is_learnt_while_the_camera_moves() -> None:
    squares = []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        common = 1.5 * torch.randn(6, generator=generator, dtype=torch.float64)
        own = [torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(150)]
        raw, filtered = _off_before_a_moving_camera(common, own, squares)
        for part in (slice(3), slice(3, 6)):
            spread = [float(torch.stack(each)[:, part].std(0).norm()) for each in (filtered, raw)]
            assert spread[0] < spread[1] / 3.0
            assert float(_rms(filtered)[part].norm()) < float(_rms(raw)[part].norm())  # about the orbit's axis it stays
    assert float(torch.stack(squares).mean()) < 12.0


def test_what_changes_with_the_view_is_not_taken_for_motion() -> None:
    """Most of what is of no cause lasts for about half a second: still the body stands still."""
    ratios, squares = [], []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        common, draws = torch.randn(6, generator=generator), torch.randn(150, 2, 6, generator=generator).double()
        lasts, keep = draws[0, 0], math.exp(-1.0 / (0.5 * RATE))
        errors = []
        for new, own in draws:
            lasts = keep * lasts + math.sqrt(1.0 - keep**2) * new
            errors.append(math.sqrt(0.9) * lasts + math.sqrt(0.1) * own)
        raw, filtered = _off_before_a_moving_camera(common.double(), errors, squares)
        spreads = torch.stack([torch.stack(each).std(0).reshape(2, 3).norm(dim=-1) for each in (filtered, raw)])
        ratios.append(spreads[0] / spreads[1])
    assert float(torch.stack(ratios).mean(0).max()) < 0.45  # 0.8 where each image counts as a new one
    assert float(torch.stack(squares).mean()) < 12.0


def test_causes_that_do_not_quite_what_is_told_are_learnt_all_the_same() -> None:
    """What they do is told to first order: by up to 0.3 more or less, as the view changes. Most error is theirs."""
    ratios, squares, shared = [], [], 0.97
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        common = 1.5 * torch.randn(6, generator=generator, dtype=torch.float64)
        phases = 2.0 * math.pi * torch.rand(6, generator=generator, dtype=torch.float64)
        errors = []
        for k in range(150):
            bent = 0.3 * torch.sin(2.4 * math.sin(k / 40.0) + phases) * math.sqrt(shared) * common
            own = 0.05 * torch.randn(6, generator=generator, dtype=torch.float64)
            errors.append((bent + own) / math.sqrt(1.0 - shared))
        raw, filtered = _off_before_a_moving_camera(common, errors, squares, shared)
        spreads = torch.stack([torch.stack(each).std(0).reshape(2, 3).norm(dim=-1) for each in (filtered, raw)])
        ratios.append(spreads[0] / spreads[1])
    assert float(torch.stack(ratios).mean(0).max()) < 0.22  # 0.25, and NEES 15, where what is told is taken for exact
    assert float(torch.stack(squares).mean()) < 12.0


def test_a_pose_without_its_causes_counts_and_another_cameras_begin_anew() -> None:
    """The first image tells none, a later one again none; late ones with causes are told again in order."""
    nothing = torch.zeros(6, dtype=torch.float64)
    told = [_before_a_moving_camera(k, nothing, nothing) for k in range(20)]
    in_order, late = PoseFilter(), PoseFilter()
    for k in range(20):
        common = None if k in (0, 7) else told[k][1]
        assert in_order.update(told[k][0], k / RATE, common) in (Outcome.STARTED, Outcome.ACCEPTED)
    for k in (0, 1, 2, 4, 3, 5, 6, 8, 7, *range(9, 20)):
        assert late.update(told[k][0], k / RATE, None if k in (0, 7) else told[k][1]) is not Outcome.REJECTED
    a, b = in_order.predict(0.65), late.predict(0.65)
    assert torch.allclose(a.pose.matrix(), b.pose.matrix(), atol=1e-9)
    assert torch.allclose(a.covariance, b.covariance, rtol=1e-6, atol=1e-12)
    assert in_order.update(told[0][0], 20 / RATE, told[0][1][:, :4]) is Outcome.STARTED
    too_much = 2.0 * torch.diag(SIGMA)  # the causes alone would be more than all of the covariance
    assert in_order.update(told[0][0], 21 / RATE, too_much) is Outcome.UNFIT


@pytest.mark.parametrize(("path", "dropped"), [(steady, 0.0), (swinging, 0.2)])
def test_the_pose_told_for_now_is_near_and_honest(path: Callable[[float], Pose], dropped: float) -> None:
    """An image is 0.1 s old when its pose is known: the filter makes up for it, and knows how well."""
    raw, filtered, squares = [], [], []
    for seed in range(2):
        seen, told = Seen(path, seed, dropped), PoseFilter(FilterConfig(shared=SHARED))
        for stamp, pose in seen.poses:
            assert told.update(_estimate(pose), stamp) in (Outcome.STARTED, Outcome.ACCEPTED)
            if stamp > 1.0:
                now, expected = path(stamp + LATENCY), told.predict(stamp + LATENCY)
                raw.append(se3.local(now, pose))
                filtered.append(se3.local(now, expected.pose))
                squares.append(covariance.nees(filtered[-1], expected.covariance))
    if path is steady:  # of a swing nobody knows the acceleration
        assert float(_rms(filtered)[0] / _rms(raw)[0]) < 0.1
        assert float(_rms(filtered)[4] / _rms(raw)[4]) < 0.2
    else:
        assert float(_rms(filtered).norm() / _rms(raw).norm()) < 0.6
    assert 3.0 < float(torch.stack(squares).mean()) < 12.0


def test_velocity_is_told_with_its_covariance() -> None:
    squares = []
    for seed in range(4):
        told = PoseFilter(FilterConfig(shared=SHARED))
        for stamp, pose in Seen(steady, seed, seconds=1.2).poses:
            told.update(_estimate(pose), stamp)
        known = told.predict(stamp)
        squares.append(covariance.nees(known.velocity - _vector(0.3, 0, 0, 0, 1.0, 0), known.velocity_covariance))
    assert 0.3 < float(torch.stack(squares).mean()) < 12.0  # wide: it might have begun to turn


def test_late_measurements_count_as_if_they_had_come_in_time() -> None:
    poses = Seen(swinging, seconds=1.5).poses
    in_order, late = PoseFilter(), PoseFilter()
    for stamp, pose in poses:
        in_order.update(_estimate(pose), stamp)
    shuffled = [*poses[:30], poses[31], poses[33], poses[30], poses[32], *poses[34:]]
    for stamp, pose in shuffled:
        assert late.update(_estimate(pose), stamp) in (Outcome.STARTED, Outcome.ACCEPTED)
    a, b = in_order.predict(1.6), late.predict(1.6)
    assert torch.allclose(a.pose.matrix(), b.pose.matrix(), atol=1e-9)
    assert torch.allclose(a.covariance, b.covariance, rtol=1e-6, atol=1e-12)
    assert late.update(_estimate(poses[5][1]), poses[5][0]) is Outcome.LATE


def test_a_time_that_jumps_back_begins_anew() -> None:
    motion, pose = PoseFilter(), Pose.from_rvec([0.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    for k in range(300):
        motion.update(_estimate(pose), k / RATE)
    outcomes = [motion.update(_estimate(pose), k / RATE) for k in range(5)]
    assert outcomes == [Outcome.LATE, Outcome.STARTED, *3 * [Outcome.ACCEPTED]]
    assert motion.predict(5 / RATE) is not None


@pytest.mark.parametrize("late", ["all of them by up to", "half of them by"])
def test_images_that_are_late_or_missing_make_no_jump(late: str) -> None:
    """A fifth is lost, others come 0.1 s late and out of order: what is told for now goes on evenly."""
    share = torch.rand(200, generator=torch.Generator().manual_seed(2))
    delays = LATENCY * (share if late.startswith("all") else share.round())
    arrivals = [(t + float(delays[k]), t, pose) for k, (t, pose) in enumerate(Seen(steady, 3, 0.2).poses)]
    told, errors = PoseFilter(FilterConfig(shared=SHARED)), []
    arrivals.sort(key=lambda arrival: arrival[0])
    for now, stamp, pose in arrivals:
        outcome = told.update(_estimate(pose), stamp)
        assert outcome in (Outcome.STARTED, Outcome.ACCEPTED) or stamp < arrivals[0][1]  # older than all that is known
        if now > 1.0:
            errors.append(se3.local(steady(now), told.predict(now).pose) / SIGMA)
    steps = torch.stack(errors).diff(dim=0)
    assert float(steps.abs().max()) < 1.5  # standard deviations of a single pose; those differ by up to 4
    assert float(torch.stack(errors).abs().max()) < 3.5


def test_a_gap_is_bridged_with_growing_doubt_and_ends() -> None:
    squares: dict[float, list[float]] = {0.1: [], 0.3: [], 0.49: []}
    for seed in range(4):
        told, spread = PoseFilter(), []
        for stamp, pose in Seen(steady, seed, seconds=1.0).poses:
            told.update(_estimate(pose), stamp)
        for wait, found in squares.items():
            known = told.predict(stamp + wait)
            found.append(float(covariance.nees(se3.local(steady(stamp + wait), known.pose), known.covariance)))
            assert known.age == pytest.approx(wait)
            spread.append(float(known.covariance[0, 0].sqrt()))
        assert spread[0] < spread[1] < spread[2]
        assert told.predict(stamp + 0.6) is None
    assert max(max(found) for found in squares.values()) < 22.5  # one right pose of a thousand is farther off


def test_a_wrong_pose_is_refused_and_a_new_place_is_believed_after_a_while() -> None:
    told = PoseFilter()
    for stamp, pose in Seen(still, seconds=1.0).poses:
        told.update(_estimate(pose), stamp)
    away = se3.retract(still(0.0), _vector(0.3, 0.0, 0.0, 2.0, 0.0, 0.0))
    assert told.update(_estimate(away), stamp + 1 / RATE) is Outcome.REJECTED
    assert float(told.predict(stamp + 1 / RATE).pose.translation[0]) == pytest.approx(0.0, abs=0.005)
    assert told.update(_estimate(still(0.0)), stamp + 2 / RATE) is Outcome.ACCEPTED
    outcomes = [told.update(_estimate(away), stamp + k / RATE) for k in range(3, 22)]
    assert outcomes[0] is Outcome.REJECTED
    assert float(told.predict(stamp + 21 / RATE).pose.translation[0]) == pytest.approx(0.3, abs=0.005)


def test_what_is_not_a_measurement_changes_nothing() -> None:
    told = PoseFilter()
    assert told.predict(0.0) is None
    nan = Pose(still(0.0).rotation, _vector(math.nan, 0.0, 1.0))
    assert told.update(PoseEstimate.of(nan, torch.diag(SIGMA**2)), 0.0) is Outcome.UNFIT
    assert told.update(PoseEstimate.of(still(0.0), -torch.eye(6).double()), 0.0) is Outcome.UNFIT
    assert told.update(_estimate(still(0.0)), math.nan) is Outcome.UNFIT
    assert told.predict(0.0) is None


def test_settings_name_their_field() -> None:
    with pytest.raises(ValueError, match="agile: expected more than quiet"):
        FilterConfig(quiet=1.0, agile=0.5)
    with pytest.raises(ValueError, match="shared"):
        FilterConfig(shared=1.5)


@pytest.mark.parametrize("path", [swinging, still, steady])
def test_a_gap_claims_no_more_than_is_known(path: Callable[[float], Pose]) -> None:
    """Half a second ahead, from any image on; a swing goes on to speed up and slow down meanwhile."""
    squares = []
    for seed in range(2):
        seen, told = Seen(path, seed), PoseFilter()
        for stamp, pose in seen.poses:
            told.update(_estimate(pose), stamp)
            if stamp > 1.0:
                ahead = told.predict(stamp + 0.499)
                squares.append(float(covariance.nees(se3.local(path(ahead.stamp), ahead.pose), ahead.covariance)))
    inside = sum(square < 10.645 for square in squares) / len(squares)
    assert inside > 0.9
    assert sum(squares) / len(squares) < 6.0


def test_what_rests_may_be_touched_while_it_is_hidden() -> None:
    seen, told = Seen(still), PoseFilter()
    for stamp, pose in seen.poses:
        told.update(_estimate(pose), stamp)
    last = seen.poses[-1][0]
    soon, late = (told.predict(last + ahead).covariance.diagonal()[:3].sum().sqrt() for ahead in (0.03, 0.49))
    assert soon < 0.004  # metres: what a single pose has wrong in all images
    assert 0.01 < late < 0.05
