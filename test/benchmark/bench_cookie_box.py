"""A real box from its three dimensions and one photo: onboarded, then found and followed in a real video.

    PYTHONPATH=test python test/benchmark/bench_cookie_box.py [--out out/bench_cookie_box]

OpenCV's cookie box (``shared/data/cookie_box``) has neither calibration nor texture. Where the photo was taken from,
and both focal lengths, are told by ORB features of known places: the focal length with which most of them agree. What
the photo shows of the sides is their texture, the others are plain. Leaves a sheet of images to be looked at.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmark.real_solves import SHARED, video_matches
from numpy.typing import NDArray

from pnp_ros import Camera, Correspondences, Pose, PoseEstimator, read_images, solve_pnp
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, contact_sheet, write_caption
from pnp_ros.io.images import read_image, write_image
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh
from pnp_ros.pipeline.onboarding import onboard
from synthetic.printed_box import printed_box

DATA = SHARED / "cookie_box"
FOCAL_LENGTHS = np.arange(0.6, 3.0, 0.05)  # of the image's width
TILE = 256  # pixels, the side of a side's texture
SHEET = 15  # images between those of the sheet


def best_focal_length(
    problems: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], width: int, height: int
) -> tuple[Camera, Pose]:
    """The camera with which most matches (N, 2), (N, 3) of all problems agree, and the last one's pose by it."""
    best = -1.0, Camera.pinhole(1.0, 1.0, 0.0, 0.0, 1, 1), Pose.identity()
    for focal in FOCAL_LENGTHS * width:
        camera, agreed = Camera.pinhole(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height), 0.0
        for pixels, points in problems:
            matches = Correspondences.from_sigma(
                torch.from_numpy(pixels).float(), torch.from_numpy(points).float(), 2.0
            )
            found = solve_pnp(matches, camera)
            agreed += float(found.inlier_weights.sum()) if bool(found.usable) else 0.0
        if agreed > best[0]:
            best = agreed, camera, found.pose
    return best[1:]


def photo_matches(photo: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels (N, 2) of the photo's features and the places (N, 3) on the box that they are like, metres."""
    storage = cv2.FileStorage(str(DATA / "cookies_ORB.yml"), cv2.FILE_STORAGE_READ)
    places, known = storage.getNode("points_3d").mat().reshape(-1, 3), storage.getNode("descriptors").mat()
    keys, seen = cv2.ORB.create(4000).detectAndCompute(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), None)
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(seen, known, k=2)
    good = [best for best, second in pairs if best.distance < 0.8 * second.distance]
    pixels = np.array([keys[each.queryIdx].pt for each in good])
    return pixels, np.array([places[each.trainIdx] for each in good], np.float64) / 100.0


def textured_box(photo: NDArray[np.uint8], camera: Camera, pose: Pose) -> tuple[TriangleMesh, int]:
    """The box, its corner at the origin, with what a photo shows of its sides; and how many of them it shows."""
    corner = load_mesh(DATA / "box.ply", "cm").bounds.astype(np.float64)
    size = tuple((corner[1] - corner[0]).tolist())
    plain = printed_box(0, size)
    mesh = replace(plain, vertices=(plain.vertices + (corner[0] + corner[1]) / 2).astype(np.float32))
    assert mesh.uv is not None
    texture = np.full((TILE, 6 * TILE, 3), np.median(photo, axis=(0, 1)), np.uint8)
    eye, shown = pose.inverse().translation.numpy(), 0
    for side in range(6):
        rows = slice(4 * side, 4 * side + 4)
        places, axis, sign = mesh.vertices[rows], side // 2, 1 - 2 * (side % 2)
        if sign * (eye[axis] - places[0, axis]) <= 0.0:
            continue
        shown += 1
        there = camera.project(pose.transform(torch.from_numpy(places))).numpy()
        on_it = (mesh.uv[rows] * (1.0, -1.0) + (0.0, 1.0)) * (6 * TILE, TILE) - 0.5
        warp = cv2.getPerspectiveTransform(there.astype(np.float32), on_it.astype(np.float32))
        drawn = cv2.warpPerspective(photo, warp, (6 * TILE, TILE), borderMode=cv2.BORDER_REPLICATE)
        tile = slice(side * TILE, (side + 1) * TILE)
        texture[:, tile] = drawn[:, tile]
    return replace(mesh, texture=texture), shown


def main() -> None:
    """Make the mesh, onboard it, go through the video, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench_cookie_box"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)

    photo = read_image(DATA / "resized_IMG_3875.JPG")
    height, width = photo.shape[:2]
    mesh, shown = textured_box(photo, *best_focal_length([photo_matches(photo)], width, height))
    camera, _ = best_focal_length(list(zip(*video_matches(DATA, 0.8, every=40))), 640, 480)
    print(f"the photo shows {shown} sides; the video's focal length is {float(camera.intrinsics[0]):.0f} px")
    clock, cpu = time.monotonic(), time.process_time()
    made = onboard(arguments.out / "cookie_box", "cookie_box", mesh)
    print(f"onboard: {time.monotonic() - clock:.1f} s, {time.process_time() - cpu:.1f} s CPU; {made.verdict}")

    estimator, overlay, told, cells = PoseEstimator(made.package), MeshOverlay(mesh), list[str](), list[NDArray]()
    for index, (stamp, rgb) in enumerate(read_images(DATA / "box.mp4")):
        found = estimator.estimate(rgb, camera, stamp)
        told.append(f"{found.state} {found.source}")
        if index % SHEET == 0:
            colour = GREEN if found.state == "valid" else ORANGE
            drawn = rgb if found.estimate is None else overlay.draw(rgb, found.estimate.pose, camera, colour)
            cells.append(write_caption(drawn, f"{index} {told[-1]}"))
        estimator.rest()
    valid = sum(each.startswith("valid") for each in told)
    followed = told.count("valid tracking")
    print(f"{valid} of {len(told)} images valid, {followed} of them followed; {len(cells)} overlays in {arguments.out}")
    write_image(arguments.out / "cookie_box.png", contact_sheet(cells))


if __name__ == "__main__":
    main()
