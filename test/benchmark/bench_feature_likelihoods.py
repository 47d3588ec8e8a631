"""PnP-Net on matches of features: does it know the right ones, and does a search that it guides find more first poses?

``PYTHONPATH=test python test/benchmark/bench_feature_likelihoods.py [--images 40] [--known 60] [--steps 300]`` matches
SIFT features of a textured mesh to renders of it, behind things or far away, at the ratio test of the product and at
one that lets nearly all matches through. Each set of matches is solved with the search left to itself, guided by the
ratio test's own score, by PnP-Net as shipped, and by PnP-Net taught on the matches of ``--known`` other renders.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from benchmark.aligned_renders import add, objects
from benchmark.bench_features import RIGHT, SEARCH, far
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from pnp_ros import Camera, Correspondences, Pose, solve_pnp
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.solvers.pnp_net import canonicalise, likelihood, load_network
from pnp_ros.solvers.search import Search
from pnp_ros.sources.feature_table import make_feature_table
from pnp_ros.sources.features import FeatureSource
from synthetic.scenes import Errors, Scene, scenes

RATIOS = (SEARCH.ratio, 0.97)
LEAST = 4  # matches
GUIDES = ("none", "ratio", "PnP-Net as shipped", "PnP-Net taught")


@dataclass(frozen=True, eq=False)
class Matches:
    """Of one image: (N) correspondences, (N) best over second-best distance, (N) whether right, camera, true pose."""

    found: Correspondences
    ratio: NDArray[np.float32]
    right: NDArray[np.bool_]
    camera: Camera
    truth: Pose


def matches(source: FeatureSource, mesh: TriangleMesh, scene: Scene) -> Matches:
    """All of an image whose ratio is below the source's."""
    found = source._similar(cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY), (0, 0), 1)
    found, ratio = source._correspondences(found), found.ratio
    projected = scene.camera.project(scene.pose.transform(found.object_points))
    size = float(scene.camera.intrinsics[0]) * mesh.diameter / float(scene.pose.translation[2])
    right = (projected - found.image_points).norm(dim=-1).numpy() < 0.03 * size  # camera and mesh are a little off, too
    return Matches(found, ratio, right, scene.camera, scene.pose)


def below(one: Matches, ratio: float) -> Matches:
    """Those that pass the ratio test."""
    kept = torch.from_numpy(one.ratio < ratio)
    found = Correspondences(*(v[kept] for v in (one.found.image_points, one.found.object_points, one.found.weights)))
    return replace(one, found=found, ratio=one.ratio[kept.numpy()], right=one.right[kept.numpy()])


def images(mesh: TriangleMesh, count: int, seed: int) -> Iterator[tuple[str, Iterator[Scene]]]:
    yield "up to 60 % hidden", scenes(mesh, count, seed, Errors(occlusion=0.6))
    yield "far, 5 to 10 diameters", scenes(mesh, count, seed + 1, Errors(occlusion=0.4), far(mesh.diameter))


def taught(known: list[Matches], steps: int) -> nn.Module:
    """PnP-Net from the shipped weights on, by the labels of these matches."""
    torch.manual_seed(0)
    network = copy.deepcopy(load_network()).train().requires_grad_(True)
    optimizer, rng = torch.optim.AdamW(network.parameters(), lr=1e-3), np.random.default_rng(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 20) * (1.0 - step / steps)
        optimizer.zero_grad()
        for one in (known[i] for i in rng.integers(len(known), size=8)):
            one = below(one, rng.uniform(0.8, RATIOS[-1]))
            if len(one.right) >= LEAST:
                logits = network(canonicalise(one.found, one.camera))[-1]
                loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(one.right).float())
                (loss / 8).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network.eval().requires_grad_(False)


def auc(score: NDArray, good: NDArray[np.bool_]) -> float:
    """Probability that a right one has a higher score than a wrong one."""
    ranks, count = rankdata(score)[good], int(good.sum())
    return float((ranks.sum() - count * (count + 1) / 2) / max(count * (good.size - count), 1))


def guide(name: str, one: Matches, judge: nn.Module) -> Tensor:
    """(N) likelihoods."""
    if name == "ratio":
        return torch.from_numpy(np.square(1.0 - one.ratio) + 1e-3)
    return likelihood(one.found, one.camera, judge if name == "PnP-Net taught" else None)  # type: ignore[arg-type]


def report(name: str, each: list[Matches], mesh: TriangleMesh, judge: nn.Module) -> None:
    """A table for each ratio."""
    for ratio in RATIOS:
        passed = [one for one in (below(one, ratio) for one in each) if len(one.right) >= LEAST]
        share = np.mean([one.right.mean() for one in passed])
        count = np.median([len(one.right) for one in passed])
        print(f"\n{name}, ratio {ratio}: {len(passed)} images, {count:.0f} matches, {share:.0%} right")
        for how in GUIDES:
            scores, right, wrong, spent = [], 0, 0, []
            for one in passed:
                trust = None if how == "none" else guide(how, one, judge)
                begin = time.process_time()
                estimate = solve_pnp(one.found, one.camera, init=Search(trust))
                spent.append(time.process_time() - begin)
                good = add(mesh, estimate.pose, one.truth) < RIGHT
                right += bool(estimate.usable) and good
                wrong += bool(estimate.usable) and not good
                if trust is not None and 0 < one.right.sum() < len(one.right):
                    scores.append(auc(trust.numpy(), one.right))
            told = f"AUC {np.mean(scores):.3f}, " if scores else ""
            print(f"  {how}: {told}right {right}, wrong {wrong}, search {1e3 * np.mean(spent):.2f} ms CPU", flush=True)


def main() -> None:
    """Match, teach, solve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40, help="judged, of each kind")
    parser.add_argument("--known", type=int, default=60, help="of each kind, that PnP-Net is taught on")
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    mesh = objects()["textured"]
    loose = replace(SEARCH, ratio=RATIOS[-1])
    source = FeatureSource(make_feature_table(mesh), mesh.diameter, torch.from_numpy(mesh.extreme_points), loose)
    known = [matches(source, mesh, scene) for _, each in images(mesh, arguments.known, 900) for scene in each]
    judge = taught(known, arguments.steps)
    for name, each in images(mesh, arguments.images, 300):
        report(name, [matches(source, mesh, scene) for scene in each], mesh, judge)


if __name__ == "__main__":
    main()
