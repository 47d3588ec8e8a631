"""Whether the image shows the object where a pose says: the image's verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.alignment.chroma import Chroma
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.alignment.likeness import Likeness, compare
from pnp_ros.alignment.look import Look
from pnp_ros.cameras.camera import Camera
from pnp_ros.cameras.single_view import projected
from pnp_ros.types import Pose

_FEW_MATCHES, _FEW_LINES = 6, 12  # below, chance finds as many
_TEXTURED = 0.15  # of the object in view: with less texture its outline decides
_TOLERANCE = 2.0  # pixels of the window by which a match or line may miss the pose
_MOSTLY = 0.6  # of the object in view: less is worth a remark
_CONTRAST = 0.25  # of the object's probability across a line that is a step
_BESIDE = 7  # pixels of the window inwards from the outline, where the object is to be seen if its outline is
_AGREEING = 0.5  # of the matches found: with fewer where the pose says, they speak for another pose or object
_FITTED = 1.4  # times the likeness that a texture needs: nine numbers of light fit anything a little
# likeness of the shading from which on less of the outline will do, to which more must be seen, and how much more
_SURE, _LESS, _DOUBTFUL, _MORE = 0.75, 0.7, 0.3, 1.2
# pixels of blur between which less likeness is expected, down to this share
_SHARP, _BLURRED, _LENIENT = 1.4, 2.0, 0.74
_OUTLINED = 0.3  # of the outline found, without which a blurred image is judged as a sharp one
# shares of the texture shown between which more likeness is expected, up to so many times: a mirror image shows half
_HALF, _MOST, _STRICT = 0.5, 0.7, 1.2


@dataclass(frozen=True)
class Evidence:
    """What speaks for a pose.

    Args:
        explained: share by area, 0 to 1, of the object in view that the image shows where the pose says.
        texture: the same of its textured part alone; NaN where no texture is expected.
        contour: share of the lines across its outline that step where the pose says; NaN without lines.
        likeness: correlation of the image with the texture, in the mean of all places or, where something hides a
            part, of those beside the outline found; NaN where no texture is expected.
        matches: found where the pose says.
        lines: found where the pose says.
        expected: share of the object's outline box, by area, that is in view and was looked at.
        supported: whether the image bears the pose out. If not, the pose must not be used.
        reason: why not, in words; empty if it does.
        colours: correlation of the image's colours with the texture's; NaN where one has none, or none was asked for.
        sought: lines across its outline that were looked at; 0 where they are too few to tell anything.
        solidity: share of the convex hull of the object in view that it fills: the nearer to 1, the more other things
            have such an outline. NaN of a mesh with a texture.
    """

    explained: float
    texture: float
    contour: float
    likeness: float
    matches: int
    lines: int
    expected: float
    supported: bool
    reason: str
    colours: float = math.nan
    sought: int = 0
    solidity: float = math.nan

    @property
    def remark(self) -> str:
        """What there is to say of a pose that the image supports, in words; empty if it shows nearly all of it."""
        if not self.supported or self.explained >= _MOSTLY:
            return ""
        return f"{1.0 - self.explained:.0%} of the object in view is hidden, or does not look like its mesh"


def nothing(reason: str) -> Evidence:
    """The evidence where there was nothing to look at."""
    return Evidence(0.0, math.nan, math.nan, math.nan, 0, 0, 0.0, False, reason)


def weigh(look: Look, pose: Pose, camera: Camera, config: AlignmentConfig, chroma: Chroma | None = None) -> Evidence:
    """The verdict on a pose.

    Args:
        look: at it, or so near that its matches and lines are the same.
        pose: ``T_camera_object``.
        camera: of the whole image.
        config: thresholds.
        chroma: the mesh's colours; None where they are not to be compared.
    """
    mask = look.view.mask > 0
    expected = float(np.count_nonzero(mask & look.inside)) / max(int(np.count_nonzero(mask)), 1)
    followed = look.matches.found
    misses = _misses(look, pose, look.matches.points[followed], look.matches.pixels[followed])
    matches, found = int(np.count_nonzero(misses < _TOLERANCE)), len(misses)
    good_lines = _good_lines(look, pose)
    count = int(look.lines.clean.sum())
    contour = float(good_lines.sum()) / count if count >= _FEW_LINES else math.nan
    like = compare(look.view, look.window.grey, look.inside) if look.view.grey is not None else None
    textured, texture, likeness = 0.0, math.nan, math.nan
    if like is not None:
        if not look.shaded:  # a guess of the light is no surface that one would have to see
            textured, texture = like.textured, like.shown
        likeness = float(np.fmax(like.mean, _beside(like, look.lines.pixels, look.lines.normals, good_lines)))
    colours = math.nan
    if like is not None and chroma is not None:
        colours = chroma.likeness(look.view, look.window.image, like, float(look.window.frame.camera.intrinsics[0]))
    explained = textured * np.nan_to_num(texture) + (1.0 - textured) * np.nan_to_num(contour)
    good, sought = int(good_lines.sum()), count if count >= _FEW_LINES else 0
    solidity = _solidity(mask & look.inside) if look.shaded else math.nan
    weighed = Evidence(
        float(explained), texture, contour, likeness, matches, good, expected, True, "", colours, sought, solidity
    )
    reason = _contradiction(weighed, like, look.shaded, found, config)
    return replace(weighed, supported=not reason, reason=reason)


def _contradiction(seen: Evidence, like: Likeness | None, shaded: bool, found: int, config: AlignmentConfig) -> str:
    if like is not None and not shaded and like.painted >= _TEXTURED:
        if like.textured < _TEXTURED:
            return "the image is too dark or too blurred to show the texture"
        if seen.matches < _FEW_MATCHES:
            return f"the image shows {seen.matches} places of the texture, expected at least {_FEW_MATCHES}"
        if seen.matches <= _AGREEING * found:
            return f"only {seen.matches} of {found} places of the texture are where the pose says"
        if seen.texture < config.valid_texture:
            return f"the image shows {seen.texture:.0%} of the texture, expected at least {config.valid_texture:.0%}"
        blur = 0.0 if seen.contour < _OUTLINED else like.blur
        least = config.valid_likeness * float(np.interp(blur, (_SHARP, _BLURRED), (1.0, _LENIENT)))
        least *= float(np.interp(seen.texture, (_HALF, _MOST), (_STRICT, 1.0)))
        if seen.likeness < least:
            return f"what the image shows correlates by {seen.likeness:.2f} with the texture, expected {least:.2f}"
        if config.valid_colours > 0.0 and seen.colours < config.valid_colours:
            return (
                f"its colours correlate by {seen.colours:.2f} with the texture's, expected {config.valid_colours:.2f}"
            )
    elif lacking := _outline_lacks(seen, shaded, config):
        return lacking
    if seen.explained < config.valid_explained:
        return f"the image shows {seen.explained:.0%} of the object, expected at least {config.valid_explained:.0%}"
    return ""


def _outline_lacks(seen: Evidence, shaded: bool, config: AlignmentConfig) -> str:
    """Why the outline does not bear a pose out, where no texture tells; what the shading tells moves the bound."""
    least, fitted = config.valid_contour, _FITTED * config.valid_likeness
    if math.isnan(seen.contour):
        return "neither texture nor outline to be compared"
    if shaded:
        if config.plain and not seen.likeness >= fitted:
            return f"what the image shows correlates by {seen.likeness:.2f} with the shading, expected {fitted:.2f}"
        least *= _LESS if seen.likeness > _SURE else 1.0 if seen.likeness > _DOUBTFUL else _MORE
    return f"the image shows {seen.contour:.0%} of the outline, expected {least:.0%}" if seen.contour < least else ""


def _good_lines(look: Look, pose: Pose) -> NDArray[np.bool_]:
    """(L,) lines on which the image steps where the pose says."""
    lines, steps = look.lines, look.steps
    if len(lines.points) == 0:
        return np.zeros(0, np.bool_)
    reached = lines.pixels + steps.offset[:, None] * lines.normals
    off = np.abs(((projected(look.window.frame.camera, pose, lines.points) - reached) * lines.normals).sum(1))
    return look.chosen & (off < _TOLERANCE) & (steps.contrast > _CONTRAST) & (steps.variance < 9.0)


def _solidity(mask: NDArray[np.bool_]) -> float:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return math.nan
    hull = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), cv2.convexHull(np.concatenate(outlines)), 1)
    return float(np.count_nonzero(mask)) / float(np.count_nonzero(hull))


def _beside(like: Likeness, pixels: NDArray, normals: NDArray, good: NDArray[np.bool_]) -> float:
    """Mean correlation beside the outline found: nothing hides the object there. NaN with too few such places."""
    there = like.at(pixels[good] - _BESIDE * normals[good])
    return float(there.mean()) if len(there) >= _FEW_LINES else math.nan


def _misses(look: Look, pose: Pose, points: NDArray, pixels: NDArray) -> NDArray[np.float32]:
    if len(points) == 0:
        return np.zeros(0, np.float32)
    return np.sqrt(np.square(projected(look.window.frame.camera, pose, points) - pixels).sum(1))
