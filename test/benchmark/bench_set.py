"""Would a set of objects be found better, or more cheaply, by one network than by one each?

Three objects: the demo's boat, a cube (``../shared/data/cube`` beside the checkout; a second box where that is absent)
and a printed box. All networks see the same crops, those of one object in the same order. ``its own`` is a network an
object; ``shared`` is one that learns from the crops of all, so that both see equally many in all: its backbone is
common, the last layer has maps and a presence for each object, of which a crop teaches those of its own. They are
judged by held-out crops: keypoints, and poses that come of them. As the shared one makes three times as many steps,
``small steps`` is an object's own network that learns from its crops in steps of a third: as many steps.

    PYTHONPATH=test python test/benchmark/bench_set.py [--crops 30000] [--side 64] [--width 16] [--difficulty 0]

Small crops and networks, so that 30,000 crops an object take some twenty minutes on one core. At difficulty 0 nothing
is in front of the object and the window is exact; at 1, as in training, so few crops are too few.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.pose_error import add
from pnp_ros.io.resources import resource
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig, RawPrediction, decode
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.training.batches import Batch
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.distributed import Group
from pnp_ros.training.losses import keypoint_loss
from pnp_ros.training.optimisation import Phase, PhaseConfig
from pnp_ros.training.samples import ObjectSampler, ObjectSamplerFactory, randomisation
from pnp_ros.training.steps import images, of_present
from pnp_ros.types import Correspondences
from synthetic.printed_box import printed_box

KEYPOINTS, CPU = 16, torch.device("cpu")
PART = 16  # crops of one object; a batch is three of these parts, of one object or of each
CUBE = Path(__file__).parents[2].parent / "shared/data/cube/cube.obj"


class SetNetwork(nn.Module):
    """A keypoint network whose last layers are those of several objects."""

    def __init__(self, objects: int, side: int, width: int) -> None:
        super().__init__()
        self.objects = objects
        self.network = KeypointNetwork(KeypointNetworkConfig(KEYPOINTS * objects, crop_size=side, width=width))
        self.network.presence = nn.Linear(self.network.presence.in_features, objects)

    def forward(self, seen: Tensor, owner: Tensor) -> RawPrediction:
        """(B, 3, S, S) RGB in [0, 1] to the maps of each crop's own object, told by ``owner`` (B,)."""
        fine, coarse = self.network.pyramid(seen)
        maps = self.network.output(self.network.head(fine)).float()
        rows, places = torch.arange(len(seen)), KEYPOINTS * self.objects
        heat = maps[:, :places].unflatten(1, (self.objects, KEYPOINTS))[rows, owner]
        factor = maps[:, places:].unflatten(1, (self.objects, KEYPOINTS, 2))[rows, owner].clamp(-4.0, 4.0)
        return RawPrediction(heat, factor, self.network.presence(coarse.mean((-2, -1)).float())[rows, owner])


