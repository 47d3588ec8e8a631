"""Renders that never change: what the package's own weights can do there, no later weights may forget."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.learning.learner import randomisation
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.rendering.validation_frames import ValidationFrame, validation_frames

_SEED = 2_000_003  # held-out images of the training have another


class Anchors:
    """Images with true poses, kept compressed without loss.

    Args:
        package: of the object.
        config: their number and views.

    Raises:
        RendererError: if there is no OpenGL.
    """

    def __init__(self, package: ObjectPackage, config: AdaptationConfig) -> None:
        ranges = randomisation(package)
        self._frames = []
        for frame in validation_frames(package.mesh, ranges, config.anchors, _SEED + config.seed):
            png = cv2.imencode(".png", frame.rgb, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1]
            self._frames.append((png, frame.camera, frame.T_camera_object, frame.visible))

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[ValidationFrame]:
        for png, camera, pose, visible in self._frames:
            rgb = np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR), np.uint8)  # as it was encoded: channels as they were
            yield ValidationFrame(rgb, camera, pose, visible)
