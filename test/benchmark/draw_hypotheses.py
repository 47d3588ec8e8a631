"""Draws ``docs/images/hypotheses.png``: why a flat body has two poses, and what is made of them.

``PYTHONPATH=test python test/benchmark/draw_hypotheses.py`` (a minute). Simulated: a card of 12 keypoints, noise of one
pixel.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from bench_modes_over_time import CAMERA, CARD, LOSS, POINTS, SIGMA, motion
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pnp_ros.evaluation.svg import BLUE, GREEN, GREY, ORANGE, RED, STYLE
from pnp_ros.geometry import so3
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.ambiguity import Ambiguity
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pose_hypotheses import pose_hypotheses, reversal
from pnp_ros.types import Correspondences, Pose

_TILT = 0.4  # rad


def _seen(pose: Pose, rng: np.random.Generator) -> Correspondences:
    noise = torch.from_numpy(rng.normal(0.0, SIGMA, (len(POINTS), 2)).astype(np.float32))
    return Correspondences.from_sigma(CAMERA.project(pose.transform(POINTS)) + noise, POINTS, SIGMA)


def _tilted(tilt: float, depth: float) -> Pose:
    return Pose(so3.exp(torch.tensor([tilt, 0.0, 0.0])), torch.tensor([0.0, 0.0, depth]))


def draw_posterior(axes: Axes) -> None:
    """The density over the tilt, all else at its best, near and far."""
    tilts = np.linspace(-0.9, 0.9, 181)
    for depth, colour in ((0.4, GREEN), (1.0, BLUE), (2.0, ORANGE)):
        data = Correspondences.from_sigma(CAMERA.project(_tilted(_TILT, depth).transform(POINTS)), POINTS, SIGMA)
        costs = []
        for tilt in tilts:
            # scale and place of the image fix the position for each tilt
            best = min(_cost(data, float(tilt), depth * f) for f in np.linspace(0.97, 1.03, 25))
            costs.append(best)
        density = np.exp(-(np.array(costs) - min(costs)))
        axes.plot(
            np.degrees(tilts), density / density.sum() / (tilts[1] - tilts[0]), color=colour, label=f"{depth:g} m"
        )
    axes.axvline(np.degrees(_TILT), color=GREY, ls=":", lw=1)
    axes.set(xlabel="tilt, degrees (true: dotted)", ylabel="density", title="A card of 10 cm: the posterior")
    axes.legend(frameon=False, fontsize=8)


def _cost(data: Correspondences, tilt: float, depth: float) -> float:
    offset = CAMERA.project(_tilted(tilt, depth).transform(POINTS)) - data.image_points
    return 0.5 * float(data.whiten(offset - offset.mean(0)).square().sum())


def draw_reliability(axes: Axes, cards: int) -> None:
    """Told probability against the share that was right."""
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
    said: list[float] = []
    was: list[bool] = []
    for _ in range(cards):
        angle, tilt, depth = rng.uniform(0, 6.28), rng.uniform(0.2, 0.7), rng.uniform(0.4, 1.6)
        axis = torch.tensor([np.cos(angle), np.sin(angle), 0.0], dtype=torch.float32)
        truth = Pose(so3.exp(tilt * axis), torch.tensor([0.0, 0.0, depth]))
        data = _seen(truth, rng)
        start = solve_pnp(data, CAMERA, loss=LOSS).pose
        found = pose_hypotheses(data, CAMERA, Pose.stack([start, reversal(POINTS, start)]), LOSS, generator)
        if len(found) < 2:
            continue
        off = so3.angle_between(found.pose.rotation, truth.rotation)
        said += found.probability.tolist()
        was += (off == off.min()).tolist()
    told, right = np.array(said), np.array(was)
    edges = np.linspace(0.0, 1.0, 8)
    place = np.digitize(told, edges[1:-1])
    for k in range(len(edges) - 1):
        if (inside := place == k).any():
            p, n = told[inside].mean(), inside.sum()
            spread = 2.0 * np.sqrt(max(p * (1 - p), 1e-4) / n)
            axes.errorbar(p, right[inside].mean(), spread, fmt="o", color=BLUE, capsize=3)
    axes.plot([0, 1], [0, 1], color=GREEN, lw=1)
    axes.set(xlabel="probability told", ylabel="share that was right", title=f"{len(told)} modes of {cards} cards")


def draw_sequence(axes: Axes, seed: int) -> None:
    """A card that comes nearer: each image by itself, and the modes carried over the images."""
    rng, ambiguity = np.random.default_rng(seed), Ambiguity(CARD, Symmetry())
    alone, carried, sure = [], [], []
    for k, truth in enumerate(motion(rng, 60)):
        data = _seen(truth, rng)
        estimate = solve_pnp(data, CAMERA, loss=LOSS)
        told = ambiguity.weigh(None, CAMERA, estimate, lambda data=data: data, k > 0)
        alone.append(float(so3.angle_between(estimate.pose.rotation, truth.rotation).rad2deg()))
        carried.append(float(so3.angle_between(told[0].pose.rotation, truth.rotation).rad2deg()))
        sure.append(told[0].probability)
    axes.plot(alone, ".", color=RED, label="each image by itself")
    axes.plot(carried, color=BLUE, label="modes carried over images")
    axes.set(xlabel="image, from 1.6 to 0.5 m", ylabel="rotation error, degrees", title="Motion decides")
    beside = axes.twinx()
    beside.plot(sure, color=GREY, lw=1, ls="--")
    beside.set(ylabel="probability of the followed pose (dashed)", ylim=(0, 1.05))
    axes.legend(frameon=False, fontsize=8)


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/hypotheses.png"))
    parser.add_argument("--cards", type=int, default=400)
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12.0, 3.4), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        draw_posterior(left)
        draw_reliability(middle, arguments.cards)
        draw_sequence(right, arguments.seed)
        figure.savefig(arguments.out, dpi=100)
    print(arguments.out)


if __name__ == "__main__":
    main()
