"""Fine-tuning under a domain shift: recall before and after, losses side by side, and runs that must teach nothing.

Run as ``python test/benchmark/bench_adaptation.py --seeds 0 1 2 --objectives bpnp correspondence epropnp``, which takes
an hour; without arguments it is one seed with BPnP. ``--skip-adversarial`` leaves out the last table. The demo's object
moves before a camera with another exposure, blur, colour cast and noise, whose calibration is slightly wrong, and its
surface is worn; the reference is the true pose. Simulation, estimator, examination, training and check take turns on
``--threads``. Recall (valid pose within 10 % of the diameter) is measured on another path of the object, with the
estimator tracking, by the networks alone: they are what learns. *Regained* is a share of all that was lost; *reachable*
the recall where the calibration alone is wrong, which is not learnt away: what is learnt is the pose that the image
shows with it. ``--aligned`` measures the whole estimator, too. What is done already is read from
``out/bench/adaptation.json``, unless ``--anew``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.offline import AdaptationResult, Budget, adapt
from pnp_ros.adaptation.references.reference import KnownReference
from pnp_ros.adaptation.trials.anchors import Anchors
from pnp_ros.adaptation.trials.gates import Examiner
from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.evaluator import evaluate_one
from pnp_ros.evaluation.frames import Frame
from pnp_ros.evaluation.report import measure
from pnp_ros.evaluation.told import running
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import load_models
from pnp_ros.rendering.domain_shift import DomainShift, ShiftedScene, strong_shift
from pnp_ros.rendering.simulation import SimulationConfig
from pnp_ros.types import Pose

OUT = Path("out/bench")
CAMERA = Camera.pinhole(600.0, 600.0, 320.0, 240.0, 640, 480)
CPU = torch.device("cpu")
TEST_RATE = 3.0
NETWORKS_ALONE = EstimatorConfig(sources=("keypoints",), align=False)
VISIBLE = 0.3  # share of the object that must be seen for a miss to count


def images(
    package: ObjectPackage, shift: DomainShift, seed: int, rate: float, count: int | None = None
) -> Iterator[Frame]:
    """Images of one path; ``truths`` is empty while the object is absent, and None while too little is seen."""
    scene = ShiftedScene(package.mesh, CAMERA, shift, SimulationConfig(seed=seed))
    for index in itertools.count() if count is None else range(count):
        made = scene.frame(index, rate)
        truths = () if made.pose is None else (made.pose,) if made.visible >= VISIBLE else None
        yield Frame(index, round(1e9 * index / rate), made.rgb, CAMERA, truths=truths)


def recall(
    package: ObjectPackage, shift: DomainShift, seed: int, config: EstimatorConfig, seconds: float
) -> dict[str, Any]:
    """What the estimator does with a package's weights on a path that was not learnt from."""
    frames = images(package, shift, seed, TEST_RATE, round(TEST_RATE * seconds))
    figures, errors = measure(evaluate_one(frames, package, running(PoseEstimator(package, config))).records, package)
    valid, visible = errors["valid"] == 1.0, errors["visible"] == 1.0
    return {
        "recall": figures["accuracy"]["recall_10_percent"],
        "valid": float(valid[visible].mean()),
        "median_error": float(np.median(np.nan_to_num(errors["add"][visible], nan=math.inf))),
        "median_nees": float(np.nanmedian(errors["nees"][valid])),
        "false_poses": int(errors["false"].sum()),
    }


def truth(frame: Frame) -> Pose | None:
    """The reference: the true pose."""
    return frame.truths[0] if frame.truths else None


Measure = Callable[[ObjectPackage, DomainShift], dict[str, dict[str, Any]]]


def measuring(seed: int, seconds: float, aligned: bool) -> Measure:
    """How weights do by the networks alone and, if wanted, by the whole estimator."""
    configs = {"networks": NETWORKS_ALONE, **({"aligned": EstimatorConfig()} if aligned else {})}

    def measure_all(package: ObjectPackage, shift: DomainShift) -> dict[str, dict[str, Any]]:
        return {name: recall(package, shift, 300 + seed, config, seconds) for name, config in configs.items()}

    return measure_all


def unadapted(package: ObjectPackage, seed: int, measured: Measure) -> dict[str, dict[str, Any]]:
    """What the package's own weights do without the shift, with its calibration alone, and with all of it."""
    shift = strong_shift(seed)
    calibration = DomainShift(focal_error=shift.focal_error, centre_error=shift.centre_error)
    shifts = {"without_shift": DomainShift(), "reachable": calibration, "before": shift}
    return {name: measured(package, shift) for name, shift in shifts.items()}


