"""Which loss trains the better network: {keypoints, dense} x {heat map, EPro-PnP, linear covariance, both}.

Run as ``python test/benchmark/bench_losses.py [--seen 70000] [--only keypoints-heatmap keypoints-epropnp]``; a repeated
call goes on where it was interrupted, and prints the table of what is done. All runs see the same crops of the demo
object in the same order, equally many, at the same learning rates; those of a network share their start, until the
loss through the pose joins in. They are judged on the same images, each at three levels of occlusion, in a box that is
a little off, as a detector's is: any pose that comes of it counts, whether the estimator would call it valid or not.
``--side 64 --width 16`` is the same at half the resolution, for a sixth of the time.
"""

from __future__ import annotations

import argparse
import contextlib
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
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import box_from_pose
from pnp_ros.evaluation import consistency, pose_error
from pnp_ros.geometry import so3
from pnp_ros.io.checkpoints import serialised
from pnp_ros.networks.keypoint_network import STRIDE, KeypointNetworkConfig
from pnp_ros.objects.object_package import ObjectPackage, load_object_package, write_object_package
from pnp_ros.pipeline.calibration import Doubt
from pnp_ros.pipeline.calibration_fit import fit_calibration
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import load_networks, weights_of
from pnp_ros.rendering.backgrounds import BackgroundSource
from pnp_ros.rendering.distractors import painted_sprite
from pnp_ros.rendering.domain_randomisation import with_views
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.rendering.renderer import composite
from pnp_ros.rendering.validation_frames import validation_frames
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.distributed import Group
from pnp_ros.training.optimisation import Batch, Phase, PhaseConfig, Progress, StepLoss
from pnp_ros.training.pose_losses import LOSSES, PoseLoss
from pnp_ros.training.samples import ObjectSamplerFactory, randomisation
from pnp_ros.training.steps import DenseStep, KeypointStep
from pnp_ros.training.trainer import initial_networks, new_network
from pnp_ros.types import Pose

RUNS = (*(f"{network}-{loss}" for network in ("keypoints", "dense") for loss in LOSSES), "dense-epropnp/poses")
LEVELS = (0.0, 0.3, 0.6)  # of the object's pixels that are hidden
BATCH = 48  # crops that are made at once
FULL = 128  # pixels, the side of the crops
CPU = torch.device("cpu")
# whatever pose the solver finds, whoever would doubt it
LAX = EstimatorConfig(
    sources=("keypoints",),
    align=False,
    track=False,
    lost_presence=0.0,
    valid_presence=0.0,
    min_inliers=4,
    valid_inliers=0.0,
    max_chi_square=1e9,
    max_keypoint_sigma=1e9,
    max_rotation_sigma=1e9,
    max_translation_sigma=1e9,
    max_passes=2,
    hypotheses=False,
    settled=1.0,
)


@dataclasses.dataclass(frozen=True)
class Images:
    """(N, H, W, 3) uint8 images with intrinsics (N, 4), true poses (N, 4, 4), boxes (N, 4) and visible share (N).

    A box of NaN: the object is to be searched.
    """

    images: NDArray[np.uint8]
    intrinsics: NDArray[np.float32]
    poses: NDArray[np.float32]
    boxes: NDArray[np.float32]
    visible: NDArray[np.float32]


# --- what is learnt from and judged on, made once


