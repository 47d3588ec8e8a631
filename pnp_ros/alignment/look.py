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
class Frame:
    """A rectangle of an image around the object, and how it is resized.

    Args:
        edges: (4,) left, top, right and bottom pixel of the image, the last two not included.
        camera: of the resized rectangle's pixels.
        scale: image pixels for one of its own.
        corner: (2,) x, y of the image's pixel, as a number with fractions, that its first pixel shows.
    """

    edges: tuple[int, int, int, int]
    camera: Camera
    scale: float
    corner: NDArray[np.float64]

    def holds(self, left: float, top: float, right: float, bottom: float) -> bool:
        """Whether it contains a rectangle of the image, in image pixels from corner to corner."""
        x, y = self.corner + 0.5 - 0.5 * self.scale
        width, height = self.camera.width * self.scale, self.camera.height * self.scale
        return bool(left >= x and top >= y and right <= x + width and bottom <= y + height)

    def inside(self, width: int, height: int) -> NDArray[np.bool_]:
        """(H, W) pixels that lie in an image of this size, and not at its rim."""
        x = np.arange(self.camera.width) * self.scale + self.corner[0]
        y = np.arange(self.camera.height) * self.scale + self.corner[1]
        return ((y > _RIM) & (y < height - 1 - _RIM))[:, None] & ((x > _RIM) & (x < width - 1 - _RIM))[None]


@dataclass(frozen=True, eq=False)
class Window:
    """What an image shows in a frame.

    Args:
        frame: where.
        image: (H, W, 3) uint8.
    """

    frame: Frame
    image: NDArray[np.uint8]

    @classmethod
    def of(cls, image: NDArray[np.uint8], frame: Frame) -> Window:
        """That of an image (H, W, 3) uint8."""
        part, how = cut(image, *frame.edges), cv2.INTER_AREA if frame.scale > 1.0 else cv2.INTER_LINEAR
        resized = cv2.resize(part, None, fx=1.0 / frame.scale, fy=1.0 / frame.scale, interpolation=how)
        return cls(frame, np.asarray(resized, np.uint8))

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


@dataclass(frozen=True, eq=False)
class Drawing:
    """The object drawn where it may be, before an image is looked at.

    Args:
        pose: ``T_camera_object``, float32.
        step: size of the frame, and reach.
        frame: around it.
        view: of the mesh in that frame.
        inside: (H, W) bool, pixels of the frame that the image has.
        lines: across the outline.
    """

    pose: Pose
    step: Round
    frame: Frame
    view: View
    inside: NDArray[np.bool_]
    lines: Lines


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a look teaches of colours: little of it, as each of many objects keeps one until the next image.

    Args:
        colours: (H, W) of the image, as :class:`ColourModel` counts them.
        mask: (H, W) 1 where the object is drawn, else 0.
        inside: (H, W) bool, pixels of the window that the image has.
    """

    colours: NDArray[np.int32]
    mask: NDArray[np.uint8]
    inside: NDArray[np.bool_]

    def teach(self, model: ColourModel, rate: float) -> None:
        """The object's colours, and those around it; ``rate`` as of :meth:`ColourModel.learn`."""
        square = np.ones((_CORE, _CORE), np.uint8)
        core, ring = cv2.erode(self.mask, square, borderValue=0), cv2.dilate(self.mask, square)
        model.learn(self.colours, (core > 0) & self.inside, (ring == 0) & self.inside, rate)


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
        sigma = np.sqrt(
            steps.variance[self.chosen] * (1.0 + (offset / (_NEAR * reach)) ** 2) + lines.doubt[self.chosen] ** 2
        )
        roots = np.zeros((len(offset), 2, 2), np.float32)
        roots[:, 0] = normals / sigma[:, None]
        pixels = np.concatenate([self.matches.pixels[there], lines.pixels[self.chosen] + offset[:, None] * normals])
        scale = self.window.frame.scale
        return Correspondences(
            (pixels * scale + self.window.frame.corner).astype(np.float32),
            np.concatenate([self.matches.points[there], lines.points[self.chosen]]),
            (np.concatenate([self.matches.roots[there], roots]) / scale).astype(np.float32),
        )

    @property
    def lesson(self) -> Lesson:
        """Of the object drawn here, and of what is around it."""
        return Lesson(self.window.bins, self.view.mask, self.inside)


