"""What a user writes: poses of an object in a video, as CSV, and the solver by itself."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pnp_ros import Camera, Correspondences, Pose, PoseEstimator, load_object, read_camera_info, read_images, solve_pnp


def poses(video: Path, object_folder: Path, camera_file: Path) -> list[tuple[float, Pose]]:
    """Stamp and pose of each image with a valid pose."""
    estimator = PoseEstimator(load_object(object_folder))
    camera = read_camera_info(camera_file).camera()
    found = []
    for stamp, image in read_images(video):
        seen = estimator.estimate(image, camera, stamp)
        if seen.state == "valid" and seen.estimate is not None:
            found.append((stamp, seen.estimate.pose))
    return found


def depth(image_points: NDArray[np.float64], object_points: NDArray[np.float64]) -> float:
    """Of an object whose points were found by other means."""
    camera = Camera.pinhole(600.0, 600.0, 320.0, 240.0, 640, 480)
    estimate = solve_pnp(Correspondences.from_sigma(image_points, object_points, sigma=0.5), camera)
    return float(estimate.pose.translation[2])


def main() -> None:
    """``user_script.py VIDEO OBJECT CAMERA``."""
    writer = csv.writer(sys.stdout)
    for stamp, pose in poses(*(Path(word) for word in sys.argv[1:4])):
        writer.writerow([stamp, *pose.translation.tolist()])


if __name__ == "__main__":
    main()
