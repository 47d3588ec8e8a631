"""References that are wrong in known ways: how many are learnt from, what is said of them, and what becomes of it.

Run as ``python test/benchmark/bench_poisons.py``, which takes a quarter of an hour: three seeds, 300 steps on what was
accepted of wrong references and, with the first seed, of right ones. ``--quick`` takes one seed, every third image and
no steps. The demo's object moves before the camera, without and with
the shift of ``bench_adaptation.py``; all references have 0.5 deg and 2 mm of noise on top of what is wrong with them.
The first row has nothing wrong. *Off* is by how much the poses that are learnt differ from the truth, in percent of the
diameter (ADD, and depth): where it is no larger than with true references, the poison has no effect. What is done
already is read from ``out/bench/poisons.json``, unless ``--anew``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnp_ros.adaptation.adapter import Adapter
from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.example import Example
from pnp_ros.adaptation.examples.intake import Intake
from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.pose_error import add
from pnp_ros.geometry import se3, so3
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.rendering.domain_shift import DomainShift, ShiftedScene, strong_shift
from pnp_ros.rendering.simulation import SimulatedScene, SimulationConfig
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(600.0, 600.0, 320.0, 240.0, 640, 480)
RATE, IMAGES = 2.0, 65  # images a second, and in all, some of them without the object
NOISE = math.radians(0.5), 0.002  # of every reference: rad and m, about and along each axis
LATE_S = 0.1


@dataclasses.dataclass(frozen=True)
class Moment:
    """What a reference can be made of.

    Args:
        index: of the image.
        time: of it, seconds.
        truth: ``T_camera_object``, float64.
        at: the true pose at any time.
        rng: for what is random.
    """

    index: int
    time: float
    truth: Pose
    at: Callable[[float], Pose]
    rng: np.random.Generator


Poison = Callable[[Moment], Pose]


def turned(pose: Pose, degrees: tuple[float, float, float], in_object: bool = False) -> Pose:
    """A pose turned about the camera's or the object's axes."""
    turn = so3.exp(torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)))
    return Pose(pose.rotation @ turn if in_object else turn @ pose.rotation, pose.translation)


def moved(pose: Pose, metres: tuple[float, float, float], in_object: bool = False) -> Pose:
    """A pose moved along the camera's or the object's axes."""
    move = torch.tensor(metres, dtype=torch.float64)
    return Pose(pose.rotation, pose.translation + (pose.rotation @ move if in_object else move))


def noisy(pose: Pose, rng: np.random.Generator, angle: float, distance: float) -> Pose:
    """A pose with normal noise of so many radians about and metres along each axis."""
    turn, move = (torch.from_numpy(rng.normal(0.0, sigma, 3)) for sigma in (angle, distance))
    return Pose(so3.exp(turn) @ pose.rotation, pose.translation + move)


def _axis(index: int, size: float) -> tuple[float, float, float]:
    return (size * (index == 0), size * (index == 1), size * (index == 2))


def _turns(degrees: float, in_object: bool) -> dict[str, Poison]:
    frame = "object" if in_object else "camera"

    def turn(axis: int) -> Poison:
        return lambda m: turned(m.truth, _axis(axis, degrees), in_object)

    return {f"turn {degrees:g} deg, {frame} {'xyz'[axis]}": turn(axis) for axis in range(3)}


_BODY = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64)
TRUE = "true"
POISONS: dict[str, Poison] = {
    TRUE: lambda m: m.truth,
    **_turns(5.0, False),
    **_turns(5.0, True),
    **_turns(10.0, False),
    "depth -2 cm": lambda m: moved(m.truth, (0.0, 0.0, -0.02)),
    "depth +1.5 cm": lambda m: moved(m.truth, (0.0, 0.0, 0.015)),
    "1 cm and 5 deg": lambda m: turned(moved(m.truth, (0.01, 0.0, 0.0)), (0.0, 5.0, 0.0)),
    "100 ms late": lambda m: m.at(m.time - LATE_S),
    "1 cm aside": lambda m: moved(m.truth, (0.01, 0.0, 0.0)),
    "1.5 cm in the object's x": lambda m: moved(m.truth, (0.015, 0.0, 0.0), True),
    "1.5 cm in the object's z": lambda m: moved(m.truth, (0.0, 0.0, 0.015), True),
    "every second 2 cm and 5 deg": lambda m: (
        turned(moved(m.truth, (0.02, 0.0, 0.0)), (0.0, 5.0, 0.0)) if m.index % 2 else m.truth
    ),
    "frames swapped (the inverse)": lambda m: se3.inverse(m.truth),
    "frames swapped (body axes)": lambda m: Pose(_BODY @ m.truth.rotation, _BODY @ m.truth.translation),
    "another object's": lambda m: m.at(m.time + 60.0),
    "claims to be exact, 4 deg and 1 cm": lambda m: noisy(m.truth, m.rng, math.radians(4.0), 0.01),
}


def stream(package: ObjectPackage, shift: DomainShift, seed: int, step: int) -> list[tuple[Observation, Moment]]:
    """The images that show the object, with what the estimator says of them."""
    path = SimulationConfig(seed=200 + seed)
    scene = ShiftedScene(package.mesh, CAMERA, shift, path)
    at = SimulatedScene(package.mesh, shift.true_camera(CAMERA), path).pose
    estimator = PoseEstimator(package)
    seen = []
    for index in range(IMAGES):
        made, time = scene.frame(index, RATE), index / RATE
        found = estimator.estimate(made.rgb, CAMERA, time)
        if made.pose is None or index % step:
            continue
        estimate = found.estimate.pose if found.estimate else None
        observation = Observation(index, round(1e9 * time), made.rgb, CAMERA, state=found.state, estimate=estimate)
        seen.append((observation, Moment(index, time, made.pose, at, np.random.default_rng([seed, index]))))
    return seen


def shown(seen: list[tuple[Observation, Moment]], name: str, seed: int) -> list[tuple[Observation, Pose]]:
    """The observations with references of one kind, and the true poses."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return [
        (dataclasses.replace(observation, reference=noisy(POISONS[name](moment), rng, *NOISE)), moment.truth)
        for observation, moment in seen
    ]