def crops(folder: Path, package: ObjectPackage, count: int) -> dict[str, NDArray]:
    """``count`` training crops, the same for all runs."""
    names = ("images", "keypoints", "present", "intrinsics", "pose", "coordinates")
    target = folder / f"crops-{count}"
    if not target.is_dir():
        config = KeypointNetworkConfig.from_plain(package.network)
        ranges = with_views(randomisation(TrainingConfig(), config.crop_size, config.crop_margin), package.views)
        factory = ObjectSamplerFactory(package.mesh, torch.from_numpy(package.keypoints), package.symmetry, ranges)
        sampler, begin = factory(seed=1), time.process_time()
        made: dict[str, list[NDArray]] = {name: [] for name in names}
        for _ in range(math.ceil(count / BATCH)):
            sampler.refresh(BATCH // 6)
            batch = sampler.batch("dense", BATCH)
            batch["coordinates"] = batch["coordinates"].half()
            for name in names:
                made[name].append(batch[name].numpy())
        working = folder / "crops.working"
        working.mkdir(parents=True, exist_ok=True)
        for name in names:
            np.save(working / f"{name}.npy", np.concatenate(made.pop(name)))
        working.rename(target)
        print(f"{count} crops: {time.process_time() - begin:.0f} s of CPU time", flush=True)
    return {name: np.load(target / f"{name}.npy", mmap_mode="r") for name in names}


def test_images(folder: Path, package: ObjectPackage, count: int, level: float | None, seed: int) -> Images:
    """``count`` images, ``level`` of the object hidden; None: anything up to the largest level.

    What the scene's other things hide comes on top: it is little, and the same at each level.
    """
    path = folder / f"images-{count}-{level}-{seed}.npz"
    if not path.is_file():
        rng = np.random.default_rng(seed)
        looks = TrainingConfig(colour=package.colour or TrainingConfig.colour)
        ranges = with_views(randomisation(looks, 128, 1.25), package.views)
        ranges = dataclasses.replace(ranges, occlusion=0.0, negatives=0.0)
        mesh, backgrounds = RayMesh(package.mesh), BackgroundSource()
        extent = torch.from_numpy(package.mesh.extreme_points)
        rows: list[tuple[Any, ...]] = []
        for frame in validation_frames(package.mesh, ranges, count, seed):
            assert frame.T_camera_object is not None
            pose = Pose.from_matrix(torch.from_numpy(frame.T_camera_object).float())
            x, y, width, height = box_from_pose(frame.camera, pose, extent)
            mask = mesh.view(pose, frame.camera).mask.astype(bool)
            hidden = rng.uniform(0.0, LEVELS[-1]) if level is None else level
            image, visible = covered(frame.rgb, mask, hidden, max(width, height), backgrounds, rng)
            side = max(width, height) * math.exp(rng.uniform(-0.18, 0.18))
            middle = np.array([x + width / 2, y + height / 2]) + 0.08 * max(width, height) * rng.uniform(-1, 1, 2)
            box = (*(middle - side / 2), side, side)
            rows.append((image, frame.camera.intrinsics.numpy(), frame.T_camera_object, box, visible))
        columns = [np.stack(column) for column in zip(*rows, strict=True)]
        types = (np.uint8, *[np.float32] * 4)
        np.savez(path, *[column.astype(kind) for column, kind in zip(columns, types, strict=True)])
    with np.load(path) as stored:
        return Images(*(stored[f"arr_{i}"] for i in range(5)))


def covered(
    rgb: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    level: float,
    length: float,
    backgrounds: BackgroundSource,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], float]:
    """The image with something pushed before the object until ``level`` of it is hidden, and the share that is not."""
    whole = max(int(mask.sum()), 1)
    if level <= 0.0:
        return rgb, 1.0
    best: tuple[float, NDArray[np.uint8], float] | None = None
    for _ in range(8):  # some shapes have too many holes
        size = int(1.6 * length)
        sprite = painted_sprite(size, backgrounds, rng)
        rows, columns = np.nonzero(mask)
        middle = np.array([columns.mean(), rows.mean()])
        angle = rng.uniform(0, 2 * math.pi)
        direction = np.array([math.cos(angle), math.sin(angle)])
        low, high = 0.0, 1.6  # lengths away from the object
        for _ in range(9):
            away = (low + high) / 2
            layer = laid(sprite, middle + away * length * direction, mask.shape)
            hidden = 1.0 - float((mask & (layer[..., 3] < 128)).sum()) / whole
            low, high = (low, away) if hidden < level else (away, high)
        if best is None or abs(hidden - level) < best[0]:
            best = abs(hidden - level), composite(layer, rgb), 1.0 - hidden
        if best[0] < 0.03:
            break
    assert best is not None
    return best[1], best[2]