def draw(
    mesh: RayMesh,
    extent: torch.Tensor,
    camera: Camera,
    pose: Pose,
    step: Round,
    config: AlignmentConfig,
    last: Frame | None = None,
    painted: bool = True,
) -> Drawing:
    """Draw the object at a pose.

    Args:
        mesh: the object.
        extent: (M, 3) its extreme points.
        camera: of the image that will be looked at.
        pose: ``T_camera_object``, float32.
        step: size of the frame, and reach.
        config: what is compared.
        last: the frame of an earlier look at the image, used again where it still fits.
        painted: whether the mesh has colours, whose matches tell more than an outline of sides that are nearly seen.

    Raises:
        CropError: if the pose does not put the object into the image.
    """
    frame = _frame(camera, pose, extent, step, last)
    view = mesh.view(pose, frame.camera, with_grey=config.texture)
    inside, lines = frame.inside(camera.width, camera.height), contours.NO_LINES
    if config.contours:
        # far off, an object in view may be drawn half outside of the image, whose border then stands for what is beyond
        known = inside if step.reach <= _TRUSTED else np.ones_like(inside)
        lines = contours.lines(mesh, pose, frame.camera, view, known, step.reach, extent.numpy() if painted else None)
    return Drawing(pose, step, frame, view, inside, lines)


def look(
    drawing: Drawing,
    image: NDArray[np.uint8],
    config: AlignmentConfig,
    colours: ColourModel | None,
    shading: Shading | None = None,
    painted: bool = True,
    last: Window | None = None,
) -> Look:
    """Search the image around where the object is drawn.

    Args:
        drawing: with this configuration.
        image: (H, W, 3) uint8.
        config: what is compared.
        colours: of object and background; None: as they are if the object is where it is drawn.
        shading: of the mesh; None leaves the light out of what is compared.
        painted: whether the mesh has colours; else its shading is all there is to be compared.
        last: the window of an earlier look at the image, used again if it is the drawing's.
    """
    pose, step, view, inside = drawing.pose, drawing.step, drawing.view, drawing.inside
    window = last if last is not None and last.frame is drawing.frame else Window.of(image, drawing.frame)
    matches = texture.NONE
    shaded = shading is not None and not painted
    eye = -(pose.translation.numpy() @ pose.rotation.numpy())  # in the object's frame
    if shading is not None and shaded:
        view = replace(view, grey=shading.grey(view, window.grey.astype(np.float32), inside, eye))
    if view.grey is not None:
        drawn = view if shading is None or shaded else replace(view, grey=shading.lit(view, window.grey, inside, eye))
        matches = texture.match(drawn, window.contrast, inside, 3 if step.side < _COARSE else 1, step.side < _FINE)
    lines = drawing.lines
    found = Look(pose, window, view, inside, matches, contours.NO_LINES, contours.NO_STEPS, lines.clean[:0], shaded)
    if not config.contours:
        return found
    if colours is None:
        colours = ColourModel()
        found.lesson.teach(colours, 1.0)
    blunt = step.reach > _SHARP
    steps = contours.steps(
        colours.posterior(window.bins), lines, step.reach, view.mask.astype(np.float32) if blunt else None
    )
    if not blunt:
        steps = contours.sharpen(window.image, lines, steps, max(1.0 / window.frame.scale, 1.0))
    least = _BLUNT if blunt else _SHARPEST
    steps = Steps(steps.offset, steps.variance + np.float32(least**2), steps.contrast)
    chosen = lines.clean & (np.abs(steps.offset) < 1.5 * step.reach) & (steps.variance < step.reach**2 + 1.0)
    return replace(found, lines=lines, steps=steps, chosen=chosen)


def _frame(camera: Camera, pose: Pose, extent: torch.Tensor, step: Round, last: Frame | None) -> Frame:
    """The frame around the object, drawn no larger than the image shows it: what is not there need not be compared."""
    box = box_from_pose(camera, pose, extent)
    x, y, width, height = box
    column, row, whole = window_in((camera.width, camera.height), box, MARGIN)
    scale = whole / min(step.side, max(whole, _SMALLEST))

    def around(beside: float) -> tuple[int, int, int, int]:
        """Left, top, right and bottom, so many pixels beside the box, within the square."""
        left, right = math.floor(x - beside * scale), math.ceil(x + width + beside * scale)
        top, bottom = math.floor(y - beside * scale), math.ceil(y + height + beside * scale)
        return max(left, column), max(top, row), min(right, column + whole), min(bottom, row + whole)

    if last is not None and abs(last.scale / scale - 1.0) < _SAME_SCALE and last.holds(*around(_STILL_BESIDE)):
        return last
    left, top, right, bottom = edges = around(max(_BESIDE, contours.extent(step.reach)))
    fx, fy, cx, cy = camera.intrinsics.tolist()
    seen = [fx / scale, fy / scale, (cx - left + 0.5) / scale - 0.5, (cy - top + 0.5) / scale - 0.5]
    size = round((right - left) * (1.0 / scale)), round((bottom - top) * (1.0 / scale))  # as OpenCV resizes
    return Frame(
        edges,
        replace(camera, intrinsics=torch.tensor(seen), width=size[0], height=size[1], sigmas=()),
        scale,
        np.array([left, top]) + 0.5 * scale - 0.5,
    )
