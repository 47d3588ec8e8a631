"""One comparison of the object at a pose with the image: matches of its texture and lines across its outline."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.alignment import contours, texture
from pnp_ros.alignment.colours import ColourModel
from pnp_ros.alignment.config import MARGIN, AlignmentConfig, Round
from pnp_ros.alignment.contours import Lines, Steps
from pnp_ros.alignment.shading import Shading
from pnp_ros.alignment.texture import Matches
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import Crop, box_from_pose, crop_from_box, square_window
from pnp_ros.rendering.raster_view import View
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Correspondences, Pose

_SHARP = 2  # pixels of reach from which on a step is measured by its own two colours
_TRUSTED = 6  # pixels of reach up to which the pose is trusted to say what is in view
_COARSE = 100  # pixels: windows below get a pyramid for the matches
_SMALLEST = 200  # pixels: smaller windows are enlarged, so that patches are small enough
_RIM = 3  # pixels of the image's border in which nothing is expected
_CORE = 5  # pixels, side of the square by which colours are learnt off the outline
_BLUNT, _SHARPEST = 0.55, 0.3  # pixels of the window that a step's place is uncertain at least
_NEAR = 0.7  # of the reach: beyond, a step counts less, as it may be another edge's


@dataclass(frozen=True, eq=False)
class Look:
    """What one look found.

    Args:
        pose: at which the object was drawn.
        crop: the window of the image.
        view: of the mesh in that window.
        inside: (H, W) bool, pixels of the window that the image has.
        matches: of the texture.
        lines: across the outline.
        steps: on the lines; offsets are relative to those that the view itself shows.
        chosen: (L,) which lines tell something.
        shaded: whether the view's grey values are a guess by the light, as the mesh has no colours.
    """

    pose: Pose
    crop: Crop
    view: View
    inside: NDArray[np.bool_]
    matches: Matches
    lines: Lines
    steps: Steps
    chosen: NDArray[np.bool_]
    shaded: bool = False

    @property
    def count(self) -> tuple[int, int]:
        """Matches and lines found."""
        return int(self.matches.found.sum()), int(self.chosen.sum())

    def correspondences(self, reach: int) -> Correspondences:
        """Matches, then lines, in pixels of the whole image."""
        there, lines, steps = self.matches.found, self.lines, self.steps
        offset, normals = steps.offset[self.chosen], lines.normals[self.chosen]
        sigma = np.sqrt(steps.variance[self.chosen] * (1.0 + (offset / (_NEAR * reach)) ** 2))
        roots = np.zeros((len(offset), 2, 2), np.float32)
        roots[:, 0] = normals / sigma[:, None]
        pixels = np.concatenate([self.matches.pixels[there], lines.pixels[self.chosen] + offset[:, None] * normals])
        scale, corner = self.crop.scale, np.array(self.crop.window[:2], np.float32)
        return Correspondences(
            ((pixels + 0.5) * scale - 0.5 + corner).astype(np.float32),
            np.concatenate([self.matches.points[there], lines.points[self.chosen]]),
            (np.concatenate([self.matches.roots[there], roots]) / scale).astype(np.float32),
        )

    def learn(self, colours: ColourModel, rate: float) -> None:
        """Teach the colours of the object drawn here and of what is around it."""
        square, mask = np.ones((_CORE, _CORE), np.uint8), self.view.mask
        core, ring = cv2.erode(mask, square, borderValue=0), cv2.dilate(mask, square)
        colours.learn(self.crop.image, (core > 0) & self.inside, (ring == 0) & self.inside, rate)


def look(
    mesh: RayMesh,
    extent: Tensor,
    image: NDArray[np.uint8],
    camera: Camera,
    pose: Pose,
    step: Round,
    config: AlignmentConfig,
    colours: ColourModel,
    learn: bool,
    shading: Shading | None = None,
) -> Look:
    """Draw the object at a pose and search the image around it.

    Args:
        mesh: the object.
        extent: (M, 3) its extreme points.
        image: (H, W, 3) uint8.
        camera: of the image.
        pose: ``T_camera_object``, float32.
        step: size of the window, and reach.
        config: what is compared.
        colours: of object and background.
        learn: teach the colours from this pose before they are used.
        shading: of an object whose mesh has no colours.

    Raises:
        CropError: if the pose does not put the object into the image.
    """
    crop = _crop(image, camera, pose, extent, step.side)
    view = mesh.view(pose, crop.camera, with_grey=config.texture)
    inside = _inside(crop, image.shape[:2])
    matches, lines, steps = texture.NONE, contours.NO_LINES, contours.NO_STEPS
    if shading is not None:
        shown = cv2.cvtColor(crop.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        view = replace(view, grey=shading.grey(view, shown, inside))
    if view.grey is not None:
        matches = texture.match(view, crop.image, inside, 3 if step.side < _COARSE else 1)
    found = Look(pose, crop, view, inside, matches, lines, steps, lines.clean, shading is not None)
    if not config.contours:
        return found
    if learn:
        found.learn(colours, 1.0)
    # far off, an object in view may be drawn half outside of the image, whose border then stands for what is beyond
    known = inside if step.reach <= _TRUSTED else np.ones_like(inside)
    lines = contours.lines(mesh, pose, crop.camera, view, known, step.reach)
    steps = contours.steps(colours.posterior(crop.image), lines, step.reach)
    if step.reach <= _SHARP:
        steps = contours.sharpen(crop.image, lines, steps, max(1.0 / crop.scale, 1.0))
        own, least = np.zeros_like(steps.offset), _SHARPEST
    else:
        # the view's own steps, measured alike: what the measure errs by cancels
        own, least = contours.steps(view.mask.astype(np.float32), lines, step.reach).offset, _BLUNT
    steps = Steps(steps.offset - own, steps.variance + np.float32(least**2), steps.contrast)
    chosen = lines.clean & (np.abs(steps.offset) < 1.5 * step.reach) & (steps.variance < step.reach**2 + 1.0)
    return replace(found, lines=lines, steps=steps, chosen=chosen)


def _crop(image: NDArray[np.uint8], camera: Camera, pose: Pose, extent: Tensor, side: int) -> Crop:
    """The window around the object, drawn no larger than the image shows it: what is not there need not be compared."""
    box = box_from_pose(camera, pose, extent)
    return crop_from_box(image, camera, box, min(side, max(square_window(box, MARGIN)[2], _SMALLEST)), MARGIN)


def _inside(crop: Crop, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of a window that lie in the image and not at its rim."""
    size = crop.image.shape[0]
    centres = (np.arange(size) + 0.5) * crop.scale - 0.5
    x, y = centres + crop.window[0], centres + crop.window[1]
    return ((y > _RIM) & (y < shape[0] - 1 - _RIM))[:, None] & ((x > _RIM) & (x < shape[1] - 1 - _RIM))[None]