def laid(sprite: NDArray[np.uint8], middle: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W, 4) with the sprite's middle at a pixel."""
    size, (height, width) = len(sprite), shape
    x, y = (int(np.clip(v - size / 2, -size, limit)) + size for v, limit in zip(middle, (width, height), strict=True))
    layer = np.zeros((height + 2 * size, width + 2 * size, 4), np.uint8)
    layer[y : y + size, x : x + size] = sprite
    return layer[size : size + height, size : size + width]


# --- training


class _ForkError(Exception):
    """The shared start of a network's runs has ended."""


def train(run: str, data: dict[str, NDArray], package: ObjectPackage, arguments: argparse.Namespace) -> nn.Module:
    """The averaged network of a run after ``--seen`` images."""
    kind, _, loss = run.partition("-")
    steps, begin = arguments.seen // arguments.batch, arguments.begin
    folder = arguments.out / f"{kind}-{_settings(arguments)}"
    fork = folder / "start" / "network.safetensors"
    target = folder / loss / "network.safetensors"
    if not target.is_file() and int(begin * steps) > 0 and "/" not in loss:
        shared = _phase(kind, "heatmap", package, arguments, fork.parent)
        _run(shared, data, int(begin * steps), arguments, f"{kind} start", arguments.batch)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(fork, target)
    phase = _phase(kind, loss, package, arguments, target.parent)
    _run(phase, data, steps, arguments, run, arguments.batch)
    return phase.average


def _settings(arguments: argparse.Namespace) -> str:
    """Those that change what is learnt, as a part of a file's name."""
    start = "demo" if arguments.from_demo else f"width{arguments.width}"
    start += "" if arguments.side == FULL else f"-side{arguments.side}"
    start += f"-steps{arguments.batch}"
    return f"{start}-{arguments.seen}-{arguments.begin:g}-{arguments.learning_rate:g}-{arguments.seed}"


