"""Would a network that knows other objects be a better start than random weights?

A start is trained on procedural CAD-like parts in any colour, by a last layer for each of them; a new object takes from
it all layers but the last. Then that object is trained from the start and from random weights, on the same crops in the
same order, and judged by crops that nothing learnt from. All is as in ``pnp-ros train --colour any`` (edges, 16 crops a
step, easy crops first, the loss through the pose from 0.4 of the crops on), but for smaller crops and networks:

    PYTHONPATH=test python test/benchmark/bench_start.py [--target bracket] [--objects 24] [--learnt 24000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from benchmark.small_trainings import KEYPOINTS, SIDE, WIDTH, Figures, Stock, judge, mesh_of, network, stock, trained
from torch import Tensor, nn

from pnp_ros.networks.edges import seen
from pnp_ros.networks.keypoint_network import KeypointNetwork, RawPrediction
from pnp_ros.training.batches import Batch
from pnp_ros.training.losses import keypoint_loss
from pnp_ros.training.pose_losses import PoseLoss
from pnp_ros.training.steps import KeypointStep, images
from synthetic.cad_parts import random_part

_BATCH, _JUDGED, _POSE_FROM = 16, 400, 0.4


class SeveralObjects(nn.Module):
    """A keypoint network whose last layers are those of so many objects."""

    def __init__(self, objects: int, seed: int) -> None:
        super().__init__()
        self.objects, self.network = objects, network(seed)
        self.output = nn.Conv2d(2 * WIDTH, 3 * KEYPOINTS * objects, 1)
        self.presence = nn.Linear(5 * WIDTH, objects)
        nn.init.normal_(self.output.weight, std=0.01)

    def forward(self, crops: Tensor, owner: Tensor) -> RawPrediction:
        """(B, 3, S, S) RGB in [0, 1] to the maps of each crop's own object, told by ``owner`` (B,)."""
        fine, coarse = self.network.pyramid(seen(crops, "edges"))
        maps = self.output(self.network.head(fine)).float().unflatten(1, (self.objects, 3 * KEYPOINTS))
        rows = torch.arange(len(crops))
        own = maps[rows, owner]
        factor = own[:, KEYPOINTS:].unflatten(1, (KEYPOINTS, 2)).clamp(-4.0, 4.0)
        presence = self.presence(coarse.mean((-2, -1)).float())[rows, owner]
        return RawPrediction(own[:, :KEYPOINTS], factor, presence)


def learn_start(objects: int, crops: int, seed: int) -> tuple[KeypointNetwork, Figures]:
    """A network that learnt from so many objects, with the last layers of the first, and how well it knows that one."""
    stocks = [stock(random_part(k), -(-crops // objects // _BATCH) * _BATCH, k) for k in range(objects)]
    each = [Stock(s.mesh, s.keypoints, s.crops | {"owner": _owner(k, s.crops)}) for k, s in enumerate(stocks)]

    def mixed(share: float, generator: torch.Generator) -> Batch:
        owners = torch.randint(objects, (_BATCH,), generator=generator)
        drawn = [each[int(k)].draw(share, generator, int(n)) for k, n in zip(*owners.unique(return_counts=True))]
        return {name: torch.cat([part[name] for part in drawn]) for name in drawn[0]}

    def step(several: nn.Module, batch: Batch, _: float) -> tuple[Tensor, dict[str, Tensor]]:
        return keypoint_loss(several(images(batch), batch["owner"]), batch["keypoints"], batch["present"])

    done, _ = trained(SeveralObjects(objects, seed), step, mixed, lambda _: 1.0, crops / _BATCH, seed)
    assert isinstance(done, SeveralObjects)
    known = done.network
    with torch.no_grad():
        known.output.weight.copy_(done.output.weight[: 3 * KEYPOINTS])
        known.output.bias.copy_(done.output.bias[: 3 * KEYPOINTS])
        known.presence.weight.copy_(done.presence.weight[:1])
        known.presence.bias.copy_(done.presence.bias[:1])
    return known, judge(known, stock(random_part(0), _JUDGED, 1000, lambda _: 1.0))


def _owner(number: int, crops: Batch) -> Tensor:
    return torch.full((len(crops["images"]),), number)


def begun(seed: int, known: KeypointNetwork | None) -> KeypointNetwork:
    """A network for a new object: with random weights, or with all layers but the last of one that knows others."""
    fresh = network(seed)
    if known is not None:
        for name in ("pyramid", "head"):
            getattr(fresh, name).load_state_dict(getattr(known, name).state_dict())
    return fresh


def compare(target: str, known: KeypointNetwork, counts: Sequence[int], seeds: int) -> None:
    """The table."""
    mesh = mesh_of(target)
    crops, held_out = stock(mesh, max(counts), 1), stock(mesh, _JUDGED, 1000, lambda _: 1.0)
    print("start | seed | crops | keypoints off (median, of 128 px), poses within 10 and 20 % of the diameter")
    for count in counts:
        for seed in range(seeds):
            for name, start in (("random weights", None), ("procedural parts", known)):
                step = KeypointStep(PoseLoss("epropnp", crops.keypoints, seed), crops.keypoints, _POSE_FROM)
                done, learnt = trained(
                    begun(seed, start),
                    step,
                    lambda share, generator: crops.draw(share, generator, _BATCH),
                    lambda _: 1.0,
                    count / _BATCH,
                    seed,
                )
                print(f"{name} | {seed} | {learnt} | {judge(done, held_out)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="bracket", help="bracket, flange, bent_sheet, stripped (the demo's object)")
    parser.add_argument("--objects", type=int, default=24, help="that the start learns from")
    parser.add_argument("--learnt", type=int, default=24000, help="crops that the start learns from")
    parser.add_argument("--crops", type=int, nargs="+", default=[2000, 8000], help="of the target")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    known, figures = learn_start(arguments.objects, arguments.learnt, seed=100)
    print(f"the start after {arguments.learnt} crops of {arguments.objects} parts of {SIDE} px: {figures} of the first")
    print(f"{time.process_time() - begin:.0f} s of CPU", flush=True)
    compare(arguments.target, known, arguments.crops, arguments.seeds)
    print(f"{time.process_time() - begin:.0f} s of CPU in all")


if __name__ == "__main__":
    main()
