"""Several objects and instances in one image: are they all told, do names stay, and what does it cost?

Printed boxes of one shape, each object with a print of its own, turn and pass in front of each other. The package is
made of the mesh alone. A row for each number of instances; one thread.

    PYTHONPATH=test python test/benchmark/bench_scene.py [--images 300] [--objects 3] [--instances 1 3]
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.pose_error import add
from pnp_ros.geometry import so3
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.pipeline.scene import Scene
from pnp_ros.rendering.backgrounds import random_background
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose
from synthetic.printed_box import printed_box

CAMERA = Camera.pinhole(600.0, 600.0, 319.5, 239.5, 640, 480)
RATE = 30.0
_SEEN = 0.3  # visible share of an instance that is asked for
_SETTLED_S = 0.5


def path(index: int, stamp: float) -> Pose:
    """Three on each level go round one ellipse, turning: the near ones pass before the far ones, none through another.

    Centres stay 0.8 diameters apart or more.
    """
    level, phase = index // 3, 2.0 * math.pi * (index % 3) / 3.0 + 0.7 * index
    angle = phase + (0.6 + 0.1 * level) * stamp
    place = [0.28 * math.cos(angle), 0.13 * (0.0, -1.0, 1.0)[level], 0.85 + 0.2 * math.sin(angle)]
    turn = torch.tensor([0.5 + 0.3 * math.sin(stamp + phase), 0.8 * math.sin(0.5 * stamp + phase), phase])
    return Pose(so3.exp(turn), torch.tensor(place))


def run(packages: list[ObjectPackage], instances: int, images: int) -> str:
    """One row of the table."""
    scene, owners = Scene(packages, instances=instances), [p for p in packages for _ in range(instances)]
    background = random_background(640, 480, np.random.default_rng(0))
    told: dict[str, int] = {}
    swaps = seen = found = near = wrong = 0
    seconds = []
    with Renderer() as renderer:
        handles = {package.name: renderer.add(package.mesh) for package in packages}
        for k in range(images):
            poses = [path(i, k / RATE) for i in range(len(owners))]
            items = [(handles[package.name], pose) for package, pose in zip(owners, poses)]
            shot = renderer.render(items, CAMERA, background=background)
            alone = [renderer.render([item], CAMERA).mask.astype(bool).sum() for item in items]
            visible = [(shot.mask == i + 1).sum() / max(1, whole) for i, whole in enumerate(alone)]
            begin = time.process_time()
            estimates = scene.estimate(shot.rgb, CAMERA, k / RATE)
            seconds.append(time.process_time() - begin)
            matched = set()
            for name, item in estimates.items():
                if item.state is not ObjectState.VALID or item.estimate is None:
                    continue
                own = [i for i, package in enumerate(owners) if package.name == item.name]
                points = torch.from_numpy(scene.estimators[name].package.mesh.vertices)
                errors = {i: float(add(item.estimate.pose, poses[i], points)) for i in own}
                nearest = min(errors, key=lambda i: errors[i])
                share = errors[nearest] / scene.estimators[name].package.diameter
                if share > 0.5 or nearest in matched:
                    wrong += 1
                    continue
                matched.add(nearest)
                swaps += told.get(name, nearest) != nearest
                told[name] = nearest
                if k / RATE >= _SETTLED_S and visible[nearest] >= _SEEN:
                    near += share < 0.1
                    found += 1
            if k / RATE >= _SETTLED_S:
                seen += sum(share >= _SEEN for share in visible)
    median, tail = np.percentile(1e3 * np.array(seconds[int(_SETTLED_S * RATE) :]), [50, 99])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{len(packages)} x {instances} | {100 * found / seen:.1f} | {100 * near / seen:.1f} | {wrong} | {swaps} | "
        f"{median:.0f} / {tail:.0f} | {memory:.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--objects", type=int, default=3, help="different objects in the largest scene")
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 3])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        packages = [
            onboard(Path(folder) / f"box{seed}", f"box{seed}", printed_box(seed)).package
            for seed in range(arguments.objects)
        ]
        print("objects x instances | valid % of those seen | ADD < 10 % | wrong | swaps | ms p50 / p99 (CPU) | MiB")
        for kinds, instances in itertools.product(sorted({1, arguments.objects}), arguments.instances):
            print(run(packages[:kinds], instances, arguments.images), flush=True)


if __name__ == "__main__":
    main()