def step(network: nn.Module, batch: Batch, _: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a training step: of the heat maps alone."""
    return keypoint_loss(network(images(batch), batch["owner"]), batch["keypoints"], batch["present"])


def maker(mesh: TriangleMesh, side: int, seed: int, difficulty: float) -> ObjectSampler:
    """Of crops of an object."""
    ranges = randomisation(TrainingConfig(), side, KeypointNetworkConfig.crop_margin)
    points = torch.from_numpy(select_keypoints(mesh, KEYPOINTS))
    made = ObjectSamplerFactory(mesh, points, Symmetry(), ranges, easy_until=1.0)(seed)
    made.at(difficulty)
    return made


def parts(sampler: ObjectSampler, owner: int, count: int) -> list[Batch]:
    """So many parts of a batch."""
    made = []
    for _ in range(count):
        sampler.refresh(-(-PART // 6))  # a render serves six crops, as in training
        made.append(sampler.batch("crops", PART) | {"owner": torch.full((PART,), owner)})
    return made


def joined(each: Iterable[tuple[Batch, ...]]) -> Iterator[Batch]:
    """Batches of parts."""
    for several in each:
        yield {name: torch.cat([part[name] for part in several]) for name in several[0]}


def trained(objects: int, batches: Iterable[Batch], steps: int, side: int, width: int) -> SetNetwork:
    """A network after so many steps; the learning rate follows them, not the time."""
    torch.manual_seed(0)
    clock = itertools.count(0.0)
    with tempfile.TemporaryDirectory() as folder:
        config = PhaseConfig("set", float(steps), checkpoint_seconds=1e6)
        network = SetNetwork(objects, side, width)
        phase = Phase(network, step, config, Path(folder), CPU, Group(CPU), lambda: next(clock))
        done = phase.run(iter(batches), lambda _: None)
    assert isinstance(done, SetNetwork)
    return done


@torch.inference_mode()
def judge(network: SetNetwork, batch: Batch, owner: int, mesh: TriangleMesh) -> tuple[float, float, float]:
    """Median error of keypoints in crop pixels, and shares of poses within 10 and 5 % of the diameter (ADD)."""
    raw = network(images(batch), torch.full((len(batch["images"]),), owner))
    prediction = decode(raw)
    shown = batch["present"]
    off = (prediction.image_points - batch["keypoints"]).norm(dim=-1)[shown]
    points = torch.from_numpy(select_keypoints(mesh, KEYPOINTS)).expand(len(shown), -1, -1)
    every = Correspondences(prediction.image_points, points, 1.0 / prediction.sigma)
    found, cameras, truth = of_present(every, batch)
    errors = []
    for k in range(len(found.image_points)):
        one = Correspondences(found.image_points[k], found.object_points[k], found.weights[k])
        camera = Camera(cameras.model, cameras.intrinsics[k], cameras.distortion, cameras.width, cameras.height)
        pose = solve_pnp(one, camera, loss=Cauchy(2.0)).pose
        errors.append(float(add(pose, truth[k], torch.from_numpy(mesh.vertices))) / mesh.diameter)
    near = np.array(errors)
    return float(off.median()), 100.0 * float((near < 0.1).mean()), 100.0 * float((near < 0.05).mean())


def cost(network: SetNetwork, side: int) -> tuple[float, float]:
    """Million weights, and milliseconds of CPU a crop."""
    crop, owner = torch.rand(1, 3, side, side), torch.zeros(1, dtype=torch.long)
    network.eval()
    with torch.inference_mode():
        for _ in range(5):
            network(crop, owner)
        begin = time.process_time()
        for _ in range(30):
            network(crop, owner)
    return sum(p.numel() for p in network.parameters()) / 1e6, 1e3 * (time.process_time() - begin) / 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=30000, help="that are learnt from, of each object")
    parser.add_argument("--side", type=int, default=64, help="of a crop, pixels")
    parser.add_argument("--width", type=int, default=16, help="of the networks")
    parser.add_argument("--difficulty", type=float, default=0.0, help="of the crops, 0 to 1")
    parser.add_argument("--judged", type=int, default=300, help="crops of each object")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    side, width, hard = arguments.side, arguments.width, arguments.difficulty
    demo = load_object_package(resource("config/objects/demo")).mesh
    other = {"cube": load_mesh(CUBE)} if CUBE.is_file() else {"box 1": printed_box(1)}
    meshes = {"demo": demo, **other, "box 0": printed_box(0)}
    held_out = [maker(mesh, side, 1000, hard).batch("crops", arguments.judged) for mesh in meshes.values()]
    steps = arguments.crops // (PART * len(meshes))
    begin = time.process_time()
    stock = [parts(maker(m, side, 1, hard), k, steps * len(meshes)) for k, m in enumerate(meshes.values())]
    print(f"{time.process_time() - begin:.0f} s of CPU for the crops")
    print("object | network | keypoints off, px | within 10 %, 5 % | M weights | ms a crop | s of training")
    for own, batch, (name, mesh) in zip(stock, held_out, meshes.items()):
        alone = [part | {"owner": torch.zeros(PART, dtype=torch.long)} for part in own]
        for kind, together in (("its own", len(meshes)), ("its own, small steps", 1)):
            begin = time.process_time()
            batches = joined(zip(*[iter(alone)] * together))
            network = trained(1, batches, len(alone) // together, side, width)
            seconds, (weights, milliseconds) = time.process_time() - begin, cost(network, side)
            figures = judge(network, batch, 0, mesh)
            print(f"{name} | {kind} | {_row(figures)} | {weights:.2f} | {milliseconds:.1f} | {seconds:.0f}", flush=True)
    begin = time.process_time()
    network = trained(len(meshes), joined(zip(*stock)), steps * len(meshes), side, width)
    seconds, (weights, milliseconds) = time.process_time() - begin, cost(network, side)
    for owner, (batch, (name, mesh)) in enumerate(zip(held_out, meshes.items())):
        figures = judge(network, batch, owner, mesh)
        print(f"{name} | shared | {_row(figures)} | {weights:.2f} | {milliseconds:.1f} | {seconds:.0f}", flush=True)


def _row(figures: tuple[float, float, float]) -> str:
    return f"{figures[0]:.2f} | {figures[1]:.0f}, {figures[2]:.0f}"


if __name__ == "__main__":
    main()
