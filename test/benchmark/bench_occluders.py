"""Keypoints behind an occluder: who knows that they are hidden, and what a pose would gain if it were known.

``PYTHONPATH=test python test/benchmark/bench_occluders.py`` takes the images of ``bench_losses.py`` (200 a level, the
demo object in a box that is a little off) and prints, at 30 and 60 % occlusion:

- AUC: how well hidden are told from visible keypoints, and wrong (5 % of the size off) from right ones, by the keypoint
  network's own sigma, by PnP-Net's likelihood, by the residual of a robust solve, by sigma and residual together;
- ADD, of poses solved with the network's weights, with these times the likelihood, and with weights that know the
  truth: the bounds of what any judge of outliers can gain.

``--train labels pose both`` also trains PnP-Net on what the keypoint network finds in ``--known`` crops, which it has
not seen: by labels (right or wrong), by the loss of the pose through the solve (EPro-PnP), where the likelihoods
multiply the weights, and ``both``: keypoint network and PnP-Net together through the solve, for ``--seen`` crops,
beside the keypoint network alone. A repeated call goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bench_losses import BATCH, CPU, Images, crops, interval, test_images
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import crop_from_box
from pnp_ros.detection.detector import image_tensor
from pnp_ros.networks.keypoint_network import decode
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.models import load_keypoint_networks
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pnp_net import canonicalise, likelihood, load_network
from pnp_ros.solvers.robust_loss import Cauchy
from pnp_ros.training.batches import Batch
from pnp_ros.training.distributed import Group
from pnp_ros.training.losses import keypoint_loss
from pnp_ros.training.optimisation import Phase, PhaseConfig
from pnp_ros.training.pose_losses import PoseLoss
from pnp_ros.training.steps import images as images_of
from pnp_ros.training.steps import of_present
from pnp_ros.types import Correspondences, Pose

ROBUST = Cauchy(2.0)  # as the estimator solves
WRONG = 0.05  # of the object's size in the image
LEVELS = (0.0, 0.3, 0.6)
NAMES = ("images", "keypoints", "present", "intrinsics", "pose")  # of a batch


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network found in the images of one level: (B, K) correspondences, cameras, truth, hidden (B, K)."""

    found: Correspondences
    camera: Camera
    truth: Pose
    hidden: NDArray[np.bool_]
    error: NDArray[np.float32]  # (B, K) of the object's size

    @property
    def wrong(self) -> NDArray[np.bool_]:
        return self.error > WRONG


class Judged(nn.Module):
    """A keypoint network, and PnP-Net whose likelihoods multiply its weights; None: its weights as they are."""

    def __init__(self, network: nn.Module, judge: nn.Module | None, points: Tensor) -> None:
        super().__init__()
        self.network, self.judge = network, judge
        self.register_buffer("points", points)

    def forward(self, images: Tensor, camera: Camera) -> tuple[Correspondences, Tensor, object]:
        """Correspondences in crop pixels, likelihoods (B, K), and the raw maps."""
        raw = self.network(images)
        prediction = decode(raw)
        points = self.points.expand(len(prediction.image_points), -1, -1)
        found = Correspondences(prediction.image_points, points, 1.0 / prediction.sigma)
        if self.judge is None:
            return found, torch.ones_like(found.weights[..., 0]), raw
        with torch.autocast(images.device.type, enabled=False):
            trust = trusted(self.judge, found, camera)
        return weighed(found, trust), trust, raw


def trusted(judge: nn.Module, found: Correspondences, camera: Camera) -> Tensor:
    """The likelihoods (B, K), differentiable in PnP-Net and in the correspondences."""
    return judge(canonicalise(found, camera))[-1].sigmoid()


def weighed(found: Correspondences, trust: Tensor) -> Correspondences:
    return Correspondences(found.image_points, found.object_points, found.weights * trust[..., None])


# --- what is judged


