"""Small networks that know nothing, and gates that let everything pass: what is tested is the way, not the gain."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.learning import learner
from pnp_ros.adaptation.offline import AdaptationResult, Budget, Progress, adapt
from pnp_ros.adaptation.references.reference import KnownReference
from pnp_ros.adaptation.references.self_supervision import SelfReference
from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.frames import Frame
from pnp_ros.io.checkpoints import read_tensors
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.simulation import SimulatedScene

pytest.importorskip("moderngl")
torch.set_num_threads(1)
CAMERA = Camera.pinhole(300.0, 300.0, 160.0, 120.0, 320, 240)
CONFIG = AdaptationConfig(
    batch=4,
    capacity=16,
    min_images=8,
    held_back=8,
    min_held_back=4,
    check_steps=3,
    anchors=20,
    min_gain=0.0,
    min_overlap=0.0,
    self_overlap=0.0,
    max_disagreement=10.0,
    max_depth_disagreement=10.0,
    max_turn_disagreement=4.0,
    max_bias=10.0,
    max_depth_bias=10.0,
    max_turn_bias=4.0,
    max_delay=10.0,
    max_nees=1e9,
)
RATE = 4.0


@pytest.fixture(scope="module")
def package(untrained_package: Callable[..., ObjectPackage], tmp_path_factory: pytest.TempPathFactory) -> ObjectPackage:
    """The demo's object, with networks that know nothing."""
    return untrained_package(tmp_path_factory.mktemp("objects") / "boat", "boat", demo_mesh())


@pytest.fixture(scope="module")
def frames(package: ObjectPackage) -> list[Frame]:
    """Fourteen seconds; the object is there all the time."""
    scene, made = SimulatedScene(package.mesh, CAMERA), []
    for i in range(56):
        shown = scene.frame(i, RATE)
        assert shown.pose is not None
        made.append(Frame(i, round(i * 1e9 / RATE), shown.rgb, CAMERA, truths=(shown.pose,)))
    return made


def _truth(frame: Frame) -> Any:
    assert frame.truths is not None
    return frame.truths[0]


Adapt = Callable[..., tuple[AdaptationResult, VersionStore]]


@pytest.fixture(scope="module")
def adapted(package: ObjectPackage, frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapt]:
    """Adapts into a folder of its own, or into that of a former run; few renders do where nothing is gained."""

    def run(
        config: AdaptationConfig = CONFIG, store: VersionStore | None = None, **settings: Any
    ) -> tuple[AdaptationResult, VersionStore]:
        store = store or VersionStore(tmp_path_factory.mktemp("versions"), package)
        settings = {"reference": KnownReference(_truth), "frames": lambda: frames} | settings
        return adapt(package=package, store=store, config=config, **settings), store

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "_FIRST_RENDERS", 8)
        yield run


@pytest.fixture(scope="module")
def once(adapted: Adapt) -> tuple[AdaptationResult, VersionStore]:
    """A run that promotes two versions."""
    return adapted(budget=Budget(steps=7))


def test_same_images_and_seed_give_the_same_weights_byte_for_byte(
    adapted: Adapt, once: tuple[AdaptationResult, VersionStore]
) -> None:
    (one, store), (two, other) = once, adapted(budget=Budget(steps=7))
    assert one.promoted == two.promoted == (1, 2)
    for number in one.promoted:
        first, second = store.get(number), other.get(number)
        assert first.path.read_bytes() == second.path.read_bytes()
        assert first.calibration == second.calibration
    assert [entry.to_plain() for entry in one.history] == [entry.to_plain() for entry in two.history]


def test_another_seed_gives_other_weights(adapted: Adapt, once: tuple[AdaptationResult, VersionStore]) -> None:
    result, store = adapted(dataclasses.replace(CONFIG, seed=1), budget=Budget(steps=4))
    assert result.promoted == (1,)
    assert store.get(1).sha256 != once[1].get(1).sha256


