"""Images of a camera that is another one: in a few minutes the network gets better at them, and forgets nothing."""

from pathlib import Path

import pytest
import torch

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.offline import Budget, adapt
from pnp_ros.adaptation.references.reference import KnownReference
from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.evaluator import evaluate_one
from pnp_ros.evaluation.frames import Frame
from pnp_ros.evaluation.report import measure
from pnp_ros.evaluation.told import running
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.rendering.domain_shift import ShiftedScene, strong_shift
from pnp_ros.rendering.simulation import SimulationConfig


def frames(package: ObjectPackage, camera: Camera, seed: int, count: int) -> list[Frame]:
    """Two images a second."""
    scene = ShiftedScene(package.mesh, camera, strong_shift(2), SimulationConfig(seed=seed))
    made = [scene.frame(index, 2.0) for index in range(count)]
    truths = [() if frame.pose is None else (frame.pose,) for frame in made]
    return [Frame(i, 500_000_000 * i, frame.rgb, camera, truths=truths[i]) for i, frame in enumerate(made)]


def recall(package: ObjectPackage, seen: list[Frame], align: bool) -> float:
    """Share of the images of the object with a valid pose within 10 % of the diameter."""
    done = evaluate_one(seen, package, running(PoseEstimator(package, EstimatorConfig(align=align))))
    return float(measure(done.records, package)[0]["accuracy"]["recall_10_percent"])


@pytest.mark.slow
def test_lost_recall_is_regained(demo: ObjectPackage, camera: Camera, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    store = VersionStore(tmp_path, demo)
    learnt, others = frames(demo, camera, 202, 330), frames(demo, camera, 302, 80)
    result = adapt(
        lambda: iter(learnt),
        demo,
        store,
        AdaptationConfig(),
        KnownReference(lambda frame: frame.truths[0] if frame.truths else None),
        budget=Budget(steps=201, epochs=2),
    )
    assert result.promoted
    newest = store.newest()
    assert newest is not None
    adapted = newest.applied_to(demo)
    # by the network alone 44 % before, 72 % after; alignment takes both to 68 %, where its verdict is the limit
    assert recall(adapted, others, align=False) > recall(demo, others, align=False) + 0.08
    assert recall(adapted, others, align=True) > recall(demo, others, align=True) - 0.05
    gates = {gate.name: gate for status in result.history if (gates := status.status.gates) for gate in gates}
    assert gates["false poses on anchors"].candidate == 0.0
    for number in result.promoted:
        stored = {gate["name"]: gate for gate in store.history()[number - 1]["record"]["gates"]}
        assert all(gate["passed"] for gate in stored.values())
        assert stored["anchor AUC, %"]["candidate"] >= stored["anchor AUC, %"]["bound"]
