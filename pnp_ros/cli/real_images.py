"""``pnp-ros train --real``: unlabelled images of the place, to render in front of and to look at in the end."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pnp_ros.cli.doctor import leave_images, some, words
from pnp_ros.evaluation.diagnosis import diagnose
from pnp_ros.evaluation.frames import FrameSource
from pnp_ros.io.images import write_image
from pnp_ros.objects.object_package import ObjectPackage

FOLDER, SHEET = "real", "real.jpg"  # in the object's folder
_BACKGROUNDS, _LONGEST = 150, 800  # images that are kept, and pixels of their longer side
_LOOKED_AT = 24


def keep_backgrounds(source: FrameSource, out: Path) -> Path:
    """Some of the images as files in a folder of ``out``; those of an earlier call stay, so that a training can go on.

    Raises:
        ValueError: if the source has no image.
    """
    folder = out / FOLDER
    if any(folder.glob("*.jpg")):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for frame in some(source, _BACKGROUNDS, None):
        scale = min(1.0, _LONGEST / max(frame.rgb.shape[:2]))
        small = cv2.resize(frame.rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        write_image(folder / f"{count:04d}.jpg", np.asarray(small, np.uint8))
        count += 1
    if not count:
        folder.rmdir()
        raise ValueError(f"--real: {source.path} holds no image")
    return folder


def report(source: FrameSource, package: ObjectPackage, device: str) -> list[str]:
    """What the trained object gives in some of the images, each by itself, in words; the images are left beside it."""
    found = diagnose(list(some(source, _LOOKED_AT, None)), package, device)
    lines = [f"in {source.path}, of which images without the object are a part, too:", *words(found)]
    shown = [each.explained for each in found.seen if each.result.is_valid]
    if shown:
        lines.append(f"where the pose is valid the images show {np.median(shown):.0%} of the object (median)")
    leave_images(found, package, package.root / SHEET)
    return [*lines, f"{package.root / SHEET}: green valid, orange where it would be if the networks were believed"]
