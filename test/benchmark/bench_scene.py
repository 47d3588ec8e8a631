"""Several objects and instances in one image: are they all told, do names stay, and what does it cost?

Printed boxes of one shape, each object with a print of its own, turn and pass in front of each other. The package is
made of the mesh alone. A row for each number of instances; one thread. Beside them each instance of the largest scene
is shown by itself, on its own path, so that all of them together are compared with the sum of each alone. The scenes
take turns, image by image, so that what else the computer does slows all of them alike.

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
    """What one scene gave: counts of objects, shares in percent, ms of CPU an image, MiB that it added to the process.

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
    mean: float
    tail: float
    memory: float

    def __str__(self) -> str:
        return (
            f"{self.kinds} x {self.instances} | {self.valid:.1f} | {self.near:.1f} | {self.worst:.1f} | {self.wrong} | "
            f"{self.swaps} | {self.median:.1f}, {self.mean:.1f}, {self.tail:.0f} | {1e3 / self.median:.0f} | "
            f"{self.memory:.0f}"
        )


class Shown:
    """A scene that is shown image after image, and what came of it; the first instance goes the ``first`` path."""

    def __init__(self, packages: Sequence[ObjectPackage], instances: int, renderer: Renderer, first: int = 0) -> None:
        before = _resident()
        self._scene = Scene(packages, instances=instances)
        self._owners = [package for package in packages for _ in range(instances)]
        self._instances, self._renderer, self._first = instances, renderer, first
        handles = {package.name: renderer.add(package.mesh) for package in packages}
        self._handles = [handles[package.name] for package in self._owners]
        self._background = random_background(640, 480, np.random.default_rng(0))
        self._told: dict[str, int] = {}
        self._found, self._near, self._seen = (np.zeros(len(self._owners), int) for _ in range(3))
        self._swaps, self._wrong, self._seconds = 0, 0, list[float]()
        for k in range(round(_SETTLED_S * RATE)):
            self.look(k)
        self._memory = _resident() - before

    def look(self, k: int) -> None:
        """Image ``k``."""
        poses = [path(self._first + i, k / RATE) for i in range(len(self._owners))]
        items = list(zip(self._handles, poses))
        shot = self._renderer.render(items, CAMERA, background=self._background)
        alone = [_COARSE**2 * self._renderer.render([item], _SMALL).mask.astype(bool).sum() for item in items]
        visible = [(shot.mask == i + 1).sum() / max(1, whole) for i, whole in enumerate(alone)]
        begin = time.process_time()
        estimates = self._scene.estimate(shot.rgb, CAMERA, k / RATE)
        self._seconds.append(time.process_time() - begin)
        matched = set()
        for name, item in estimates.items():
            if item.state is not ObjectState.VALID or item.estimate is None:
                continue
            package = self._scene.estimators[name].package
            own = [i for i, owner in enumerate(self._owners) if owner.name == item.name]
            points = torch.from_numpy(package.mesh.vertices)
            errors = {i: float(add(item.estimate.pose, poses[i], points)) for i in own}
            nearest = min(errors, key=lambda i: errors[i])
            share = errors[nearest] / package.diameter
            if share > 0.5 or nearest in matched:
                self._wrong += 1
                continue
            matched.add(nearest)
            self._swaps += self._told.get(name, nearest) != nearest
            self._told[name] = nearest
            if k / RATE >= _SETTLED_S and visible[nearest] >= _SEEN:
                self._near[nearest] += share < 0.1
                self._found[nearest] += 1
        if k / RATE >= _SETTLED_S:
            self._seen += [share >= _SEEN for share in visible]

    @property
    def row(self) -> Row:
        """What came of the images so far."""
        spent = 1e3 * np.array(self._seconds[round(_SETTLED_S * RATE) :])
        median, tail = np.percentile(spent, [50, 99])
        whole, within = (100 * each.sum() / self._seen.sum() for each in (self._found, self._near))
        near, seen = (each.reshape(-1, self._instances).sum(1) for each in (self._near, self._seen))
        kinds, worst = len(self._owners) // self._instances, (100 * near / seen).min()
        counts = self._wrong, self._swaps
        return Row(kinds, self._instances, whole, within, worst, *counts, median, spent.mean(), tail, self._memory)


def _resident() -> float:
    """MiB of the process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def draw(rows: Sequence[Row], each: float, path: Path) -> None:
    """Cost and memory over the number of instances, as PNG; ``each``: ms of one by itself, in the mean of all."""
    figure = Figure((7.2, 2.7), layout="constrained", dpi=130)
    times, memory = figure.subplots(1, 2)
    counts = np.array([row.kinds * row.instances for row in rows])
    times.plot([0, counts.max()], [0, each * counts.max()], color=GREY, lw=1, label="each by itself, added up")
    for name, colour in (("median", BLUE), ("tail", ORANGE)):
        values = [getattr(row, name) for row in rows]
        times.plot(counts, values, "o", color=colour, label={"median": "median", "tail": "99 %"}[name])
    for axes, title in ((times, "CPU an image, ms, one core"), (memory, "memory of the scene, MiB")):
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
        with Renderer() as renderer:
            first = Shown(packages[:1], 1, renderer)  # kept: what a process needs once is not counted
            sizes = itertools.product(sorted({1, arguments.objects}), arguments.instances)
            scenes = [Shown(packages[:kinds], instances, renderer) for kinds, instances in sizes]
            owners = [package for package in packages for _ in range(max(arguments.instances))]
            apart = [Shown([package], 1, renderer, number) for number, package in enumerate(owners)]
            for k in range(round(_SETTLED_S * RATE), arguments.images):
                for scene in [*scenes, *apart][:: 1 if k % 2 else -1]:
                    scene.look(k)
            del first
        rows, alone = ([scene.row for scene in shown] for shown in (scenes, apart))
    print(
        "objects x instances | valid % | ADD < 10 %, all | worst object | wrong | swaps | ms p50, mean, p99 | 1/s | MiB"
    )
    print(*rows, sep="\n")
    largest = max(rows, key=lambda row: row.kinds * row.instances)
    for name in ("median", "mean"):
        each = [getattr(row, name) for row in alone]
        together = getattr(largest, name)
        listed = ", ".join(f"{ms:.1f}" for ms in each)
        print(f"{name}: {together:.1f} ms together, {together / sum(each):.2f} times the sum of each alone ({listed})")
    if arguments.plot:
        draw(rows, float(np.mean([row.median for row in alone])), arguments.plot)


if __name__ == "__main__":
    main()
