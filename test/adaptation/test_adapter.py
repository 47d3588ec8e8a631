"""The whole way: images in, weights that passed every gate out; and nothing else ever becomes active."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pnp_ros.adaptation.adapter import Adapter
from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.learning.learner import Learner, StepLosses
from pnp_ros.adaptation.status import AdaptationState, FaultCause, Gate
from pnp_ros.adaptation.trials import trial as module
from pnp_ros.adaptation.trials.gates import ANCHOR_AUC, NEES, Measured, OnAnchors
from pnp_ros.adaptation.trials.trial import Candidate
from pnp_ros.adaptation.versions import VersionError, VersionStore
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.calibration import CovarianceCalibration
from pnp_ros.pipeline.models import load_networks
from pnp_ros.types import Pose

Gates = tuple[Gate, ...]

# so small that a check comes after seconds; whether its gates pass is decided by the tests
CONFIG = AdaptationConfig(
    batch=4, capacity=192, min_images=8, min_held_back=4, check_steps=2, anchors=20, max_tries=2, min_gain=0.9
)


@pytest.fixture(autouse=True)
def few_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pnp_ros.adaptation.learning.learner._FIRST_RENDERS", 8)


@pytest.fixture
def store(tmp_path: Path, demo: ObjectPackage) -> VersionStore:
    return VersionStore(tmp_path / "versions", demo)


@pytest.fixture
def adapter(demo: ObjectPackage, store: VersionStore, observe: Callable) -> Adapter:
    made = Adapter(demo, CONFIG, store)
    show(made, observe, 14)
    return made


def show(adapter: Adapter, observe: Callable, count: int, reference: Pose | None = None) -> None:
    for index in range(count):
        adapter.observe(observe(index, reference))
        adapter._examine()


def work_until(adapter: Adapter, state: AdaptationState | None = None, *, gates: bool = False) -> None:
    for _ in range(12):
        adapter.work()
        if adapter.status().state is state or (gates and adapter.status().gates):
            return
    raise AssertionError(adapter.status())


def test_a_focal_error_that_is_told_late_moves_all_images(adapter: Adapter, observe: Callable) -> None:
    before = {each.stamp_ns: each.pose.translation for each in adapter._buffer.learnt}
    assert adapter._intake is not None
    assert adapter.focal_error == 0.0
    adapter._intake._bias._focal.share = 0.01
    assert adapter.focal_error == 0.01
    adapter.observe(observe(0))
    adapter._examine()
    for side in (adapter._buffer.learnt, adapter._buffer.held_back):
        assert {example.focal_error for example in side} == {0.01}
    for example in adapter._buffer.learnt[: len(before)]:
        torch.testing.assert_close(example.pose.translation, 1.01 * before[example.stamp_ns])


class Shadow:
    """Stands in for the learner where only the order of events matters."""

    def __init__(self, *_: object) -> None:
        self.starts = 0

    def start(self, *_: object) -> None:
        self.starts += 1

    def step(self, _: object) -> StepLosses:
        return StepLosses(0.1, 0.1)


class Judge:
    """Stands in for the trials: every check ends as ``passed`` says, after what is to happen ``during`` it."""

    def __init__(self, package: ObjectPackage) -> None:
        self.passed, self.during = True, lambda: None
        self._networks = load_networks(package)

    def run(self, *_: object) -> Candidate:
        self.during()
        gates = (Gate("made up", 1.0, 0.5, 0.6, self.passed),)
        return Candidate(self._networks, CovarianceCalibration(), gates, OnAnchors(0.8, 0.9, 0))

    def adopted(self, *_: object) -> None:
        pass


@pytest.fixture
def judge(demo: ObjectPackage, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Nothing is learnt, and checks end as this says."""
    made = Judge(demo)
    monkeypatch.setattr("pnp_ros.adaptation.adapter.Learner", Shadow)
    monkeypatch.setattr("pnp_ros.adaptation.adapter.Trials", lambda *_: made)
    return made


def test_it_collects_first(demo: ObjectPackage, store: VersionStore, observe: Callable) -> None:
    adapter = Adapter(demo, CONFIG, store)
    assert not adapter.work()
    show(adapter, observe, 3)
    assert not adapter.work()
    status = adapter.status()
    assert (status.state, status.buffered, status.active_version) == (AdaptationState.COLLECTING, 3, 0)