def _phase(kind: str, loss: str, package: ObjectPackage, arguments: argparse.Namespace, folder: Path) -> Phase:
    torch.manual_seed(arguments.seed)
    folder.mkdir(parents=True, exist_ok=True)
    own, _, poses = loss.partition("/")
    options = TrainingConfig(
        network=kind,  # type: ignore[arg-type]
        loss=own,  # type: ignore[arg-type]
        width=arguments.width,
        num_keypoints=len(package.keypoints),
        from_poses=poses == "poses",
    )
    points = torch.from_numpy(package.keypoints)
    start = package.root if arguments.from_demo else None
    fresh = new_network(options, package.mesh)
    fresh.config = _sized(fresh.config, arguments.side)
    network, _ = initial_networks(fresh, load_networks(package)[1], package.keypoints, start)
    pose_loss = PoseLoss(options.loss, points, arguments.seed, together=kind == "dense")
    step: StepLoss = KeypointStep(pose_loss, points, arguments.begin)
    if kind == "dense":
        box = torch.from_numpy(package.mesh.bounds) if options.from_poses else None
        step = DenseStep(pose_loss, package.diameter, arguments.begin, box)
    rate = arguments.learning_rate
    config = PhaseConfig("network", float(arguments.seen // arguments.batch), rate, checkpoint_seconds=50.0)
    clock = itertools.count()  # a step is a second
    return Phase(network, step, config, folder, CPU, Group(CPU), lambda: float(next(clock)))


def _sized(config: Any, side: int) -> Any:
    """A network's settings for crops of another side; its layers are the same."""
    sizes = {"crop_size": side} | (
        {"count": min(config.count, (side // STRIDE) ** 2)} if config.kind == "dense" else {}
    )
    return dataclasses.replace(config, **sizes)


def smaller(batch: Batch, side: int) -> Batch:
    """A batch whose crops have ``side`` pixels, each the mean of those that it covers."""
    factor = batch["images"].shape[-1] // side
    if factor == 1:
        return batch

    def scaled(pixels: Tensor) -> Tensor:
        return (pixels + 0.5) / factor - 0.5

    focal, centre = batch["intrinsics"].split(2, dim=-1)
    return batch | {
        "images": functional.avg_pool2d(batch["images"].float(), factor).round().to(torch.uint8),
        "keypoints": scaled(batch["keypoints"]),
        "intrinsics": torch.cat([focal / factor, scaled(centre)], dim=-1),
        "coordinates": functional.avg_pool2d(
            batch["coordinates"], factor
        ),  # NaN where any of them is beside the object
    }


def _run(
    phase: Phase, data: dict[str, NDArray], until: int, arguments: argparse.Namespace, name: str, size: int = BATCH
) -> None:
    began, first = time.process_time(), phase.steps

    def report(progress: Progress) -> None:
        if progress.steps % 50 == 0:
            each = (time.process_time() - began) / max(1, progress.steps - first)
            figures = " ".join(f"{key} {value:.3f}" for key, value in progress.figures.items())
            print(f"{name}: {progress.steps} of {until}, {each:.2f} s of CPU time each, {figures}", flush=True)

    def batches() -> Iterator[Batch]:
        step = phase.steps
        count = len(data["images"])
        while True:
            if step >= until:
                raise _ForkError
            epoch, place = divmod(step * size, count // size * size)
            order = np.random.default_rng((arguments.seed, epoch)).permutation(count)[place : place + size]
            rows = np.sort(order)
            chosen = {key: torch.from_numpy(np.ascontiguousarray(values[rows])) for key, values in data.items()}
            if "coordinates" in chosen:
                chosen["coordinates"] = chosen["coordinates"].float()
            yield smaller(chosen, arguments.side)
            step += 1

    if phase.steps >= until:
        return
    with contextlib.suppress(_ForkError):
        phase.run(batches(), report)


# --- judging


def judged(package: ObjectPackage, images: Images, config: EstimatorConfig) -> dict[str, NDArray]:
    """For each image ADD and errors of the pose (inf without one), NEES, what was known of it, seconds."""
    estimator = PoseEstimator(package, config)
    points = torch.from_numpy(package.mesh.vertices[:: max(1, len(package.mesh.vertices) // 500)])
    rows = []
    for image, intrinsics, matrix, box in zip(
        images.images, images.intrinsics, images.poses, images.boxes, strict=True
    ):
        camera = Camera.pinhole(*map(float, intrinsics), image.shape[1], image.shape[0])
        truth = Pose.from_matrix(torch.from_numpy(matrix))
        estimator.reset()
        begin = time.process_time()
        found = estimator.estimate(image, camera, roi=None if np.isnan(box).any() else tuple(map(float, box)))
        seconds = time.process_time() - begin
        row = [math.inf, math.inf, math.inf, math.nan, math.nan, math.nan, 0.0, seconds]
        if found.estimate is not None:
            pose = found.estimate.pose
            turn = float(so3.angle_between(pose.rotation, truth.rotation))
            shift = float((pose.translation - truth.translation).norm()) / package.diameter
            nees = float(consistency.nees(pose, found.estimate.covariance, truth))
            distance = float(pose_error.add(pose, truth, points)) / package.diameter
            sigma, misfit = (math.nan, math.nan) if found.doubt is None else (found.doubt.sigma, found.doubt.misfit)
            row = [distance, turn, shift, nees, sigma, misfit, float(found.state == "valid"), seconds]
        rows.append(row)
    names = ("add", "turn", "shift", "nees", "sigma", "misfit", "valid", "seconds")
    return dict(zip(names, np.array(rows).T, strict=True))


def judge(run: str, network: nn.Module, package: ObjectPackage, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of a trained network at each level, without alignment and with it."""
    _, detector = load_networks(package)
    folder = arguments.out / "packages" / run

    def written(calibration: dict[str, float]) -> ObjectPackage:
        return write_object_package(
            folder,
            name="object",
            mesh=package.mesh,
            keypoints=package.keypoints,
            network=network.config.to_plain(),  # type: ignore[union-attr, operator]
            detector=package.detector,
            views=package.views,
            calibration=calibration,
            weights=serialised(weights_of(network, detector)),
        )

    seen = judged(written({}), test_images(arguments.out, package, 100, None, 7), LAX)
    good = np.isfinite(seen["nees"]) & (seen["add"] < 0.5)
    doubts = [Doubt(*row) for row in zip(seen["sigma"][good].tolist(), seen["misfit"][good].tolist(), strict=True)]
    calibration = fit_calibration(seen["nees"][good].tolist(), doubts).to_plain()
    calibrated = written(calibration)
    figures: dict[str, Any] = {"calibration": calibration, "raw_nees": float(np.median(seen["nees"][good]))}
    aligned = dataclasses.replace(LAX, align=True)
    for level in LEVELS:
        images = test_images(arguments.out, package, arguments.frames, level, 11)
        for name, config in (("alone", LAX), ("aligned", aligned)):
            if name == "alone" or arguments.align:
                figures[f"{name}-{level:g}"] = {k: v.tolist() for k, v in judged(calibrated, images, config).items()}
    return figures


def interval(hits: NDArray[np.bool_]) -> str:
    """A share in percent with half of its 95 % interval (Wilson)."""
    if len(hits) == 0:
        return "-"
    n, p, z = len(hits), float(hits.mean()), 1.96
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return f"{100 * p:.0f} +- {100 * half:.0f}"


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown, one row for each run and level."""
    lines = [
        "| run | hidden | ADD < 5 % | < 10 % | AUC (20 %) | first pose (15 deg, 10 %) | 90 % regions hold "
        "| median NEES | ms | aligned: ADD < 5 % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run, level in itertools.product(results, LEVELS):
        found = {name: np.array(values) for name, values in results[run][f"alone-{level:g}"].items()}
        add, near = found["add"], (found["turn"] < math.radians(15)) & (found["shift"] < 0.1)
        known = found["nees"][np.isfinite(found["nees"])]
        nees = f"{np.median(known):.1f}" if len(known) else "-"
        auc = 100 * float(np.clip(1 - add / 0.2, 0, 1).mean())
        aligned = results[run].get(f"aligned-{level:g}")
        last = "-" if aligned is None else interval(np.array(aligned["add"]) < 0.05)
        lines.append(
            f"| {run} | {100 * level:.0f} % | {interval(add < 0.05)} | {interval(add < 0.1)} | {auc:.1f} "
            f"| {interval(near)} | {interval(known < 10.645)} | {nees} "
            f"| {1e3 * np.median(found['seconds']):.1f} | {last} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench_losses"))
    parser.add_argument("--only", nargs="*", default=RUNS, choices=RUNS)
    parser.add_argument("--seen", type=int, default=70_000, help="crops that each run sees")
    parser.add_argument("--batch", type=int, default=TrainingConfig.crop_batch, help="crops a step")
    parser.add_argument("--crops", type=int, default=12_000, help="different ones")
    parser.add_argument("--begin", type=float, default=TrainingConfig.pose_loss_begin, help="of the loss of the pose")
    parser.add_argument("--frames", type=int, default=200, help="judged at each level")
    parser.add_argument("--width", type=int, default=32, help="of the networks")
    parser.add_argument("--side", type=int, default=FULL, choices=(64, FULL), help="of the crops, pixels")
    parser.add_argument("--learning-rate", type=float, default=TrainingConfig.learning_rate)
    parser.add_argument("--from-demo", action="store_true", help="start with the demo's weights, of 40 minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-align", dest="align", action="store_false")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    package = load_object_package("config/objects/demo")
    data = crops(arguments.out, package, arguments.crops)
    results = {}
    for run in arguments.only:
        path = arguments.out / f"{run.replace('/', '-')}-{_settings(arguments)}-{arguments.frames}.json"
        if not path.is_file():
            network = train(run, data, package, arguments)
            path.write_text(json.dumps(judge(run, network, package, arguments)))
        results[run] = json.loads(path.read_text())
    print(table(results))


if __name__ == "__main__":
    main()
