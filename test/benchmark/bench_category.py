"""Objects without a mesh of their own: the pose of mugs that no training has seen, from a network of the category.

Run as ``PYTHONPATH=test python test/benchmark/bench_category.py [--only [rigid-epropnp ...]]``; a repeated call goes on
where it was interrupted, and prints what is done. The box is known, as a detector would give it, and of the mug one
number, its diameter, which an image cannot tell. Proportions are not. Mugs (``synthetic/mugs.py``) stand; right is
within 10 degrees and 10 % of the diameter. Where less than 1 % of a mug's pixels show the handle, a turn about the axis
does not count.

First, without any network: were 16 places on a mug's surface found in the image, and known to be at those of the mean
mug, at those of the mean mug stretched to the true box, or where they truly are, how good would the pose be? ``--only``
without an arm ends here.

Then each arm of a network. All see the same crops in the same order, equally many, at the same learning rates, and
start with the layers of the demo object's network, but for its outputs:

- ``rigid``: keypoints of the mean mug, as large as its diameter says. Their images at the true pose are taught.
- ``deformable`` (the idea of EPro-PnP-Det, arXiv 2303.12787): the network says the object points, too. It starts with
  those of the mean mug stretched to the true box of each mug, which poses and sizes alone give, and is then trained
  through the pose, by which image points, object points and weights move. ``free``: the labels then all but end (a
  tenth of their weight).
- ``labelled``: the same with the true points on each mug's own surface, which takes a mesh of each: a bound from above.

They are judged on one image of each of the mugs that were not seen, in any light, material and clutter.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_losses import BATCH, CPU, _run, interval
from numpy.typing import NDArray
from torch import Tensor, nn

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.geometry import so3
from pnp_ros.networks.edges import seen
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig, RawPrediction, decode
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.models import load_networks
from pnp_ros.rendering.backgrounds import BackgroundSource
from pnp_ros.rendering.camera_effects import apply_camera_effects
from pnp_ros.rendering.domain_randomisation import (
    RandomisationConfig,
    log_uniform,
    random_camera,
    random_lighting,
    random_pose,
)
from pnp_ros.rendering.materials import random_material
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.rendering.training_samples import TrainingSampler
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.distributed import Group
from pnp_ros.training.losses import keypoint_loss
from pnp_ros.training.optimisation import Batch, Phase, PhaseConfig
from pnp_ros.training.pose_losses import PoseLoss
from pnp_ros.training.samples import randomisation
from pnp_ros.training.steps import images as images_of
from pnp_ros.training.steps import of_present
from pnp_ros.types import Correspondences, Pose
from synthetic.mugs import MugShape, mug, random_shape, wall_radius

ARMS = (
    "rigid-heatmap",
    "rigid-epropnp",
    "deformable-heatmap",
    "deformable-epropnp",
    "deformable-free",
    "labelled-epropnp",
)
TRAINED, KEYPOINTS = 300, 16
IN_ONE_MATERIAL = 6  # crops of a training
POINT_WEIGHT = 5.0  # of the object points' distance, diameters
LABELS = {"rigid": "of the mean mug", "deformable": "stretched to the box", "labelled": "the true ones"}
COLUMNS = "within 10 deg and 10 % | 10 deg | 10 % | 10 % aside | median turn | shift |"
PLACED = 600
ROBUST = Cauchy(2.0)  # as the estimator solves
FREE = 0.1  # of the labels' loss that stays
SHOWN = 0.01  # of a mug's pixels
TURN, SHIFT = math.radians(10.0), 0.1
TEST_SCALE, TEST_SHIFT = (math.exp(-0.18), math.exp(0.18)), 0.08  # how far off a box is


@dataclasses.dataclass(frozen=True, eq=False)
class Mug:
    """As large as its diameter: all lengths are shares of that."""

    shape: MugShape
    mesh: TriangleMesh
    diameter: float  # metres

    def handle_share(self, points: NDArray[np.float32]) -> float:
        """Of surface points (N, 3), how many are on the handle: outside of the body's wall."""
        points = points * self.diameter
        wall = wall_radius(self.shape, (points[:, 2] / self.shape.height + 0.5).clip(0.0, 1.0))
        return float((np.hypot(points[:, 0], points[:, 1]) > wall + 1e-3).mean()) if len(points) else 0.0


