"""What makes a network learn more in the same time? Steps of fewer crops, and crops of half the size at first.

Each way sees crops of one object, of any colour by their edges or of its texture by their colours, as in ``pnp-ros
train``, and as many of them as fit into a budget. Crops and networks are smaller than there, but a step counts as what
it costs at full size, on one thread of an Intel Xeon in float32; ``costs`` measures that.

    PYTHONPATH=test python test/benchmark/bench_recipe.py bracket stripped demo [--seconds 150]
    PYTHONPATH=test python test/benchmark/bench_recipe.py costs
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from benchmark.small_trainings import FULL, KEYPOINTS, judge, mesh_of, network, seen_of, stock, trained
from torch import nn
from torch.nn import functional

from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.training.batches import Batch
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.losses import keypoint_loss
from pnp_ros.training.pose_losses import PoseLoss
from pnp_ros.training.samples import ObjectSamplerFactory, randomisation
from pnp_ros.training.steps import KeypointStep, images

# seconds at full size: of a crop forwards and backwards, whole and small, of its making, and of a step besides
_WHOLE, _SMALL, _MADE, _STEP = 0.0235, 0.0082, 0.0049, 0.018
_CROPS, _JUDGED = 7000, 400  # to learn from and held out
_HARDEST, _HELD_OUT = 0.7, 0.3  # how difficult they are, of 1: so few of the hardest would teach nothing


@dataclass(frozen=True)
class Recipe:
    """A way to train: crops a step, and the share of the budget in which they are small."""

    name: str
    size: int
    small_until: float = 0.0

    def cost(self, share: float) -> float:
        """Seconds of a step when that share of the budget is spent."""
        return self.size * ((_SMALL if share < self.small_until else _WHOLE) + _MADE) + _STEP


RECIPES = (
    Recipe("48 crops a step", 48),
    Recipe("16 crops a step", 16),
    Recipe("16, the first half small", 16, 0.5),
    Recipe("8", 8),
    Recipe("8, the first half small", 8, 0.5),
)


def halved(crops: Batch) -> Batch:
    """The same crops with half as many pixels a side: means of two by two."""
    pooled = functional.avg_pool2d(crops["images"].float(), 2).round().to(torch.uint8)
    return crops | {"images": pooled, "keypoints": (crops["keypoints"] + 0.5) / 2.0 - 0.5}


def compare(name: str, arguments: argparse.Namespace) -> None:
    """A row for each recipe."""
    mesh, scale, seed = mesh_of(name), FULL if arguments.full else 1, arguments.seed
    sees = seen_of(mesh)
    crops = stock(mesh, _CROPS, 1, lambda share: _HARDEST * share if sees == "edges" else 1.0, scale)
    held_out = stock(mesh, _JUDGED, 1000, lambda _: _HELD_OUT, scale)
    step = KeypointStep(PoseLoss("heatmap", crops.keypoints), crops.keypoints, 1.0)
    for recipe in RECIPES:
        if arguments.only and recipe.name not in arguments.only:
            continue

        def source(share: float, generator: torch.Generator, recipe: Recipe = recipe) -> Batch:
            batch = crops.draw(share, generator, recipe.size)
            return halved(batch) if share < recipe.small_until else batch

        done, seen = trained(network(seed, sees, scale), step, source, recipe.cost, arguments.seconds, seed)
        print(f"{name} | {recipe.name} | {seen} crops | {judge(done, held_out)}", flush=True)


def costs() -> None:
    """What a step costs at full size."""
    mesh = mesh_of("bracket")
    points = torch.from_numpy(select_keypoints(mesh, KEYPOINTS))
    ranges = randomisation(TrainingConfig(colour=("any",)), 128, KeypointNetworkConfig.crop_margin)
    sampler = ObjectSamplerFactory(mesh, points, Symmetry(), ranges)(0)
    found = KeypointNetwork(KeypointNetworkConfig(KEYPOINTS, sees="edges")).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(found.parameters(), lr=1e-4)

    def backwards(batch: Batch) -> None:
        optimiser.zero_grad()
        keypoint_loss(found(images(batch)), batch["keypoints"], batch["present"])[0].backward()

    def update() -> None:
        nn.utils.clip_grad_norm_(found.parameters(), 2.0)
        optimiser.step()

    def made() -> Batch:
        sampler.refresh(3)
        return sampler.batch("crops", 16)

    batch = made()
    print(f"a crop forwards and backwards: {_milliseconds(lambda: backwards(batch)) / 16:.1f} ms", end="")
    small = halved(batch)
    print(f", small {_milliseconds(lambda: backwards(small)) / 16:.1f}, render and composition", end=" ")
    print(f"{_milliseconds(made) / 16:.1f}, the optimiser's step {_milliseconds(update):.1f} ms of CPU")


def _milliseconds(do: Callable[[], object], times: int = 10) -> float:
    do()
    begin = time.process_time()
    for _ in range(times):
        do()
    return 1e3 * (time.process_time() - begin) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", help="bracket, flange, bent_sheet, demo (textured), stripped, or costs")
    parser.add_argument("--seconds", type=float, default=150.0, help="budget of each recipe, at full size")
    parser.add_argument("--only", nargs="+", help="recipes, by their names")
    parser.add_argument("--full", action="store_true", help="crops and networks as large as in training")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for what in arguments.what:
        if what == "costs":
            costs()
        else:
            compare(what, arguments)


if __name__ == "__main__":
    main()
