"""One comparison of the object at a pose with the image: matches of its texture and lines across its outline."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.alignment import contours, texture
from pnp_ros.alignment.colours import ColourModel, bins
from pnp_ros.alignment.config import MARGIN, AlignmentConfig, Round
from pnp_ros.alignment.contours import Lines, Steps
from pnp_ros.alignment.shading import Shading
from pnp_ros.alignment.texture import Matches
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import box_from_pose, cut, window_in
from pnp_ros.rendering.raster_view import View
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Correspondences, Pose

_SHARP = 2  # pixels of reach from which on a step is measured by its own two colours
_TRUSTED = 6  # pixels of reach up to which the pose is trusted to say what is in view
_COARSE, _FINE = 100, 120  # pixels of a round: below, matches get a higher pyramid, and fewer corners are looked for
_SMALLEST = 200  # pixels: smaller windows are enlarged, so that patches are small enough
_BESIDE = 14  # pixels of a window around the object's box that are looked at, and more where lines are searched farther
_STILL_BESIDE, _SAME_SCALE = 8, 0.05  # how much of that, and of its scale, a window must have to be used again
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

    @functools.cached_property
    def grey(self) -> NDArray[np.uint8]:
        """(H, W) of the image."""
        return np.asarray(cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY), np.uint8)

    @functools.cached_property
    def contrast(self) -> NDArray[np.uint8]:
        """(H, W) of the image, as corners are followed in it."""
        return texture.normalised(self.grey.astype(np.float32))

    @functools.cached_property
    def bins(self) -> NDArray[np.int32]:
        """(H, W) of the image's colours, as :class:`ColourModel` counts them."""
        return bins(self.image)

    def holds(self, left: float, top: float, right: float, bottom: float) -> bool:
        """Whether it contains a rectangle of the image, in image pixels from corner to corner."""
        height, width = self.image.shape[:2]
        x, y = self.corner + 0.5 - 0.5 * self.scale
        return bool(left >= x and top >= y and right <= x + width * self.scale and bottom <= y + height * self.scale)

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
        return int(np.count_nonzero(self.matches.found)), int(np.count_nonzero(self.chosen))

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
        colours.learn(self.window.bins, (core > 0) & self.inside, (ring == 0) & self.inside, rate)


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
    painted: bool = True,
    last: Window | None = None,
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
        shading: of the mesh; None leaves the light out of what is compared.
        painted: whether the mesh has colours; else its shading is all there is to be compared.
        last: the window of an earlier look at the image, used again where it still fits.

    Raises:
        CropError: if the pose does not put the object into the image.
    """
    window = _window(image, camera, pose, extent, step, last)
    view = mesh.view(pose, window.camera, with_grey=config.texture)
    inside = window.inside(image.shape[:2])
    matches, lines, steps = texture.NONE, contours.NO_LINES, contours.NO_STEPS
    shaded = shading is not None and not painted
    eye = -(pose.translation.numpy() @ pose.rotation.numpy())  # in the object's frame
    if shading is not None and shaded:
        view = replace(view, grey=shading.grey(view, window.grey.astype(np.float32), inside, eye))
    if view.grey is not None:
        drawn = view if shading is None or shaded else replace(view, grey=shading.lit(view, window.grey, inside, eye))
        matches = texture.match(drawn, window.contrast, inside, 3 if step.side < _COARSE else 1, step.side < _FINE)
    found = Look(pose, window, view, inside, matches, lines, steps, lines.clean, shaded)
    if not config.contours:
        return found
    if learn:
        found.learn(colours, 1.0)
    # far off, an object in view may be drawn half outside of the image, whose border then stands for what is beyond
    known = inside if step.reach <= _TRUSTED else np.ones_like(inside)
    lines = contours.lines(mesh, pose, window.camera, view, known, step.reach)
    blunt = step.reach > _SHARP
    steps = contours.steps(
        colours.posterior(window.bins), lines, step.reach, view.mask.astype(np.float32) if blunt else None
    )
    if not blunt:
        steps = contours.sharpen(window.image, lines, steps, max(1.0 / window.scale, 1.0))
    least = _BLUNT if blunt else _SHARPEST
    steps = Steps(steps.offset, steps.variance + np.float32(least**2), steps.contrast)
    chosen = lines.clean & (np.abs(steps.offset) < 1.5 * step.reach) & (steps.variance < step.reach**2 + 1.0)
    return replace(found, lines=lines, steps=steps, chosen=chosen)


def _window(
    image: NDArray[np.uint8], camera: Camera, pose: Pose, extent: torch.Tensor, step: Round, last: Window | None
) -> Window:
    """The window around the object, drawn no larger than the image shows it: what is not there need not be compared."""
    box = box_from_pose(camera, pose, extent)
    x, y, width, height = box
    column, row, whole = window_in(image, box, MARGIN)
    scale = whole / min(step.side, max(whole, _SMALLEST))

    def around(beside: float) -> tuple[int, int, int, int]:
        """Left, top, right and bottom, so many pixels beside the box, within the square."""
        left, right = math.floor(x - beside * scale), math.ceil(x + width + beside * scale)
        top, bottom = math.floor(y - beside * scale), math.ceil(y + height + beside * scale)
        return max(left, column), max(top, row), min(right, column + whole), min(bottom, row + whole)

    if last is not None and abs(last.scale / scale - 1.0) < _SAME_SCALE and last.holds(*around(_STILL_BESIDE)):
        return last
    left, top, right, bottom = around(max(_BESIDE, contours.extent(step.reach)))
    part, how = cut(image, left, top, right, bottom), cv2.INTER_AREA if scale > 1.0 else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(part, None, fx=1.0 / scale, fy=1.0 / scale, interpolation=how), np.uint8)
    fx, fy, cx, cy = camera.intrinsics.tolist()
    seen = [fx / scale, fy / scale, (cx - left + 0.5) / scale - 0.5, (cy - top + 0.5) / scale - 0.5]
    return Window(
        resized,
        replace(camera, intrinsics=torch.tensor(seen), width=resized.shape[1], height=resized.shape[0], sigmas=()),
        scale,
        np.array([left, top]) + 0.5 * scale - 0.5,
    )
