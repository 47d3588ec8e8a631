"""Would a network that knows another object be a better start than random weights?

It is trained on one procedural object in any colour; a new object takes from it all layers but the last. Then that
object is trained from this start and from random weights, on the same crops in the same order, and judged by crops that
nothing learnt from. All is as in ``pnp-ros train --colour any`` (edges, 16 crops a step, easy crops first, the loss
through the pose from 0.4 of the crops on), but for smaller crops and networks:

    PYTHONPATH=test python test/benchmark/bench_start.py [--target bracket] [--learnt 32000]

``--full`` is at full size, with the layers that come with pnp_ros (``learn_start.py``). ``--target demo`` is learnt by
its colours, which the first layer of the start does not know: that layer has random weights then, too, and no crops are
easy. ``--along`` judges one run of the last number of crops on its way there, too (at multiples of 80), in place of a
run for each.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import torch
from benchmark.learn_start import SHAPE
from benchmark.small_trainings import FULL, Stock, as_in_training, judge, mesh_of, network, seen_of, stock, trained
from torch import nn

from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.networks.edges import Sees
from pnp_ros.networks.keypoint_network import KeypointNetwork
from pnp_ros.training.config import SHIPPED
from pnp_ros.training.pose_losses import PoseLoss
from pnp_ros.training.steps import KeypointStep
from pnp_ros.training.trainer import initial_networks, take_shared_layers
from synthetic.assemblies import random_assembly

_BATCH, _POSE_FROM = 16, 0.4


def _all_kinds(_: float) -> float:
    """Crops as difficult as they become."""
    return 1.0


def learnt(
    crops: Stock,
    count: int,
    seed: int,
    known: KeypointNetwork | None,
    scale: int = 1,
    sees: Sees = "edges",
    watch: Callable[[nn.Module, int], None] = lambda network, seen: None,
) -> KeypointNetwork:
    """The network after ``count`` crops, with random weights at first or with all layers but the last of another.

    Of one that sees something else the first layer is not taken, either.
    """
    fresh = network(seed, sees, scale)
    if known is not None:
        take_shared_layers(fresh, known.state_dict(), known.config.sees)
    step = KeypointStep(PoseLoss("epropnp", crops.keypoints, seed), crops.keypoints, _POSE_FROM)
    done, _ = trained(
        fresh,
        step,
        lambda share, generator: crops.draw(share, generator, _BATCH),
        lambda _: 1.0,
        count / _BATCH,
        seed,
        watch=watch,
    )
    assert isinstance(done, KeypointNetwork)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="bracket", help="bracket, flange, bent_sheet, demo, stripped")
    parser.add_argument("--learnt", type=int, default=32000, help="crops that the start learns from")
    parser.add_argument("--crops", type=int, nargs="+", default=[2000, 8000], help="of the target")
    parser.add_argument("--judged", type=int, default=400, help="crops that networks are judged by")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--along", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scale, begin = FULL if arguments.full else 1, time.process_time()
    mesh = mesh_of(arguments.target)
    sees = seen_of(mesh)
    crops = stock(mesh, max(arguments.crops), 1, as_in_training if sees == "edges" else _all_kinds, scale)
    if arguments.full:
        fresh, points = network(0, scale=scale), crops.keypoints.numpy()
        known, _ = initial_networks(fresh, DetectorNetwork(DetectorConfig(sees="edges")), points, SHIPPED)
        assert isinstance(known, KeypointNetwork)
    else:
        known = learnt(stock(random_assembly(SHAPE), arguments.learnt, 0), arguments.learnt, 100, None)
    held_out = stock(mesh, arguments.judged, 1000, _all_kinds, scale)
    print("start | seed | crops | keypoints off (median, of 128 px), poses within 5, 10 and 20 % of the diameter")
    counts = arguments.crops[-1:] if arguments.along else arguments.crops
    for count, seed in itertools.product(counts, range(arguments.seeds)):
        for name, start in (("random weights", None), ("another object", known)):
            arm = f"{name} | {seed} |"

            def watch(average: nn.Module, seen: int, arm: str = arm, whole: int = count) -> None:
                if arguments.along and seen in arguments.crops and seen < whole:
                    print(arm, seen, "|", judge(average, held_out), flush=True)

            finished = learnt(crops, count, seed, start, scale, sees, watch)
            print(arm, count, "|", judge(finished, held_out), flush=True)
    print(f"{time.process_time() - begin:.0f} s of CPU in all")


if __name__ == "__main__":
    main()