def test_it_trains_and_checks(adapter: Adapter, store: VersionStore) -> None:
    work_until(adapter, gates=True)
    status = adapter.status()
    assert len(status.gates) == 5
    assert status.steps in (0, 2)
    # two steps of a few crops do not make a network ten times better
    assert status.active_version == 0
    assert "not used" in status.reason
    assert store.newest() is None


def test_what_passes_is_stored_and_used(
    adapter: Adapter, store: VersionStore, demo: ObjectPackage, judge: Judge
) -> None:
    work_until(adapter, gates=True)
    version = store.newest()
    assert version is not None
    assert adapter.status().active_version == version.number == 1
    assert adapter.status().candidate_version == 2
    again = Adapter(demo, CONFIG, store)
    assert again.status().active_version == 1, "after a restart the newest good version is used"
    adapter.rollback()
    adapter.work()
    status = adapter.status()
    assert (status.active_version, status.state) == (0, AdaptationState.PAUSED)
    assert store.newest() is None
    assert not adapter.work(), "a rollback pauses"
    adapter.pause(False)
    work_until(adapter, AdaptationState.TRAINING)


def test_a_covariance_that_only_needs_calibration_is_no_reason_to_refuse(
    adapter: Adapter, store: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = CovarianceCalibration(3.0, 0.5)

    def judge(_config: object, _own: object, _active: object, candidate: tuple[Measured, OnAnchors, float]) -> Gates:
        return (Gate("made up", 1.0, 0.5, 0.6, True), Gate(NEES, 5.0, candidate[2], 12.0, candidate[2] <= 12.0))

    monkeypatch.setattr(Measured, "mean_nees", lambda *_: 30.0)
    monkeypatch.setattr(module, "calibrated", lambda *_: (fitted, 6.0))
    monkeypatch.setattr(module, "judge", judge)
    work_until(adapter, gates=True)
    version = store.newest()
    assert version is not None
    assert version.calibration == fitted


def test_what_forgets_too_much_is_held_firmer(adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    gates = (Gate("made up", 1.0, 0.5, 0.6, True), Gate(ANCHOR_AUC, 80.0, 70.0, 79.0, False))
    monkeypatch.setattr(module, "judge", lambda *_: gates)
    monkeypatch.setattr(Learner, "hold_firmer", lambda _: held.append(True))
    work_until(adapter, gates=True)
    assert held == [True], "once a check, however many shares of the way are tried"


@pytest.mark.parametrize("ask", ["rollback", "reset", "pause"])
def test_what_the_user_asks_for_during_a_check_goes_before_its_outcome(
    adapter: Adapter, store: VersionStore, judge: Judge, ask: str
) -> None:
    work_until(adapter, gates=True)
    during: list[int] = []

    def asked() -> None:
        adapter.pause(True) if ask == "pause" else getattr(adapter, ask)()
        during.append(adapter.status().active_version)

    judge.during = asked
    while not during:
        assert adapter.work()
    expected = 1 if ask == "pause" else 0
    assert during[0] == expected  # at once
    adapter.work()
    newest = store.newest()
    assert (newest.number if newest else 0) == adapter.status().active_version == expected
    assert store.next_number() == 2


def test_it_gives_up_until_there_is_something_new(adapter: Adapter, judge: Judge, observe: Callable) -> None:
    judge.passed = False
    for _ in range(40):
        if not adapter.work():
            break
    assert "nothing more is gained" in adapter.status().reason
    assert adapter.status().state is AdaptationState.COLLECTING
    for _ in range(4):
        show(adapter, observe, 14)
    work_until(adapter, AdaptationState.TRAINING)


def test_reset_forgets_all(adapter: Adapter, store: VersionStore, judge: Judge) -> None:
    work_until(adapter, gates=True)
    adapter.reset()
    adapter.work()
    status = adapter.status()
    assert (status.active_version, status.buffered, status.state) == (0, 0, AdaptationState.COLLECTING)
    assert store.newest() is None
    assert store.history()[0]["withdrawn"]


@pytest.mark.parametrize("ask", ["reset", "rollback"])
def test_a_folder_that_was_deleted_keeps_nobody_from_going_back(
    adapter: Adapter, store: VersionStore, judge: Judge, ask: str
) -> None:
    work_until(adapter, gates=True)
    shutil.rmtree(store.folder)
    getattr(adapter, ask)()
    adapter.work()
    assert adapter.status().active_version == 0


def test_wrong_references_reach_nothing(demo: ObjectPackage, store: VersionStore, observe: Callable) -> None:
    adapter = Adapter(demo, CONFIG, store)
    nan = Pose(observe(0).reference.rotation, observe(0).reference.translation * float("nan"))
    show(adapter, observe, 14, nan)
    status = adapter.status()
    assert (status.buffered, status.refused) == (0, 14)
    assert "not finite" in status.reason
    assert adapter.refusals() == {"reference: not finite": 14}


def test_a_bias_is_a_fault_that_ends_with_it(demo: ObjectPackage, store: VersionStore, observe: Callable) -> None:
    adapter = Adapter(demo, CONFIG, store)

    def shown(offset: float) -> None:
        for index in [*range(14), *range(8)]:
            pose = observe(index).reference
            translation = pose.translation.clone()
            translation[2] += offset
            adapter.observe(observe(index, Pose(pose.rotation, translation)))
            adapter._examine()

    shown(0.025)
    status = adapter.status()
    assert (status.state, status.fault) == (AdaptationState.FAULT, FaultCause.REFERENCES)
    assert "too far" in status.reason
    assert status.buffered == 0
    for _ in range(3):
        shown(0.0)
    assert (adapter.status().state, adapter.status().fault) == (AdaptationState.COLLECTING, None)


def test_a_version_that_the_disk_does_not_take_is_a_fault_until_it_does(
    adapter: Adapter, store: VersionStore, judge: Judge, observe: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next good image shows that the references are right, not that there is room on the disk."""
    write = store.write
    full = VersionError("disk: cannot be written: no space left on device")

    def refused(*_: object) -> None:
        raise full

    monkeypatch.setattr(store, "write", refused)
    work_until(adapter, AdaptationState.FAULT)
    assert (adapter.status().fault, adapter.status().reason) == (FaultCause.STORE, str(full))
    show(adapter, observe, 2)
    adapter.observe(observe(3))
    adapter.work()
    assert (adapter.status().state, adapter.status().fault) == (AdaptationState.FAULT, FaultCause.STORE)
    assert store.newest() is None
    monkeypatch.setattr(store, "write", write)
    adapter.observe(observe(4))
    adapter.work()
    status = adapter.status()
    assert (status.active_version, status.fault) == (1, None)
    assert store.newest() is not None
    assert status.state in (AdaptationState.COLLECTING, AdaptationState.TRAINING)


def test_a_check_that_breaks_off_is_not_the_end(adapter: Adapter, judge: Judge) -> None:
    def broken() -> None:
        raise RuntimeError("no graphics")

    judge.during = broken
    with pytest.raises(RuntimeError, match="no graphics"):
        work_until(adapter, gates=True)
    assert adapter.status().state is AdaptationState.TRAINING
    judge.during = lambda: None
    work_until(adapter, gates=True)
    assert adapter.status().active_version == 1


def test_what_could_not_be_stored_is_let_go_when_its_references_prove_wrong(
    adapter: Adapter, store: VersionStore, judge: Judge, observe: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.write

    def refused(*_: object) -> None:
        raise VersionError("no space")

    monkeypatch.setattr(store, "write", refused)
    work_until(adapter, AdaptationState.FAULT)
    for index in [*range(14), *range(14)]:
        pose = observe(index).reference
        adapter.observe(observe(index, Pose(pose.rotation, 1.04 * pose.translation)))
        adapter._examine()
    assert adapter.status().fault is FaultCause.REFERENCES
    monkeypatch.setattr(store, "write", write)
    adapter.observe(observe(0))
    adapter.work()
    assert store.newest() is None


def test_a_fault_survives_a_pause_and_ends_with_a_reset(
    adapter: Adapter, store: VersionStore, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refused(*_: object) -> None:
        raise VersionError("no space")

    monkeypatch.setattr(store, "write", refused)
    work_until(adapter, AdaptationState.FAULT)
    for on, expected in ((True, AdaptationState.PAUSED), (False, AdaptationState.FAULT)):
        adapter.pause(on)
        adapter.work()
        assert adapter.status().state is expected
    assert adapter.reset().lasting
    adapter.work()
    status = adapter.status()
    assert (status.state, status.fault, status.buffered) == (AdaptationState.COLLECTING, None, 0)
    assert status.reason.startswith("reset")


def test_all_images_that_wait_are_examined(demo: ObjectPackage, store: VersionStore, observe: Callable) -> None:
    adapter = Adapter(demo, CONFIG, store)
    for index in range(14):
        adapter.observe(observe(index))
    adapter.work()
    assert adapter.status().buffered + adapter.status().refused == 14
