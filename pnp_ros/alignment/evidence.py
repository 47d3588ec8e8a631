"""Whether the image shows the object where a pose says: the image's verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.alignment.look import Look
from pnp_ros.alignment.placement import projected
from pnp_ros.cameras.camera import Camera
from pnp_ros.types import Pose

_CELLS = 8  # per side of the window: the texture is counted by area
_FEW_MATCHES, _FEW_LINES = 8, 12  # below, chance finds as many
_TEXTURED = 0.15  # of the object in view: with less texture its outline decides
_TOLERANCE = 2.0  # pixels of the window by which a match or line may miss the pose
_MOSTLY = 0.6  # of the object in view: less is worth a remark
_CONTRAST = 0.25  # of the object's probability across a line that is a step


@dataclass(frozen=True)
class Evidence:
    """What speaks for a pose.

    Args:
        explained: share by area, 0 to 1, of the object in view that the image shows where the pose says.
        texture: the same of its textured part alone; NaN where no texture is expected.
        contour: share of the lines across its outline that step where the pose says; NaN without lines.
        matches: found where the pose says.
        lines: found where the pose says.
        expected: share of the object's outline box, by area, that is in view and was looked at.
        supported: whether the image bears the pose out. If not, the pose must not be used.
        reason: why not, in words; empty if it does.
    """

    explained: float
    texture: float
    contour: float
    matches: int
    lines: int
    expected: float
    supported: bool
    reason: str

    @property
    def remark(self) -> str:
        """What there is to say of a pose that the image supports, in words; empty if it shows nearly all of it."""
        if not self.supported or self.explained >= _MOSTLY:
            return ""
        return f"{1.0 - self.explained:.0%} of the object in view is hidden, or does not look like its mesh"


def nothing(reason: str) -> Evidence:
    """The evidence where there was nothing to look at."""
    return Evidence(0.0, math.nan, math.nan, 0, 0, 0.0, False, reason)


def weigh(look: Look, pose: Pose, camera: Camera, config: AlignmentConfig) -> Evidence:
    """The verdict on a pose.

    Args:
        look: at it, or so near that its matches and lines are the same.
        pose: ``T_camera_object``.
        camera: of the whole image.
        config: thresholds.
    """
    mask = (look.view.mask > 0) & look.inside
    expected = float(mask.sum()) / max(float((look.view.mask > 0).sum()), 1.0)
    good_matches = look.matches.found & (_misses(look, pose, look.matches.points, look.matches.pixels) < _TOLERANCE)
    lines, steps = look.lines, look.steps
    reached = lines.pixels + steps.offset[:, None] * lines.normals
    off = (
        np.abs((projected(look.crop.camera, pose, lines.points) - reached) * lines.normals).sum(1)
        if len(reached)
        else np.zeros(0)
    )
    good_lines = look.chosen & (off < _TOLERANCE) & (steps.contrast > _CONTRAST) & (steps.variance < 9.0)
    textured, texture = _by_area(mask, look.matches.expected, good_matches)
    count = int(lines.clean.sum())
    contour = float(good_lines.sum()) / count if count >= _FEW_LINES else math.nan
    share = 0.0 if math.isnan(contour) else contour
    explained = textured * (0.0 if math.isnan(texture) else texture) + (1.0 - textured) * share
    reason = _contradiction(explained, textured, texture, contour, int(good_matches.sum()), config)
    return Evidence(
        explained, texture, contour, int(good_matches.sum()), int(good_lines.sum()), expected, not reason, reason
    )


def _contradiction(
    explained: float, textured: float, texture: float, contour: float, matches: int, config: AlignmentConfig
) -> str:
    if textured >= _TEXTURED:
        if matches < _FEW_MATCHES:
            return f"the image shows {matches} places of the texture, expected at least {_FEW_MATCHES}"
        if texture < config.valid_texture:
            return f"the image shows {texture:.0%} of the texture, expected at least {config.valid_texture:.0%}"
    elif math.isnan(contour):
        return "neither texture nor outline to be compared"
    elif contour < config.valid_contour:
        return f"the image shows {contour:.0%} of the outline, expected at least {config.valid_contour:.0%}"
    if explained < config.valid_explained:
        return f"the image shows {explained:.0%} of the object, expected at least {config.valid_explained:.0%}"
    return ""


def _misses(look: Look, pose: Pose, points: NDArray, pixels: NDArray) -> NDArray[np.float32]:
    if len(points) == 0:
        return np.zeros(0, np.float32)
    return np.linalg.norm(projected(look.crop.camera, pose, points) - pixels, axis=1)


def _by_area(mask: NDArray[np.bool_], corners: NDArray, good: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of the object in view that has a texture, and of that the share found, both by area."""
    area = cv2.resize(mask.astype(np.float32), (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).ravel()
    if len(corners) == 0 or area.sum() == 0.0:
        return 0.0, math.nan
    x, y = ((corners.T * _CELLS) / mask.shape[0]).astype(int).clip(0, _CELLS - 1)
    number, found = (np.bincount(y * _CELLS + x, weights, _CELLS**2) for weights in (None, good))
    textured = np.where(number > 0, area, 0.0)
    if textured.sum() == 0.0:
        return 0.0, math.nan
    return float(textured.sum() / area.sum()), float(
        (textured * found / np.maximum(number, 1.0)).sum() / textured.sum()
    )