def test_history_tells_every_step_of_the_way(
    once: tuple[AdaptationResult, VersionStore], package: ObjectPackage
) -> None:
    result, store = once
    assert result.steps == 7
    assert result.active_version == 2
    versions = [entry.status.active_version for entry in result.history]
    assert versions == sorted(versions)
    assert set(versions) == {0, 1, 2}
    plain = [json.loads(json.dumps(entry.to_plain(), allow_nan=False)) for entry in result.history]
    assert {entry["state"] for entry in plain} == {"COLLECTING", "TRAINING"}
    assert plain[0]["correspondence_loss"] is None  # NaN before the first step
    assert plain[-1]["correspondence_loss"] > 0.0
    assert [gate["passed"] for gate in plain[-1]["gates"]] == [True] * len(plain[-1]["gates"])
    weights = read_tensors(store.get(2).path)
    own = read_tensors(package.weights_path)  # type: ignore[arg-type]
    assert any(not torch.equal(weights[name], own[name]) for name in own)


def test_it_goes_on_from_the_newest_version_which_the_estimator_uses(
    adapted: Adapt, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []
    use = PoseEstimator.use
    monkeypatch.setattr(PoseEstimator, "use", lambda self, models: (used.append((self, models)), use(self, models))[1])
    noted: list[Progress] = []
    _, store = adapted(budget=Budget(steps=4))
    result, _ = adapted(store=store, budget=Budget(steps=4), on_progress=noted.append)
    assert tuple(noted) == result.history
    assert noted[0].status.active_version == 1
    assert result.promoted == (2,)
    assert [entry["number"] for entry in store.history()] == [1, 2]
    robots = {id(estimator): estimator for estimator, _ in used if estimator.config.track}
    assert len(robots) == 2  # one a run; the other estimators check
    for robot in robots.values():
        assert sum(estimator is robot for estimator, _ in used) == 2  # at the start, and after the promotion


def test_epochs_repeat_the_images_until_nothing_is_learnt(adapted: Adapt, frames: list[Frame]) -> None:
    result, _ = adapted(frames=lambda: frames[:6], budget=Budget(steps=100))
    assert (result.steps, result.images, result.promoted) == (0, 6, ())
    result, _ = adapted(frames=lambda: frames[20:36], budget=Budget(steps=3))
    assert result.steps == 3
    assert 16 < result.images < 32
    assert result.history[-1].epoch == 1
    result, _ = adapted(frames=lambda: frames[20:36])
    assert result.images == 16


def test_images_without_a_reference_are_not_shown(adapted: Adapt, frames: list[Frame]) -> None:
    result, _ = adapted(reference=KnownReference(lambda frame: None))
    assert (result.steps, result.refusals, result.images) == (0, {}, len(frames))


def test_refusals_are_counted_by_reason(adapted: Adapt, frames: list[Frame]) -> None:
    flat = [dataclasses.replace(frame, rgb=np.full_like(frame.rgb, 90)) for frame in frames[:5]]
    result, _ = adapted(frames=lambda: flat)
    assert result.refusals == {"the image shows nothing": 5}


def test_self_supervision_learns_from_confirmed_poses(
    adapted: Adapt, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimator is given the truth in place of what its networks do not know yet."""
    truths = {frame.rgb.tobytes(): _truth(frame) for frame in frames}
    estimate = PoseEstimator.estimate

    def knowing(self: PoseEstimator, image: np.ndarray, *rest: Any) -> Any:
        found = estimate(self, image, *rest)
        if image.tobytes() not in truths:
            return found
        solved = dataclasses.replace(_solved(found, self), pose=truths[image.tobytes()])
        return dataclasses.replace(found, state=ObjectState.VALID, estimate=solved)

    monkeypatch.setattr(PoseEstimator, "estimate", knowing)
    result, _ = adapted(reference=SelfReference(), budget=Budget(steps=4))
    assert result.steps == 4
    assert result.promoted == (1,)


def _solved(found: Any, estimator: PoseEstimator) -> Any:
    from pnp_ros.types import Pose, PoseEstimate

    if found.estimate is not None:
        return found.estimate
    pose, number = Pose(torch.eye(3), torch.zeros(3)), len(estimator.package.keypoints)
    return PoseEstimate(pose, torch.eye(6), torch.ones(number), torch.zeros(()), torch.zeros((), dtype=torch.int8))


def test_no_image_is_said(adapted: Adapt) -> None:
    def nothing() -> Iterator[Frame]:
        yield from ()

    with pytest.raises(ValueError, match="no image"):
        adapted(frames=nothing)


@pytest.mark.parametrize("field", ["steps", "minutes", "epochs"])
def test_wrong_budget_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Budget(**{field: 0})
