"""Several objects and instances in one image: are they all told, do names stay, and what does it cost?

Printed boxes of one shape, each object with a print of its own, turn and pass in front of each other. The package is
made of the mesh alone. A row for each number of instances; one thread.

    PYTHONPATH=test python test/benchmark/bench_scene.py [--images 300] [--objects 3] [--instances 1 3]
        [--plot docs/images/instances.png]

Valid and near: shares of the instances of which 30 % or more are to be seen.
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.pose_error import add
from pnp_ros.evaluation.svg import BLUE, GREY, ORANGE
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
_COARSE = 4  # pixels of the image a pixel of the drawings that tell how large an object by itself is
_SMALL = Camera.pinhole(150.0, 150.0, 79.5, 59.5, 160, 120)


def path(index: int, stamp: float) -> Pose:
    """Three on each level go round one ellipse, turning: the near ones pass before the far ones, none through another.

    Centres stay 0.8 diameters apart or more.
    """
    level, phase = index // 3, 2.0 * math.pi * (index % 3) / 3.0 + 0.7 * index
    angle = phase + (0.6 + 0.1 * level) * stamp
    place = [0.28 * math.cos(angle), 0.13 * (0.0, -1.0, 1.0)[level], 0.85 + 0.2 * math.sin(angle)]
    turn = torch.tensor([0.5 + 0.3 * math.sin(stamp + phase), 0.8 * math.sin(0.5 * stamp + phase), phase])
    return Pose(so3.exp(turn), torch.tensor(place))


@dataclass(frozen=True)
class Row:
    """What one scene gave: counts of objects, shares in percent, ms of CPU an image, MiB of the process until then.

    ``worst`` is the share within 10 % of the object that is found worst, all of its instances together.
    """

    kinds: int
    instances: int
    valid: float
    near: float
    worst: float
    wrong: int
    swaps: int
    median: float
    tail: float
    memory: float

    def __str__(self) -> str:
        return (
            f"{self.kinds} x {self.instances} | {self.valid:.1f} | {self.near:.1f} | {self.worst:.1f} | {self.wrong} | "
            f"{self.swaps} | {self.median:.0f}, {self.tail:.0f} | {1e3 / self.median:.0f} | {self.memory:.0f}"
        )


def run(packages: list[ObjectPackage], instances: int, images: int) -> Row:
    """One row of the table."""
    scene, owners = Scene(packages, instances=instances), [p for p in packages for _ in range(instances)]
    background = random_background(640, 480, np.random.default_rng(0))
    told: dict[str, int] = {}
    found, near, seen = (np.zeros(len(owners), int) for _ in range(3))
    swaps, wrong, seconds = 0, 0, list[float]()
    with Renderer() as renderer:
        handles = {package.name: renderer.add(package.mesh) for package in packages}
        for k in range(images):
            poses = [path(i, k / RATE) for i in range(len(owners))]
            items = [(handles[package.name], pose) for package, pose in zip(owners, poses)]
            shot = renderer.render(items, CAMERA, background=background)
            alone = [_COARSE**2 * renderer.render([item], _SMALL).mask.astype(bool).sum() for item in items]
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
                    near[nearest] += share < 0.1
                    found[nearest] += 1
            if k / RATE >= _SETTLED_S:
                seen += [share >= _SEEN for share in visible]
    median, tail = np.percentile(1e3 * np.array(seconds[int(_SETTLED_S * RATE) :]), [50, 99])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    whole, within = (100 * each.sum() / seen.sum() for each in (found, near))
    worst = (100 * near.reshape(-1, instances).sum(1) / seen.reshape(-1, instances).sum(1)).min()
    return Row(len(packages), instances, whole, within, worst, wrong, swaps, median, tail, memory)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Cost and memory over the number of instances, as PNG."""
    figure = Figure((7.2, 2.7), layout="constrained", dpi=130)
    times, memory = figure.subplots(1, 2)
    counts = np.array([row.kinds * row.instances for row in rows])
    alone = min(rows, key=lambda row: row.kinds * row.instances)
    times.plot([0, counts.max()], [0, alone.median * counts.max()], color=GREY, lw=1, label="one, times as many")
    for name, colour in (("median", BLUE), ("tail", ORANGE)):
        values = [getattr(row, name) for row in rows]
        times.plot(counts, values, "o", color=colour, label={"median": "median", "tail": "99 %"}[name])
    for axes, title in ((times, "CPU an image, ms, one core"), (memory, "memory, MiB")):
        axes.set(xlabel="instances", title=title, xlim=(0, counts.max() + 1), xticks=sorted({*counts}))
        axes.grid(color="#e4e4e4")
    times.set_ylim(0, 1.4 * max(row.tail for row in rows))
    times.legend(frameon=False, ncols=2, loc="upper left", fontsize=8)
    memory.plot(counts, [row.memory for row in rows], "o", color=BLUE)
    for row, count in zip(rows, counts):
        place = (4, -11) if row.kinds == 1 else (4, 4)
        label = f"{row.kinds} x {row.instances}"
        memory.annotate(label, (count, row.memory), place, textcoords="offset points", fontsize=8)
    memory.set_ylim(0, 1.15 * max(row.memory for row in rows))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--objects", type=int, default=3, help="different objects in the largest scene")
    parser.add_argument("--plot", type=Path, help="PNG of cost and memory over the number of instances")
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 3])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        packages = [
            onboard(Path(folder) / f"box{seed}", f"box{seed}", printed_box(seed)).package
            for seed in range(arguments.objects)
        ]
        print(
            "objects x instances | valid % | ADD < 10 %, all | worst object | wrong | swaps | ms p50, p99 | 1/s | MiB"
        )
        rows = []
        for kinds, instances in itertools.product(sorted({1, arguments.objects}), arguments.instances):
            rows.append(run(packages[:kinds], instances, arguments.images))
            print(rows[-1], flush=True)
    if arguments.plot:
        draw(rows, arguments.plot)


if __name__ == "__main__":
    main()
