"""One comparison of the object at a pose with the image: matches of its texture and lines across its outline."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.alignment import contours, texture
from pnp_ros.alignment.colours import ColourModel
from pnp_ros.alignment.config import MARGIN, AlignmentConfig, Round
from pnp_ros.alignment.contours import Lines, Steps
from pnp_ros.alignment.shading import Shading
from pnp_ros.alignment.texture import Matches
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import box_from_pose, crop_from_box, square_window
from pnp_ros.rendering.raster_view import View
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Correspondences, Pose

_SHARP = 2  # pixels of reach from which on a step is measured by its own two colours
_TRUSTED = 6  # pixels of reach up to which the pose is trusted to say what is in view
_COARSE, _FINE = 100, 120  # pixels of a round: below, matches get a higher pyramid, and fewer corners are looked for
_SMALLEST = 200  # pixels: smaller windows are enlarged, so that patches are small enough
_BESIDE = 20  # pixels of a window around the object's box that are looked at: more than any search there needs
_RIM = 3  # pixels of the image's border in which nothing is expected
_CORE = 5  # pixels, side of the square by which colours are learnt off the outline
_BLUNT, _SHARPEST = 0.55, 0.3  # pixels of the window that a step's place is uncertain at least
_NEAR = 0.7  # of the reach: beyond, a step counts less, as it may be another edge's


@dataclass(frozen=True, eq=False)
class Window:
    """A rectangle of the image, resized: what is around the object, and no more.

    Args:
        image: (H, W, 3) uint8.
        camera: of its pixels.
        scale: image pixels for one of its own.
        corner: (2,) x, y of the image's pixel, as a number with fractions, that its first pixel shows.
    """

    image: NDArray[np.uint8]
    camera: Camera
    scale: float
    corner: NDArray[np.float64]

    def inside(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Pixels that lie in an image of this height and width, and not at its rim."""
        height, width = self.image.shape[:2]
        x, y = np.arange(width) * self.scale + self.corner[0], np.arange(height) * self.scale + self.corner[1]
        return ((y > _RIM) & (y < shape[0] - 1 - _RIM))[:, None] & ((x > _RIM) & (x < shape[1] - 1 - _RIM))[None]


@dataclass(frozen=True, eq=False)
class Look:
    """What one look found.

    Args:
        pose: at which the object was drawn.
        window: of the image.
        view: of the mesh in that window.
        inside: (H, W) bool, pixels of the window that the image has.
        matches: of the texture.
        lines: across the outline.
        steps: on the lines; offsets are relative to those that the view itself shows.
        chosen: (L,) which lines tell something.
        shaded: whether the view's grey values are a guess by the light, as the mesh has no colours.
    """

    pose: Pose
    window: Window
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
        scale = self.window.scale
        return Correspondences(
            (pixels * scale + self.window.corner).astype(np.float32),
            np.concatenate([self.matches.points[there], lines.points[self.chosen]]),
            (np.concatenate([self.matches.roots[there], roots]) / scale).astype(np.float32),
        )

    def learn(self, colours: ColourModel, rate: float) -> None:
        """Teach the colours of the object drawn here and of what is around it."""
        square, mask = np.ones((_CORE, _CORE), np.uint8), self.view.mask
        core, ring = cv2.erode(mask, square, borderValue=0), cv2.dilate(mask, square)
        colours.learn(self.window.image, (core > 0) & self.inside, (ring == 0) & self.inside, rate)


def look(
    mesh: RayMesh,
    extent: torch.Tensor,
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
    window = _window(image, camera, pose, extent, step.side)
    view = mesh.view(pose, window.camera, with_grey=config.texture)
    inside = window.inside(image.shape[:2])
    matches, lines, steps = texture.NONE, contours.NO_LINES, contours.NO_STEPS
    if shading is not None:
        shown = cv2.cvtColor(window.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        view = replace(view, grey=shading.grey(view, shown, inside))
    if view.grey is not None:
        matches = texture.match(view, window.image, inside, 3 if step.side < _COARSE else 1, step.side < _FINE)
    found = Look(pose, window, view, inside, matches, lines, steps, lines.clean, shading is not None)
    if not config.contours:
        return found
    if learn:
        found.learn(colours, 1.0)
    # far off, an object in view may be drawn half outside of the image, whose border then stands for what is beyond
    known = inside if step.reach <= _TRUSTED else np.ones_like(inside)
    lines = contours.lines(mesh, pose, window.camera, view, known, step.reach)
    steps = contours.steps(colours.posterior(window.image), lines, step.reach)
    if step.reach <= _SHARP:
        steps = contours.sharpen(window.image, lines, steps, max(1.0 / window.scale, 1.0))
        own, least = np.zeros_like(steps.offset), _SHARPEST
    else:
        # the view's own steps, measured alike: what the measure errs by cancels
        own, least = contours.steps(view.mask.astype(np.float32), lines, step.reach).offset, _BLUNT
    steps = Steps(steps.offset - own, steps.variance + np.float32(least**2), steps.contrast)
    chosen = lines.clean & (np.abs(steps.offset) < 1.5 * step.reach) & (steps.variance < step.reach**2 + 1.0)
    return replace(found, lines=lines, steps=steps, chosen=chosen)


def _window(image: NDArray[np.uint8], camera: Camera, pose: Pose, extent: torch.Tensor, side: int) -> Window:
    """The window around the object, drawn no larger than the image shows it: what is not there need not be compared."""
    around = box_from_pose(camera, pose, extent)
    crop = crop_from_box(image, camera, around, min(side, max(square_window(around, MARGIN)[2], _SMALLEST)), MARGIN)
    size = crop.image.shape[0]
    first = np.array(around[:2]) - crop.window[:2]
    low = np.floor(first / crop.scale - _BESIDE).astype(int).clip(0, size - 2)
    high = np.ceil((first + around[2:]) / crop.scale + _BESIDE).astype(int).clip(low + 2, size)
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    moved = crop.camera.intrinsics - torch.tensor([0.0, 0.0, left, top])
    return Window(
        np.ascontiguousarray(crop.image[top:bottom, left:right]),
        replace(crop.camera, intrinsics=moved, width=right - left, height=bottom - top),
        crop.scale,
        (low + 0.5) * crop.scale - 0.5 + crop.window[:2],
    )