@torch.no_grad()
def look(package: ObjectPackage, model: Judged, images: Images, clean: Images) -> Seen:
    """All images of a level; what differs from the same image without an occluder is hidden."""
    config, points = model.network.config, torch.from_numpy(package.keypoints)  # type: ignore[union-attr]
    rows = []
    for index, (image, intrinsics, matrix, box) in enumerate(
        zip(images.images, images.intrinsics, images.poses, images.boxes, strict=True)
    ):
        camera = Camera.pinhole(*map(float, intrinsics), image.shape[1], image.shape[0])
        truth = Pose.from_matrix(torch.from_numpy(matrix))
        crop = crop_from_box(image, camera, Box(*map(float, box)), config.crop_size, config.crop_margin)
        found, _, _ = model(image_tensor(crop.image, CPU), crop.camera)
        pixels, weights = crop.to_image(found.image_points[0]), found.weights[0] / crop.scale
        true = camera.project(truth.transform(points))
        size = float(intrinsics[0]) * package.diameter / float(truth.translation[2])
        covered = (image != clean.images[index]).any(-1)
        column, row = true.round().long().T.numpy()
        inside = (column >= 0) & (row >= 0) & (column < image.shape[1]) & (row < image.shape[0])
        hidden = np.zeros(len(points), bool)
        hidden[inside] = covered[row[inside], column[inside]]
        rows.append((pixels, weights, hidden, (pixels - true).norm(dim=-1).numpy() / size))
    pixels, weights, hidden, error = zip(*rows, strict=True)
    intrinsics = torch.from_numpy(images.intrinsics)
    height, width = images.images.shape[1:3]
    poses = torch.from_numpy(images.poses)
    return Seen(
        Correspondences(torch.stack(pixels), points.expand(len(rows), -1, -1), torch.stack(weights)),
        Camera(CameraModel.PINHOLE, intrinsics, intrinsics.new_zeros(len(rows), 0), width, height),
        Pose(poses[:, :3, :3], poses[:, :3, 3]),
        np.stack(hidden),
        np.stack(error),
    )