def taken_in(package: ObjectPackage, images: list[tuple[Observation, Pose]]) -> dict[str, Any]:
    """What is accepted and said, and what would be learnt: ADD and depth beside the truth, in % of the diameter."""
    intake = Intake(package, AdaptationConfig())
    points = torch.from_numpy(package.mesh.vertices).double()
    offs: list[tuple[float, float]] = []
    reasons: Counter[str] = Counter()
    faults: list[str] = []
    kept = 0
    for observation, truth in images:
        found = intake.examine(observation)
        if isinstance(found, Example):
            learnt, true = (Pose(p.rotation.double(), p.translation.double()) for p in (found.pose, truth))
            along = (learnt.translation - true.translation) @ true.translation / true.translation.norm()
            offs.append((float(add(learnt, true, points)), float(along)))
        else:
            reasons[found.kind] += 1
        kept += isinstance(found, Example)
        if intake.bias:
            kept = 0  # a fault lets go of everything
            faults.append(intake.bias)
    medians = 100.0 * np.median(np.array(offs), axis=0) / package.diameter if offs else (math.nan, math.nan)
    return {
        "images": len(images),
        "accepted": len(offs),
        "kept": kept,
        "off": round(float(medians[0]), 2),
        "depth_off": round(float(medians[1]), 2),
        "faults": len(faults),
        "fault": faults[-1] if faults else "",
        "reason": reasons.most_common(1)[0][0] if reasons else "",
    }


def trained(package: ObjectPackage, images: list[tuple[Observation, Pose]], steps: int, seed: int) -> dict[str, Any]:
    """What so many steps lead to, with default settings: how many were made, and the newest version."""
    with tempfile.TemporaryDirectory() as folder:
        adapter = Adapter(package, AdaptationConfig(seed=seed), VersionStore(folder, package))
        for observation, _ in images:
            adapter.observe(observation)
        done = newest = 0
        while done < steps or adapter.check_is_due:
            before = adapter.status()
            worked = adapter.work()
            after = adapter.status()
            done, newest = done + max(0, after.steps - before.steps), max(newest, after.active_version)
            if not worked:
                break
        gates = {gate.name: (gate.active, gate.candidate, gate.passed) for gate in after.gates}
        return {"steps": done, "versions": newest, "gates": gates}


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--object", type=Path, default=Path(resource("config/objects/demo")))
    parser.add_argument("--poison", nargs="+", default=list(POISONS), choices=list(POISONS), metavar="NAME")
    parser.add_argument("--shift", nargs="+", default=["none", "strong"], choices=["none", "strong"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300, help="train so long on what was accepted; 0: not at all")
    parser.add_argument("--quick", action="store_true", help="the first seed, every third image, no steps")
    parser.add_argument("--anew", action="store_true", help="do again what the file holds already")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/bench/poisons.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    package = load_object_package(arguments.object)
    every, steps = (3, 0) if arguments.quick else (1, arguments.steps)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if arguments.out.exists() and not arguments.anew:
        rows = json.loads(arguments.out.read_text())
    print(
        "shift  seed  references                           accepted   kept    off  depth  faults  steps  versions  said"
    )
    for shift in arguments.shift:
        for seed in arguments.seeds[: 1 if arguments.quick else None]:
            change = strong_shift(seed) if shift == "strong" else DomainShift()
            seen: list[tuple[Observation, Moment]] = []
            for name in arguments.poison:
                most = steps if name != TRUE or seed == arguments.seeds[0] else 0
                key = {"object": package.name, "shift": shift, "seed": seed, "every": every, "most_steps": most}
                row = next((row for row in rows if row.items() >= (key | {"references": name}).items()), None)
                if row is None:
                    seen = seen or stream(package, change, seed, every)
                    images = shown(seen, name, seed)
                    row = key | {"references": name} | taken_in(package, images) | {"steps": 0, "versions": 0}
                    if most and row["kept"] >= AdaptationConfig.min_images:
                        row |= trained(package, images, most, seed)
                    rows.append(row)
                    arguments.out.write_text(json.dumps(rows, indent=1))
                print(
                    f"{shift:7s}{seed:4d}  {name:36s}{row['accepted']:4d} of {row['images']:2d}{row['kept']:6d}"
                    f"{row['off']:7.1f}{row['depth_off']:7.1f}{row['faults']:7d}{row['steps']:7d}"
                    f"{row['versions']:10d}  {row['fault'] or row['reason']}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
