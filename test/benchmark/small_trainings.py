"""Small trainings to compare ways of training by: a stock of crops, a network after a budget, and how good it is.

An object with a texture is learnt by its colours, any other by its edges, as in ``pnp-ros train``.

A crop is half as wide as in ``pnp-ros train`` and so is the network, for a tenth of the time. The budget is counted in
seconds that each step *would* cost at full size, so that ways whose steps cost more are compared at equal time,
whatever else the machine does.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.pose_error import add
from pnp_ros.networks.edges import Sees
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig, decode
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.materials import ANY, likely_colours
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.training.batches import Batch
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.distributed import Group
from pnp_ros.training.optimisation import Phase, PhaseConfig, StepLoss
from pnp_ros.training.samples import ObjectSamplerFactory, randomisation
from pnp_ros.training.steps import images, of_present
from pnp_ros.types import Correspondences
from synthetic.cad_parts import PARTS

KEYPOINTS, SIDE, WIDTH, CPU = 16, 64, 16, torch.device("cpu")
FULL = 2  # times SIDE and WIDTH: as in training
_PART, _REUSE = 16, 6  # crops made at once; a render serves six crops, as in training


def mesh_of(name: str) -> TriangleMesh:
    """One of the CAD parts, the demo's object, or that without its texture."""
    if name in PARTS:
        return PARTS[name]()
    demo = demo_mesh()
    return demo if name == "demo" else TriangleMesh(demo.vertices, demo.faces)


@dataclass(frozen=True, eq=False)
class Stock:
    """Crops of one object, the easy ones first, as a training sees them.

    Args:
        mesh: in metres.
        keypoints: (K, 3) metres.
        crops: of a batch each.
    """

    mesh: TriangleMesh
    keypoints: torch.Tensor
    crops: Batch

    def draw(self, share: float, generator: torch.Generator, count: int) -> Batch:
        """``count`` crops near a share, 0 to 1, of the stock; another time others."""
        total = len(self.crops["images"])
        window = max(count, total // 20)
        first = int(min(share, 1.0) * (total - window))
        rows = first + torch.randperm(window, generator=generator)[:count]
        return {name: tensor[rows] for name, tensor in self.crops.items()}


def as_in_training(share: float) -> float:
    """How difficult crops are when that share of the budget is spent."""
    return min(1.0, 2.0 * share)


def stock(
    mesh: TriangleMesh,
    count: int,
    seed: int,
    difficulty: Callable[[float], float] = as_in_training,
    scale: int = 1,
) -> Stock:
    """``count`` crops of a mesh, in its own colours if it has a texture, else in any.

    ``difficulty``, 0 to 1, of each is told by its share of the stock; crops are ``scale`` times as wide.
    """
    points = torch.from_numpy(select_keypoints(mesh, KEYPOINTS))
    ranges = randomisation(TrainingConfig(colour=likely_colours(mesh)), SIDE * scale, KeypointNetworkConfig.crop_margin)
    sampler = ObjectSamplerFactory(mesh, points, Symmetry(), ranges, easy_until=1.0)(seed)
    made: list[Batch] = []
    for index in range(0, count, _PART):
        sampler.at(difficulty(index / count))
        sampler.refresh(math.ceil(_PART / _REUSE))
        made.append(sampler.batch("crops", _PART))
    return Stock(mesh, points, {name: torch.cat([each[name] for each in made]) for name in made[0]})


def network(seed: int, sees: Sees = "edges", scale: int = 1) -> KeypointNetwork:
    """With random weights, for crops ``scale`` times as wide."""
    torch.manual_seed(seed)
    return KeypointNetwork(KeypointNetworkConfig(KEYPOINTS, SIDE * scale, WIDTH * scale, sees=sees))


def seen_of(mesh: TriangleMesh) -> Sees:
    """What ``pnp-ros train`` would look at."""
    return "edges" if ANY in likely_colours(mesh) else "colours"


def trained(
    start: nn.Module,
    step: StepLoss,
    source: Callable[[float, torch.Generator], Batch],
    cost: Callable[[float], float],
    budget: float,
    seed: int,
    learning_rate: float = 2e-3,
    watch: Callable[[nn.Module, int], None] = lambda network, seen: None,
) -> tuple[nn.Module, int]:
    """The averaged network when the budget is spent, and after how many crops.

    Args:
        start: that is trained.
        step: network, batch and share of the budget to the loss.
        source: of batches, for a share of the budget, 0 to 1.
        cost: of a step at that share, seconds.
        budget: seconds.
        seed: of the order of the crops.
        learning_rate: the largest one.
        watch: is told the averaged network every five steps, and of how many crops it is.
    """
    spent, seen, generator = 0.0, 0, torch.Generator().manual_seed(seed)

    def batches() -> Iterator[Batch]:
        nonlocal spent, seen
        while True:
            batch = source(spent / budget, generator)
            seen += len(batch["images"])
            yield batch
            spent += cost(spent / budget)

    with tempfile.TemporaryDirectory() as folder:
        config = PhaseConfig("small", budget, learning_rate, checkpoint_seconds=1e6)
        phase = Phase(start, step, config, Path(folder), CPU, Group(CPU), lambda: spent)
        return phase.run(batches(), lambda progress: watch(phase.average, progress.samples)), seen


@dataclass(frozen=True)
class Figures:
    """Median error of keypoints in pixels of 128, and shares of poses within 5, 10 and 20 % of the diameter (ADD)."""

    pixels: float
    twentieth: float
    tenth: float
    fifth: float

    def __str__(self) -> str:
        shares = (100 * share for share in (self.twentieth, self.tenth, self.fifth))
        return "{:.1f} px, {:.0f}, {:.0f} and {:.0f} %".format(self.pixels, *shares)


@torch.inference_mode()
def judge(finished: nn.Module, held_out: Stock) -> Figures:
    """By crops that nothing learnt from, each pose solved from the keypoints alone."""
    batch, side = held_out.crops, held_out.crops["images"].shape[-1]
    parts = [decode(finished(images({"images": part}))) for part in batch["images"].split(100)]
    points, sigma = (torch.cat([getattr(part, name) for part in parts]) for name in ("image_points", "sigma"))
    off = (points - batch["keypoints"]).norm(dim=-1)[batch["present"]]
    objects = held_out.keypoints.expand(len(points), -1, -1)
    found, cameras, truth = of_present(Correspondences(points, objects, 1.0 / sigma), batch)
    vertices, errors = torch.from_numpy(held_out.mesh.vertices), []
    for k in range(len(found.image_points)):
        one = Correspondences(found.image_points[k], found.object_points[k], found.weights[k])
        camera = Camera(cameras.model, cameras.intrinsics[k], cameras.distortion, cameras.width, cameras.height)
        pose = solve_pnp(one, camera, loss=Cauchy(2.0)).pose
        errors.append(float(add(pose, truth[k], vertices)) / held_out.mesh.diameter)
    near = np.array(errors)
    return Figures(float(off.median()) * 128 / side, *(float((near < share).mean()) for share in (0.05, 0.1, 0.2)))