def add(package: ObjectPackage, seen: Seen, weights: Tensor) -> NDArray[np.float32]:
    """(B) of the diameter, of the poses solved with these weights (B, K, 2); infinite without one."""
    points = torch.from_numpy(package.mesh.vertices[:: max(1, len(package.mesh.vertices) // 500)])
    found = Correspondences(seen.found.image_points, seen.found.object_points, weights)
    solved = solve_pnp(found, seen.camera, loss=ROBUST)
    distance = (solved.pose.transform(points[None]) - seen.truth.transform(points[None])).norm(dim=-1).mean(-1)
    return torch.where(solved.usable, distance / package.diameter, torch.inf).numpy()


def auc(score: NDArray, good: NDArray[np.bool_]) -> float:
    """Probability that a good one has a higher score than another."""
    ranks, count = rankdata(score.ravel())[good.ravel()], int(good.sum())
    return float((ranks.sum() - count * (count + 1) / 2) / (count * (good.size - count)))


def judges(seen: Seen, others: dict[str, nn.Module]) -> dict[str, NDArray]:
    """Scores (B, K) of each way to know a visible keypoint."""
    solved = solve_pnp(seen.found, seen.camera, loss=ROBUST)
    missed = seen.camera.project(solved.pose.transform(seen.found.object_points)) - seen.found.image_points
    residual = (missed * seen.found.weights).norm(dim=-1).nan_to_num(1e3).numpy()
    own = (1.0 / seen.found.weights.mean(-1)).numpy()
    named = {
        "the network's sigma": -own,
        "residual of a robust solve": -residual,
        "sigma and residual": -np.log(own) - 0.5 * np.log1p(residual**2 / 4),
        "PnP-Net as shipped": likelihood(seen.found, seen.camera).numpy(),
    }
    for name, judge in others.items():
        with torch.no_grad():
            named[name] = trusted(judge, seen.found, seen.camera).numpy()
    return named


def tell(package: ObjectPackage, level: float, seen: Seen, others: dict[str, nn.Module]) -> None:
    """The tables of one level."""
    hidden, wrong = seen.hidden, seen.wrong
    print(
        f"\n{level:.0%} hidden: {hidden.mean():.0%} of the keypoints; wrong are {wrong[hidden].mean():.0%} of these "
        f"and {wrong[~hidden].mean():.0%} of the visible ones\n\n| told by | AUC hidden | AUC wrong |\n|---|---|---|"
    )
    for name, score in judges(seen, others).items():
        print(f"| {name} | {auc(score, ~hidden):.2f} | {auc(score, ~wrong):.2f} |")
    weights = seen.found.weights
    shipped = likelihood(seen.found, seen.camera)
    rows: dict[str, Callable[[], Tensor]] = {
        "the network's": lambda: weights,
        "times PnP-Net's likelihood": lambda: weights * shipped[..., None],
        "all alike": lambda: torch.full_like(weights, float(weights.mean())),
    }
    for name, judge in others.items():
        rows[f"times that of {name}"] = lambda judge=judge: (
            weights * trusted(judge, seen.found, seen.camera).detach()[..., None]
        )
    for name, mask in (("hidden", hidden), ("wrong", wrong)):
        known = torch.from_numpy(mask)[..., None]
        rows[f"truth: {name} ones weigh a tenth"] = lambda known=known: torch.where(known, 0.1 * weights, weights)
    print("\n| weights | ADD < 5 % | < 10 % | < 20 % |\n|---|---|---|---|")
    for name, made in rows.items():
        found = add(package, seen, made())
        print(f"| {name} | " + " | ".join(interval(found < limit) for limit in (0.05, 0.1, 0.2)) + " |", flush=True)


# --- PnP-Net learns what this network's errors are like


def batches(data: dict[str, NDArray], size: int, seed: int) -> Callable[[int], Batch]:
    def batch(step: int) -> Batch:
        rows = np.sort(np.random.default_rng((seed, step)).choice(len(data["images"]), size, replace=False))
        return {name: torch.from_numpy(np.array(data[name][rows])) for name in NAMES}

    return batch


@torch.no_grad()
def found_in_crops(model: Judged, data: dict[str, NDArray], count: int) -> dict[str, Tensor]:
    """What the keypoint network finds in the first crops, of those that show the object, in crop pixels."""
    parts: list[dict[str, Tensor]] = []
    for begin in range(0, count, BATCH):
        part = {name: torch.from_numpy(np.array(data[name][begin : begin + BATCH])) for name in NAMES}
        raw = model.network(images_of(part))
        prediction = decode(raw)
        shown = part["present"]
        parts.append(
            {
                "points": prediction.image_points[shown],
                "sigma": prediction.sigma[shown],
                "keypoints": part["keypoints"][shown],
                "intrinsics": part["intrinsics"][shown],
                "pose": part["pose"][shown],
            }
        )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def learnt(
    how: str, known: dict[str, Tensor], points: Tensor, side: int, diameter: float, steps: int, size: int = 128
) -> nn.Module:
    """PnP-Net, from the shipped weights on, by ``labels`` or by the loss of the ``pose``."""
    torch.manual_seed(0)
    judge = copy.deepcopy(load_network()).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3)
    pose_loss = PoseLoss("epropnp", points)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        rows = torch.randint(len(known["points"]), (size,), generator=generator)
        one = {name: values[rows] for name, values in known.items()}
        intrinsics, matrix = one["intrinsics"], one["pose"]
        camera = Camera(CameraModel.PINHOLE, intrinsics, intrinsics.new_zeros(len(rows), 0), side, side)
        found = Correspondences(one["points"], points.expand(size, -1, -1), 1.0 / one["sigma"])
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 20) * (1.0 - step / steps)
        if how == "labels":
            pixels = intrinsics[:, 0] * diameter / matrix[:, 2, 3]
            right = (one["points"] - one["keypoints"]).norm(dim=-1) < WRONG * pixels[:, None]
            logits = judge(canonicalise(found, camera))[-1]
            loss = nn.functional.binary_cross_entropy_with_logits(logits, right.float())
        else:
            trust = trusted(judge, found, camera)
            loss, _ = pose_loss(weighed(found, trust), camera, Pose(matrix[..., :3], matrix[..., 3]))
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        if step % 100 == 99:
            print(f"PnP-Net by {how}: {step + 1} of {steps}, loss {float(loss.detach()):.3f}", flush=True)
    return judge.eval().requires_grad_(False)


def together(model: Judged, data: dict[str, NDArray], steps: int, folder: Path, rate: float) -> Judged:
    """Keypoint network and judge, if there is one, trained through the solve."""
    pose_loss = PoseLoss("epropnp", model.points)

    def step_loss(network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        side = batch["images"].shape[-1]
        intrinsics = batch["intrinsics"]
        camera = Camera(CameraModel.PINHOLE, intrinsics, intrinsics.new_zeros(len(intrinsics), 0), side, side)
        found, _, raw = network(images_of(batch), camera)
        loss, figures = keypoint_loss(raw, batch["keypoints"], batch["present"])
        term, more = pose_loss(*of_present(found, batch))
        return loss + term, figures | more

    seconds = iter(range(10**9))
    config = PhaseConfig("together", float(steps), rate, checkpoint_seconds=25.0)
    phase = Phase(model, step_loss, config, folder, CPU, Group(CPU), lambda: float(next(seconds)))
    batch = batches(data, BATCH, 0)
    phase.run((batch(step) for step in range(phase.steps, 10**9)), lambda progress: print(progress, flush=True))
    return phase.average


def main() -> None:
    """Look, train, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench_losses"))
    parser.add_argument("--object", type=Path, default=Path("config/objects/demo"))
    parser.add_argument("--frames", type=int, default=200, help="at each level")
    parser.add_argument("--crops", type=int, default=12_000)
    parser.add_argument("--known", type=int, default=4800, help="of these, that PnP-Net learns from")
    parser.add_argument("--train", nargs="*", default=[], choices=("labels", "pose", "both"))
    parser.add_argument("--steps", type=int, default=400, help="of PnP-Net by itself, 128 crops each")
    parser.add_argument("--seen", type=int, default=9600, help="crops for both together")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    package = load_object_package(arguments.object)
    network, _ = load_keypoint_networks(package)
    points = torch.from_numpy(package.keypoints)
    plain = Judged(network, None, points).eval()
    levels = {level: test_images(arguments.out, package, arguments.frames, level, 11) for level in LEVELS}
    others: dict[str, nn.Module] = {}
    if arguments.train:
        data = crops(arguments.out, package, arguments.crops)
        found = arguments.out / f"found-{package.name}-{arguments.known}.pt"
        if not found.is_file():
            torch.save(found_in_crops(plain, data, arguments.known), found)
        side = network.config.crop_size
        fit = functools.partial(learnt, known=torch.load(found), points=points, side=side, diameter=package.diameter)
        for how in ("labels", "pose"):
            if how in arguments.train or (how == "pose" and "both" in arguments.train):
                path = arguments.out / f"pnp-net-{package.name}-{how}-{arguments.known}-{arguments.steps}.pt"
                if not path.is_file():
                    torch.save(fit(how, steps=arguments.steps).state_dict(), path)
                judge = copy.deepcopy(load_network())
                judge.load_state_dict(torch.load(path))
                others[f"PnP-Net taught by {how}"] = judge.eval().requires_grad_(False)
    for level in LEVELS[1:]:
        tell(package, level, look(package, plain, levels[level], levels[0.0]), others)
    if "both" in arguments.train:
        print("\n| trained through the solve | hidden | ADD < 5 % | < 10 % | < 20 % |\n|---|---|---|---|---|")
        for name, judge in (("keypoint network alone", None), ("with PnP-Net", others["PnP-Net taught by pose"])):
            judge = None if judge is None else copy.deepcopy(judge).requires_grad_(True)
            start = Judged(copy.deepcopy(network).requires_grad_(True), judge, points)
            folder = arguments.out / f"occluders-{name.replace(' ', '-')}"
            folder.mkdir(exist_ok=True)
            model = together(start, data, arguments.seen // BATCH, folder, 5e-4)
            for level in LEVELS:
                seen = look(package, model, levels[level], levels[0.0])
                found = add(package, seen, seen.found.weights)
                shares = " | ".join(interval(found < limit) for limit in (0.05, 0.1, 0.2))
                print(f"| {name} | {level:.0%} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