def shifted(
    package: ObjectPackage,
    seed: int,
    objective: str,
    rate: float,
    budget: Budget,
    measured: Measure,
    own: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """One adaptation, and what it did to what the package's ``own`` weights do."""
    shift = strong_shift(seed)
    with tempfile.TemporaryDirectory() as folder:
        store = VersionStore(folder, package)
        begin, clock = time.process_time(), time.monotonic()
        config = AdaptationConfig(objective=objective, seed=seed)  # type: ignore[arg-type]
        frames = partial(images, package, shift, 200 + seed, rate)
        result = adapt(frames, package, store, config, KnownReference(truth), budget=budget)
        spent, seconds = time.process_time() - begin, time.monotonic() - clock
        newest = store.newest()
        after = measured(newest.applied_to(package) if newest else package, shift)
    before = own["before"]["networks"]["recall"]
    lost = own["without_shift"]["networks"]["recall"] - before
    checks = [gates for gates, _ in itertools.groupby(entry.status.gates for entry in result.history) if gates]
    return {
        "seed": seed,
        "objective": objective,
        **own,
        "after": after,
        "regained": (after["networks"]["recall"] - before) / lost if lost > 0 else math.nan,
        "minutes": budget.minutes,
        "seconds": seconds,
        "cpu_seconds": spent,
        "steps": result.steps,
        "images": result.images,
        "refusals": result.refusals,
        "robot_seconds": result.images / rate,
        "versions": len(result.promoted),
        "gates": [{g.name: (g.active, g.candidate, g.passed) for g in gates} for gates in checks],
    }


def moved(x: float, y: float, z: float) -> Callable[[Frame], Pose | None]:
    """References that are wrong by so many metres."""

    def reference(frame: Frame) -> Pose | None:
        pose = truth(frame)
        if pose is None:
            return None
        return Pose(pose.rotation, pose.translation + torch.tensor([x, y, z], dtype=torch.float64))

    return reference


def adversarial(package: ObjectPackage, other: ObjectPackage | None, count: int) -> Iterator[dict[str, Any]]:
    """Runs that must teach nothing: what became active, how the anchors fare, and why images were refused."""
    shift, rate = strong_shift(0), 2.0
    stream = list(images(package, shift, 200, rate, count))
    poses = {frame.stamp_ns: truth(frame) for frame in stream}
    shown = [pose for pose in poses.values() if pose is not None]

    def of_another_time(frame: Frame) -> Pose | None:
        return poses.get(frame.stamp_ns + 3_000_000_000)

    def anything(frame: Frame) -> Pose | None:
        return shown[frame.image_id % len(shown)]

    def not_a_number(frame: Frame) -> Pose | None:
        pose = anything(frame)
        return None if pose is None else Pose(pose.rotation, pose.translation * math.nan)

    def replaced(rgb: Callable[[int], np.ndarray]) -> list[Frame]:
        return [Frame(f.image_id, f.stamp_ns, rgb(f.image_id), CAMERA, truths=f.truths) for f in stream]

    empty = ShiftedScene(package.mesh, CAMERA, shift, SimulationConfig(seed=200))
    absent = [empty.frame(int(rate * (15.0 + 20.0 * (i // 4)) + i % 4), rate).rgb for i in range(count)]
    grey = np.full((CAMERA.height, CAMERA.width, 3), 120, np.uint8)
    cases: list[tuple[str, list[Frame], Callable[[Frame], Pose | None], ObjectPackage]] = [
        ("reference 5 cm to the side", stream, moved(0.05, 0.0, 0.0), package),
        ("reference 5 cm up and to the side", stream, moved(0.03, -0.04, 0.0), package),
        ("reference 5 cm too far", stream, moved(0.0, 0.0, 0.05), package),
        ("reference 3 s late", stream, of_another_time, package),
        ("images without the object", replaced(lambda i: absent[i]), anything, package),
        ("constant images", replaced(lambda i: grey), truth, package),
        ("one image again and again", replaced(lambda i: stream[0].rgb), truth, package),
        ("NaN references", stream, not_a_number, package),
    ]
    if other is not None:
        cases.append((f"package of another object ({other.name})", stream, truth, other))
    config = AdaptationConfig(min_images=12, min_held_back=4, check_steps=20)  # eager, so that harm could be done
    for name, frames, reference, used in cases:
        yield adversarial_run(name, frames, reference, used, config)


def adversarial_run(
    name: str,
    frames: list[Frame],
    reference: Callable[[Frame], Pose | None],
    package: ObjectPackage,
    config: AdaptationConfig,
) -> dict[str, Any]:
    """One of them."""
    examiner = Examiner(package, Anchors(package, config), CPU)
    with tempfile.TemporaryDirectory() as folder:
        store = VersionStore(folder, package)
        result: AdaptationResult = adapt(lambda: iter(frames), package, store, config, KnownReference(reference))
        newest = store.newest()
        used = newest.applied_to(package) if newest else package
        before, after = (examiner.on_anchors(load_models(each, CPU)) for each in (package, used))
    last = result.history[-1].status if result.history else None
    return {
        "run": name,
        "images": result.images,
        "kept": last.buffered if last else 0,
        "steps": result.steps,
        "versions": len(result.promoted),
        "anchor_recall_before": before.recall,
        "anchor_recall_after": after.recall,
        "state": last.state.name if last else "",
        "reason": last.reason if last else "",
        "refusals": result.refusals,
    }


def main() -> None:
    """Print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--object", type=Path, default=Path(resource("config/objects/demo")))
    parser.add_argument("--other-object", type=Path, help="package of another object, for one of the adversarial runs")
    parser.add_argument("--seeds", type=int, nargs="*", default=[2])
    parser.add_argument("--objectives", nargs="+", default=["bpnp"])
    parser.add_argument("--minutes", type=float, default=5.0, help="by the clock (default %(default)s)")
    parser.add_argument("--steps", type=int, help="of the optimiser, in place of the minutes: the same on any machine")
    parser.add_argument(
        "--rate", type=float, default=3.0, help="images a second that are learnt from (default %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default %(default)s)")
    parser.add_argument("--test-seconds", type=float, default=200.0, help="of the path that is measured on")
    parser.add_argument("--adversarial-images", type=int, default=120)
    parser.add_argument("--skip-adversarial", action="store_true")
    parser.add_argument("--aligned", action="store_true", help="measure the whole estimator, too, which takes longer")
    parser.add_argument("--anew", action="store_true", help="do again what the file holds already")
    parser.add_argument("--out", type=Path, default=OUT / "adaptation.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    package = load_object_package(arguments.object)
    budget = Budget(steps=arguments.steps) if arguments.steps else Budget(minutes=arguments.minutes)
    spent = f"{arguments.steps} steps" if arguments.steps else f"{arguments.minutes:g} minutes"
    settings = f"{package.name}, {spent}, rate {arguments.rate:g}, {arguments.test_seconds:g} s"
    settings += ", aligned" if arguments.aligned else ""
    rows: dict[str, list[dict[str, Any]]] = {"shifted": [], "adversarial": []}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if arguments.out.exists() and not arguments.anew:
        rows = json.loads(arguments.out.read_text())
    if arguments.seeds:
        print(f"{spent}, {arguments.threads} threads; recall in percent of the images that show the object")
        print(
            "seed  objective       no shift reachable  before   after  regained  NEES before  after  false  steps"
            "  versions  seconds  CPU s"
        )
    own = {}
    for seed, objective in itertools.product(arguments.seeds, arguments.objectives):
        key = {"settings": settings, "seed": seed, "objective": objective}
        row = next((row for row in rows["shifted"] if row.items() >= key.items()), None)
        if row is None:
            measured = measuring(seed, arguments.test_seconds, arguments.aligned)
            if seed not in own:
                own[seed] = unadapted(package, seed, measured)
            row = key | shifted(package, seed, objective, arguments.rate, budget, measured, own[seed])
            rows["shifted"].append(row)
        for kind in row["after"]:
            before, after = row["before"][kind], row["after"][kind]
            recalls = (100.0 * row[key][kind]["recall"] for key in ("without_shift", "reachable", "before", "after"))
            regained = f"{100.0 * row['regained']:9.0f}%" if kind == "networks" else " " * 10
            print(
                f"{seed:4d}  {objective if kind == 'networks' else kind:15s}"
                + "".join(f"{value:9.1f}" for value in recalls)
                + f"{regained}{before['median_nees']:13.1f}{after['median_nees']:7.1f}{after['false_poses']:7d}"
                + f"{row['steps']:7d}{row['versions']:10d}{row['seconds']:9.0f}{row['cpu_seconds']:7.0f}",
                flush=True,
            )
        arguments.out.write_text(json.dumps(rows, indent=1))
    if not arguments.skip_adversarial:
        other = load_object_package(arguments.other_object) if arguments.other_object else None
        rows["adversarial"] = []
        print("\nruns that must teach nothing: images, kept, steps, versions; anchor recall before and after")
        for row in adversarial(package, other, arguments.adversarial_images):
            rows["adversarial"].append(row)
            why = max(row["refusals"].items(), key=lambda item: item[1])[0] if row["refusals"] else row["reason"]
            print(
                f"{row['run']:38s}{row['images']:5d}{row['kept']:5d}{row['steps']:5d}{row['versions']:4d}"
                f"{100.0 * row['anchor_recall_before']:8.1f}{100.0 * row['anchor_recall_after']:7.1f}  {why}",
                flush=True,
            )
    arguments.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
