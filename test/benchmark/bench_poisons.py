"""References that are wrong in known ways: how many are learnt from, what is said of them, and what becomes of it.

Run as ``python test/benchmark/bench_poisons.py``; ``--quick`` takes every third image and no steps, ``--steps 300
--seeds 0 1 2`` trains on what was accepted and says whether weights were promoted. The demo's object moves before the
camera, without and with the shift of ``bench_adaptation.py``; all references have 0.5 deg and 2 mm of noise on top of
what is wrong with them. The first row has nothing wrong. Writes ``out/bench/poisons.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnp_ros.adaptation.adapter import Adapter
from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.cameras.camera import Camera
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
        found = estimator.estimate(made.rgb, CAMERA, time)[0]
        if made.pose is None or index % step:
            continue
        estimate = found.estimate.pose if found.estimate else None
        observation = Observation(round(1e9 * time), made.rgb, CAMERA, found.state, estimate, None)
        seen.append((observation, Moment(index, time, made.pose, at, np.random.default_rng([seed, index]))))
    return seen


def fed(
    package: ObjectPackage, seen: list[tuple[Observation, Moment]], name: str, steps: int, seed: int
) -> dict[str, Any]:
    """What one kind of reference leads to."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    shown = []
    for observation, moment in seen:
        reference = noisy(POISONS[name](moment), rng, *NOISE)
        shown.append(dataclasses.replace(observation, reference=reference))
    waits = AdaptationConfig(seed=seed) if steps else AdaptationConfig(seed=seed, min_images=320)
    with tempfile.TemporaryDirectory() as folder:
        adapter = Adapter(package, waits, VersionStore(folder, package))
        faults: list[str] = []
        for observation in shown:
            adapter.observe(observation)
            adapter.work()
            if adapter.status().state.name == "FAULT":
                faults.append(adapter.status().reason)
        refused, kept, done = adapter.status().refused, adapter.status().buffered, 0
        reasons = sorted(adapter.refusals().items(), key=lambda item: -item[1])
        best = 0
        while steps and done < steps:
            before = adapter.status()
            if not adapter.work():
                break
            done += max(0, adapter.status().steps - before.steps)
            best = max(best, adapter.status().active_version)
    return {
        "references": name,
        "images": len(shown),
        "accepted": len(shown) - refused,
        "kept": kept,
        "faults": len(faults),
        "fault": faults[-1] if faults else "",
        "reason": reasons[0][0] if reasons else "",
        "steps": done,
        "versions": best,
    }


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--object", type=Path, default=Path(resource("config/objects/demo")))
    parser.add_argument("--poison", nargs="+", default=list(POISONS), choices=list(POISONS), metavar="NAME")
    parser.add_argument("--shift", nargs="+", default=["none", "strong"], choices=["none", "strong"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=0, help="train so long on what was accepted (default: not at all)")
    parser.add_argument("--quick", action="store_true", help="every third image")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/bench/poisons.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    package = load_object_package(arguments.object)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    print("shift  seed  references                           accepted   kept  faults  steps  versions  said")
    for shift in arguments.shift:
        for seed in arguments.seeds:
            change = strong_shift(seed) if shift == "strong" else DomainShift()
            seen = stream(package, change, seed, 3 if arguments.quick else 1)
            for name in arguments.poison:
                row = {"shift": shift, "seed": seed, **fed(package, seen, name, arguments.steps, seed)}
                rows.append(row)
                print(
                    f"{shift:7s}{seed:4d}  {name:36s}{row['accepted']:4d} of {row['images']:2d}{row['kept']:6d}"
                    f"{row['faults']:7d}{row['steps']:7d}{row['versions']:10d}  {row['fault'] or row['reason']}",
                    flush=True,
                )
                arguments.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
