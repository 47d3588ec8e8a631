"""A network that says the pose itself, without PnP: the baseline of ``bench_losses.py``.

``PYTHONPATH=test python test/benchmark/bench_direct.py --seen 48000 --side 64 --width 16`` trains it on the same crops,
in the same order, equally many and at the same rates as the rows of ``bench_losses.py`` with these options, and judges
it on the same images in the same boxes. It has the same layers as the others down to 1/32 of a crop; of their features,
in place, linear layers make a turn (two columns of a matrix, Zhou et al., CVPR 2019, as seen along the ray to the
object: Kundu et al., CVPR 2018), where the object's origin is in the crop, and how large it is there. The loss is the
mean distance of the object's points from where they should be, turn, place and distance by themselves ("disentangled",
Simonelli et al., ICCV 2019; Wang et al., "GDR-Net", CVPR 2021).
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from bench_losses import BATCH, CPU, FULL, LEVELS, _run, crops, interval, test_images
from torch import Tensor, nn

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import crop_from_box
from pnp_ros.detection.detector import image_tensor
from pnp_ros.geometry import so3
from pnp_ros.networks.backbone import COARSEST, FeaturePyramid
from pnp_ros.networks.edges import seen
from pnp_ros.networks.keypoint_network import BLOCKS
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.training.batches import Batch
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.distributed import Group
from pnp_ros.training.optimisation import Phase, PhaseConfig
from pnp_ros.training.steps import images as images_of
from pnp_ros.types import Pose

HIDDEN = 256
USUAL = 0.7  # of the crop's side: how large an object is there


class DirectNetwork(nn.Module):
    """(B, 3, S, S) RGB in [0, 1] and the crop's camera to a pose."""

    def __init__(self, side: int, width: int, diameter: float) -> None:
        super().__init__()
        self.side, self.diameter = side, diameter
        channels = tuple(width * factor for factor in (1, 2, 3, 4, 5))
        self.pyramid = FeaturePyramid(channels, BLOCKS)
        cells = (side // COARSEST) ** 2
        self.head = nn.Sequential(
            nn.Linear(channels[-1] * cells, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 9),
        )
        self.register_buffer("identity", torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def forward(self, images: Tensor, camera: Camera) -> Pose:
        """The pose in the camera's frame, float32."""
        told = self.head(self.pyramid.encode(seen(images, "colours"))[-1].flatten(1)).float()
        with torch.autocast(images.device.type, enabled=False):
            turn = rotation_of(told[:, :6] + self.identity)
            place = (0.5 + told[:, 6:8]) * self.side - 0.5
            size = USUAL * self.side * told[:, 8].clamp(-3.0, 3.0).exp()
            ray = nn.functional.normalize(camera.unproject(place[:, None])[:, 0], dim=-1)
            depth = camera.intrinsics[:, :2].mean(-1) * self.diameter / size
            return Pose(towards(ray) @ turn, ray / ray[:, 2:] * depth[:, None])


def rotation_of(columns: Tensor) -> Tensor:
    """Two columns (B, 6) to a rotation matrix."""
    first = nn.functional.normalize(columns[:, :3], dim=-1)
    second = columns[:, 3:] - (first * columns[:, 3:]).sum(-1, keepdim=True) * first
    second = nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def towards(ray: Tensor) -> Tensor:
    """The smallest turn (B, 3, 3) that takes the optical axis to unit vectors (B, 3)."""
    x, y, z = ray.unbind(-1)
    k = 1.0 / (1.0 + z).clamp_min(1e-6)
    rows = [[1 - k * x * x, -k * x * y, x], [-k * x * y, 1 - k * y * y, y], [-x, -y, z]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def loss_of(found: Pose, true: Pose, points: Tensor, diameter: float) -> Tensor:
    """Turn, place in the image and distance, each with the others as they are, in shares of the diameter."""
    turned = ((found.rotation - true.rotation) @ points.T).norm(dim=1).mean(-1)
    ratio = found.translation[:, 2:] / true.translation[:, 2:]
    aside = (found.translation / ratio - true.translation).norm(dim=-1)
    away = (true.translation * (ratio - 1.0)).norm(dim=-1)
    each = turned / diameter + aside / diameter + torch.log1p(away / diameter)
    return each.mean()


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench_losses"))
    parser.add_argument("--seen", type=int, default=70_000)
    parser.add_argument("--crops", type=int, default=12_000)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--side", type=int, default=FULL, choices=(64, FULL))
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=TrainingConfig.learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    package = load_object_package("config/objects/demo")
    points = torch.from_numpy(package.mesh.vertices[:: max(1, len(package.mesh.vertices) // 500)])
    data = crops(arguments.out, package, arguments.crops)

    def step(network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        shown, intrinsics, matrix = batch["present"], batch["intrinsics"], batch["pose"]
        camera = Camera(CameraModel.PINHOLE, intrinsics, intrinsics.new_zeros(0), arguments.side, arguments.side)
        found = network(images_of(batch), camera)
        true = Pose(matrix[shown, :, :3], matrix[shown, :, 3])
        loss = loss_of(Pose(found.rotation[shown], found.translation[shown]), true, points, package.diameter)
        turn = so3.angle_between(found.rotation[shown].detach(), true.rotation).median()
        return loss, {"loss": loss.detach(), "turn": turn}

    folder = arguments.out / f"direct-{arguments.width}-side{arguments.side}-{arguments.seen}-{arguments.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    network = DirectNetwork(arguments.side, arguments.width, package.diameter)
    ticks = iter(range(10**9))
    steps = arguments.seen // BATCH
    config = PhaseConfig("network", float(steps), arguments.learning_rate, checkpoint_seconds=50.0)
    phase = Phase(network, step, config, folder, CPU, Group(CPU), lambda: float(next(ticks)))
    _run(phase, data, steps, arguments, "direct")
    network = phase.average.eval()

    print("| run | hidden | ADD < 5 % | < 10 % | AUC (20 %) | first pose (15 deg, 10 %) | ms |\n" + "|---" * 7 + "|")
    for level in LEVELS:
        images = test_images(arguments.out, package, arguments.frames, level, 11)
        rows = []
        for image, intrinsics, matrix, box in zip(
            images.images, images.intrinsics, images.poses, images.boxes, strict=True
        ):
            camera = Camera.pinhole(*map(float, intrinsics), image.shape[1], image.shape[0])
            truth = Pose.from_matrix(torch.from_numpy(matrix))
            begin = time.process_time()
            crop = crop_from_box(image, camera, Box(*map(float, box)), arguments.side, 1.25)
            batched = Camera(
                CameraModel.PINHOLE,
                crop.camera.intrinsics[None].float(),
                torch.zeros(0),
                arguments.side,
                arguments.side,
            )
            with torch.inference_mode():
                found = network(image_tensor(crop.image, CPU), batched)
            seconds = time.process_time() - begin
            pose = Pose(found.rotation[0], found.translation[0])
            add = float((pose.transform(points) - truth.transform(points)).norm(dim=-1).mean()) / package.diameter
            turn = float(so3.angle_between(pose.rotation, truth.rotation))
            shift = float((pose.translation - truth.translation).norm()) / package.diameter
            rows.append((add, turn, shift, seconds))
        add, turn, shift, spent = np.array(rows).T
        near = (turn < math.radians(15)) & (shift < 0.1)
        auc = 100 * float(np.clip(1 - add / 0.2, 0, 1).mean())
        print(
            f"| direct | {100 * level:.0f} % | {interval(add < 0.05)} | {interval(add < 0.1)} | {auc:.1f} "
            f"| {interval(near)} | {1e3 * np.median(spent):.1f} |  turn {math.degrees(np.median(turn)):.0f} deg, "
            f"shift {100 * np.median(shift):.0f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