def made(shape: MugShape) -> Mug:
    """The mug of a shape."""
    mesh = mug(shape)
    return Mug(shape, mesh.scaled(1.0 / mesh.diameter), mesh.diameter)


def stretched(points: NDArray[np.float32], mean: Mug, bounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points of the mean mug in the box of another (2, 3): each axis by itself, the handle's part of x, too."""
    corners = [np.array([-box[1, 1], box[1, 1], box[1, 0]]) for box in (mean.mesh.bounds, bounds)]
    x = np.interp(points[:, 0], *corners)
    y, z = (points[:, axis] * bounds[1, axis] / mean.mesh.bounds[1, axis] for axis in (1, 2))
    return np.stack([x, y, z], 1).astype(np.float32)


# --- what is learnt from and judged on, made once


def crops(
    path: Path, mugs: list[Mug], count: int, seed: int, ranges: RandomisationConfig, each: int = 1
) -> dict[str, NDArray]:
    """``count`` crops of the mugs in turn, ``each`` time that many in one material.

    ``mug`` is which it is, ``handle`` the share of its pixels that show the handle, other things aside.
    """
    if not path.is_file():
        began = time.process_time()
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        mean = made(MugShape()).mesh
        sampler = TrainingSampler(mean, select_keypoints(mean, KEYPOINTS), config=ranges, seed=seed)
        drawn = _drawn(mugs, ranges, each, rng)
        rows: list[tuple[Any, ...]] = []
        images = []
        for first in range(0, count, BATCH):
            taken = list(itertools.islice(drawn, min(BATCH, count - first)))
            sampler.refresh(BATCH // 12)  # other things, other backgrounds
            layers, middles = (np.stack([row[k] for row in taken]) for k in (0, 1))
            layer = torch.from_numpy(layers.transpose(0, 3, 1, 2)).float() / 255.0
            composed = sampler.surround(layer, torch.from_numpy(middles), sampler.backgrounds(len(taken)))
            shot = apply_camera_effects(composed, generator, ranges.effects)
            images.append((shot * 255.0).round().clamp(0.0, 255.0).to(torch.uint8).numpy())
            rows += [row[2:] for row in taken]
        names = ("mug", "intrinsics", "pose", "handle")
        columns = {name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, images=np.concatenate(images), **columns)
        print(f"{count} crops: {time.process_time() - began:.0f} s of CPU time", flush=True)
    with np.load(path) as stored:
        return dict(stored)


def _drawn(
    mugs: list[Mug], ranges: RandomisationConfig, each: int, rng: np.random.Generator
) -> Iterator[tuple[Any, ...]]:
    """Colour and coverage (S, S, 4), the mug's middle in the crop, which mug, intrinsics, pose, handle; endless."""
    sources = BackgroundSource()
    with Renderer(supersampling=1) as renderer:
        for index in itertools.cycle(range(len(mugs))):
            mesh = mugs[index].mesh
            material = random_material(mesh, ranges.colour, sources, rng)
            handle = renderer.add(material.mesh)
            for _ in range(each):
                matrix, crop, middle = _view(mesh, ranges, rng)
                lighting = material.under(random_lighting(rng))
                rgba = renderer.render_rgba([(handle, matrix)], crop, lighting)
                surface = renderer.render([(handle, matrix)], crop)
                share = mugs[index].handle_share(surface.object_coordinates[surface.mask > 0])
                intrinsics = crop.intrinsics.float().numpy()
                yield rgba, middle.astype(np.float32), index, intrinsics, matrix[:3].astype(np.float32), share
            renderer.remove(handle)


def _view(mesh: TriangleMesh, ranges: RandomisationConfig, rng: np.random.Generator) -> tuple[NDArray, Camera, NDArray]:
    """A pose (4, 4), the camera of a crop whose window is a little off, and the mug's middle in it."""
    camera, side = random_camera(ranges, rng).to(dtype=torch.float64), ranges.crop_size
    matrix = random_pose(ranges, camera, mesh.bounds.mean(0).astype(np.float64), 1.0, rng)
    points = torch.from_numpy(mesh.extreme_points).double()
    corners = camera.project(Pose.from_matrix(torch.from_numpy(matrix)).transform(points)).numpy()
    low, high = corners.min(0), corners.max(0)
    window = float((high - low).max()) * ranges.crop_margin * log_uniform(ranges.crop_scale, rng)
    corner = (low + high) / 2 + ranges.crop_shift * window * rng.uniform(-1, 1, 2) + 0.5 - window / 2
    middle = ((low + high) / 2 + 0.5 - corner) * side / window - 0.5
    return matrix, camera.crop(*corner.tolist(), window, window, side, side), middle


def mirrored(data: dict[str, NDArray], side: int) -> dict[str, NDArray]:
    """The crops, and each of them in a mirror, where a mug is a mug: the left half of it is as the right one."""
    intrinsics, pose = data["intrinsics"].copy(), data["pose"].copy()
    intrinsics[:, 2] = side - 1 - intrinsics[:, 2]
    pose[:, 0] *= -1.0
    pose[:, :, 1] *= -1.0
    images = np.ascontiguousarray(data["images"][:, ::-1, :, ::-1])  # its colours are others, too
    twin = data | {"images": images, "intrinsics": intrinsics, "pose": pose}
    return {name: np.concatenate([data[name], twin[name]]) for name in data}


def object_points(mugs: list[Mug], mean: Mug, label: str) -> NDArray[np.float32]:
    """(M, K, 3) of each mug: where the keypoints of the mean mug are for an arm of this kind."""
    points = select_keypoints(mean.mesh, KEYPOINTS)
    if label == "deformable":
        return np.stack([stretched(points, mean, one.mesh.bounds) for one in mugs])
    if label == "labelled":
        nearest = np.linalg.norm(mean.mesh.vertices[None] - points[:, None], axis=-1).argmin(1)
        return np.stack([one.mesh.vertices[nearest] for one in mugs])
    return np.stack([points] * len(mugs))


def told(data: dict[str, NDArray], each: NDArray[np.float32]) -> dict[str, NDArray]:
    """The crops with the object points (M, K, 3) of the mugs that they show, and with their images."""
    objects = torch.from_numpy(each[data["mug"]])
    pixels = camera_of(data, data["images"].shape[-1]).project(pose_of(data).transform(objects))
    labels = {"points": objects.numpy(), "keypoints": pixels.numpy(), "present": np.ones(len(objects), bool)}
    return {name: data[name] for name in ("images", "intrinsics", "pose")} | labels


def camera_of(data: dict[str, NDArray], side: int) -> Camera:
    """Of crops of that many pixels a side."""
    return Camera(CameraModel.PINHOLE, torch.from_numpy(data["intrinsics"]), torch.zeros(0), side, side)


def pose_of(data: dict[str, NDArray]) -> Pose:
    """The true ones."""
    pose = torch.from_numpy(data["pose"])
    return Pose(pose[..., :3], pose[..., 3])


# --- without a network


def places(mugs: list[Mug], mean: Mug, ranges: RandomisationConfig) -> str:
    """A table: right poses from places on each mug's surface, found with some noise, by what is known of the mug."""
    rng, generator = np.random.default_rng(5), torch.Generator().manual_seed(5)
    views = [(k % len(mugs), *_view(mugs[k % len(mugs)].mesh, ranges, rng)[:2]) for k in range(PLACED)]
    data = {
        "mug": np.array([index for index, *_ in views]),
        "intrinsics": np.stack([camera.intrinsics.float().numpy() for *_, camera in views]),
        "pose": np.stack([matrix[:3].astype(np.float32) for _, matrix, _ in views]),
        "handle": np.ones(len(views)),
    }
    objects = {label: torch.from_numpy(object_points(mugs, mean, label)[data["mug"]]) for label in LABELS}
    camera = camera_of(data, ranges.crop_size)
    exact = camera.project(pose_of(data).transform(objects["labelled"]))
    lines = ["| places found to | object points | " + COLUMNS, "|---" * 8 + "|"]
    for sigma in (0.0, 1.0, 2.0):
        pixels = exact + sigma * torch.randn(exact.shape, generator=generator)
        for label, points in objects.items():
            found = Correspondences(pixels, points, torch.full_like(pixels, 1.0 / 1.5))
            errors = errors_of(solve_pnp(found, camera, loss=ROBUST).pose, data)
            lines.append(f"| {sigma:g} px | {LABELS[label]} | {row(errors)}")
    return "\n".join(lines)


# --- training


class CategoryNetwork(nn.Module):
    """A keypoint network that may also say where on the object its keypoints are.

    Args:
        config: of the keypoint network.
        mean: (K, 3) object points to start from.
        deforms: whether they are the network's to say.
    """

    mean: Tensor

    def __init__(self, config: KeypointNetworkConfig, mean: Tensor, deforms: bool) -> None:
        super().__init__()
        self.keypoints, self.deforms = KeypointNetwork(config), deforms
        self.shape = nn.Linear(5 * config.width, mean.numel())
        nn.init.zeros_(self.shape.weight)
        nn.init.zeros_(self.shape.bias)
        self.register_buffer("mean", mean)

    def forward(self, images: Tensor) -> tuple[RawPrediction, Tensor]:
        """Keypoints, and their object points (B, K, 3) in diameters."""
        fine, coarse = self.keypoints.pyramid(seen(images, self.keypoints.config.sees))
        points = self.mean.expand(len(images), -1, -1)
        if self.deforms:
            points = points + self.shape(coarse.mean((-2, -1))).float().unflatten(-1, self.mean.shape)
        return self.keypoints.read(fine, coarse), points


@dataclasses.dataclass(frozen=True, eq=False)
class CategoryStep:
    """The labels' loss, and from a share of the steps on the pose's beside it.

    Args:
        pose_loss: of the pose.
        begin: when it joins in, 0 to 1.
        stays: share of the labels' loss from then on.
    """

    pose_loss: PoseLoss
    begin: float
    stays: float

    def __call__(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss and figures to show."""
        raw, points = network(images_of(batch))
        loss, figures = keypoint_loss(raw, batch["keypoints"], batch["present"])
        off = (points - batch["points"]).abs().sum(-1).mean()
        loss, figures = loss + POINT_WEIGHT * off, figures | {"points": off.detach()}
        if self.pose_loss.kind == "heatmap" or progress < self.begin:
            return loss, figures
        prediction = decode(raw)
        found = Correspondences(prediction.image_points, points, 1.0 / prediction.sigma)
        term, more = self.pose_loss(*of_present(found, batch))
        return self.stays * loss + term, figures | more


def train(arm: str, data: dict[str, NDArray], mean: Tensor, arguments: argparse.Namespace) -> nn.Module:
    """The averaged network of an arm; arms of one kind share their start."""
    label, _, loss = arm.partition("-")
    steps, folder = arguments.seen // BATCH, arguments.out / f"{label}-{_settings(arguments)}"
    start, target = (folder / name / "network.safetensors" for name in ("start", loss))
    if not target.is_file():
        shared = _phase(label, "heatmap", mean, arguments, start.parent)
        _run(shared, data, int(arguments.begin * steps), arguments, f"{label} start")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(start, target)
    phase = _phase(label, loss, mean, arguments, target.parent)
    _run(phase, data, steps, arguments, arm)
    return phase.average.eval()


def _settings(arguments: argparse.Namespace) -> str:
    rates = f"{arguments.begin:g}-{arguments.learning_rate:g}"
    return f"side{arguments.side}-{arguments.crops}-{arguments.seen}-{rates}-{arguments.seed}"


def _phase(label: str, loss: str, mean: Tensor, arguments: argparse.Namespace, folder: Path) -> Phase:
    torch.manual_seed(arguments.seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = KeypointNetworkConfig(KEYPOINTS, arguments.side)
    network = CategoryNetwork(config, mean, deforms=label != "rigid")
    demo, _ = load_networks(load_object_package("config/objects/demo"))
    network.keypoints.pyramid.load_state_dict(demo.pyramid.state_dict())
    pose_loss = PoseLoss("heatmap" if loss == "heatmap" else "epropnp", mean, arguments.seed)
    step = CategoryStep(pose_loss, arguments.begin, FREE if loss == "free" else 1.0)
    steps = arguments.seen // BATCH
    phase = PhaseConfig("network", float(steps), arguments.learning_rate, checkpoint_seconds=50.0)
    clock = itertools.count()  # a step is a second
    return Phase(network, step, phase, folder, CPU, Group(CPU), lambda: float(next(clock)))


# --- judging


@torch.inference_mode()
def judged(network: nn.Module, data: dict[str, NDArray]) -> dict[str, NDArray]:
    """The errors of a network's poses."""
    poses = []
    for first in range(0, len(data["images"]), 50):
        batch = {name: values[first : first + 50] for name, values in data.items()}
        raw, points = network(images_of({"images": torch.from_numpy(batch["images"])}))
        prediction = decode(raw)
        found = Correspondences(prediction.image_points, points.contiguous(), 1.0 / prediction.sigma)
        poses.append(solve_pnp(found, camera_of(batch, batch["images"].shape[-1]), loss=ROBUST).pose)
    rotation, translation = (torch.cat([getattr(pose, name) for pose in poses]) for name in ("rotation", "translation"))
    return errors_of(Pose(rotation, translation), data)


def errors_of(pose: Pose, data: dict[str, NDArray]) -> dict[str, NDArray]:
    """Turn, that of the axis alone, radians; shift, and that across the line of sight alone, diameters."""
    true = pose_of(data)
    turn = so3.angle_between(pose.rotation, true.rotation)
    axis = (pose.rotation[..., 2] * true.rotation[..., 2]).sum(-1).clamp(-1.0, 1.0).arccos()
    shift = pose.translation - true.translation
    aside = torch.linalg.cross(shift, nn.functional.normalize(true.translation, dim=-1))
    return {
        "turn": np.where(data["handle"] < SHOWN, axis.numpy(), turn.numpy()),
        "axis": axis.numpy(),
        "shift": shift.norm(dim=-1).numpy(),
        "aside": aside.norm(dim=-1).numpy(),
    }


def row(errors: dict[str, NDArray]) -> str:
    """Of a table with :data:`COLUMNS`."""
    near, there = errors["turn"] < TURN, errors["shift"] < SHIFT
    shares = " | ".join(interval(hits) for hits in (near & there, near, there, errors["aside"] < SHIFT))
    turns, shifts = math.degrees(np.median(errors["turn"])), 100 * np.median(errors["shift"])
    return f"{shares} | {turns:.1f} deg | {shifts:.1f} % |"


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench_category"))
    parser.add_argument("--only", nargs="*", default=ARMS, choices=ARMS)
    parser.add_argument("--seen", type=int, default=24_000, help="crops that each arm sees")
    parser.add_argument("--crops", type=int, default=4_000, help="different ones, each of them in a mirror, too")
    parser.add_argument("--images", type=int, default=200, help="judged, each of another mug")
    parser.add_argument("--begin", type=float, default=TrainingConfig.pose_loss_begin, help="of the loss of the pose")
    parser.add_argument("--side", type=int, default=64, help="of the crops, pixels")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(7)
    mean = made(MugShape())
    known, others = ([made(random_shape(rng)) for _ in range(count)] for count in (TRAINED, arguments.images))
    ranges = randomisation(TrainingConfig(views="upper", max_roll=30.0, colour=("any",)), arguments.side, 1.25)
    judging = dataclasses.replace(ranges, crop_scale=TEST_SCALE, crop_shift=TEST_SHIFT)
    clear, hidden = (dataclasses.replace(judging, occlusion=share) for share in (0.0, 1.0))
    folder, side, count = arguments.out, arguments.side, arguments.images
    print(places(others, mean, clear), flush=True)
    if not arguments.only:
        return
    data = crops(folder / f"crops-{side}-{arguments.crops}.npz", known, arguments.crops, 1, ranges, IN_ONE_MATERIAL)
    tests = {
        "unseen mugs": crops(folder / f"unseen-{side}-{count}.npz", others, count, 2, clear),
        "behind things": crops(folder / f"hidden-{side}-{count}.npz", others, count, 3, hidden),
    }
    start = torch.from_numpy(select_keypoints(mean.mesh, KEYPOINTS))
    lines = ["| arm | images | " + COLUMNS, "|---" * 8 + "|"]
    for arm in arguments.only:
        path = folder / f"{arm}-{_settings(arguments)}-{count}.json"
        if not path.is_file():
            each = object_points(known, mean, arm.partition("-")[0])
            network = train(arm, told(mirrored(data, side), each), start, arguments)
            found = {name: judged(network, images) for name, images in tests.items()}
            plain = {name: {key: values.tolist() for key, values in errors.items()} for name, errors in found.items()}
            path.write_text(json.dumps(plain))
        for name, errors in json.loads(path.read_text()).items():
            lines.append(f"| {arm} | {name} | {row({key: np.array(values) for key, values in errors.items()})}")
    print(f"\nthe handle is seen in {np.mean(tests['unseen mugs']['handle'] >= SHOWN):.0%} of the images")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
