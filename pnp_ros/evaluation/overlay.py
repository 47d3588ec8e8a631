"""Drawings to be looked at: the mesh at an estimated pose on its image, axes, and sheets of many images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.types import Pose

RgbImage = NDArray[np.uint8]
Colour = tuple[int, int, int]

GREEN: Colour = (60, 230, 90)
ORANGE: Colour = (255, 170, 30)
RED: Colour = (255, 60, 60)
CYAN: Colour = (0, 220, 255)
_AXES: tuple[Colour, Colour, Colour] = ((255, 50, 50), (50, 220, 50), (70, 110, 255))  # x, y, z
_SHARP = math.cos(math.radians(30.0))  # edges that fold more than this are drawn inside the outline
_SUBPIXEL_BITS = 4
_FARTHEST_PIXEL = 16000  # OpenCV draws with 16-bit coordinates


class MeshOverlay:
    """Draws one mesh's outline, sharp edges and axes; what depends on the mesh alone is prepared once.

    An edge is drawn if one of its triangles faces the camera and the other does not (the outline), or if it is sharp
    and one of them does. Parts that other parts hide are drawn as well: no depth test.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        # vertices that were split for texture seams are one again, so that edges have two triangles
        step = 1e-6 * mesh.diameter
        _, first, merged = np.unique(np.round(mesh.vertices / step), axis=0, return_index=True, return_inverse=True)
        vertices = mesh.vertices[first].astype(np.float64)
        faces = merged.reshape(-1)[mesh.faces]
        self._vertices = torch.from_numpy(vertices)
        corners = vertices[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        self._normals = torch.from_numpy(normals / np.maximum(length, 1e-30))
        self._centres = torch.from_numpy(corners.mean(axis=1))
        self._edges, self._beside, self._sharp = _edges_of(faces, self._normals.numpy())
        self._axis_length = 0.5 * mesh.diameter

    def draw(self, image: RgbImage, pose: Pose, camera: Camera, colour: Colour = GREEN, axes: bool = True) -> RgbImage:
        """A copy of the image (H, W, 3) with the mesh drawn at ``pose`` (no batch dimensions), seen by ``camera``."""
        drawn = image.copy()
        pose, camera = _on_cpu(pose, camera)
        eye = -(pose.rotation.mT @ pose.translation)
        facing = ((eye - self._centres) * self._normals).sum(-1).numpy() > 0
        one, other = facing[self._beside[:, 0]], facing[self._beside[:, 1]]
        visible = (one != other) | (self._sharp & (one | other))
        edges = self._edges[visible]
        segments = self._vertices[torch.from_numpy(edges.reshape(-1))]
        _draw_segments(drawn, _project(segments, pose, camera), [colour] * len(edges))
        return draw_axes(drawn, pose, camera, self._axis_length) if axes else drawn

    def box(self, pose: Pose, camera: Camera) -> tuple[float, float, float, float] | None:
        """Left, top, right and bottom (px) of the mesh at ``pose`` in the image; None where none of it is seen."""
        pixels = _project(self._vertices, *_on_cpu(pose, camera))
        pixels = pixels[np.isfinite(pixels).all(axis=1)]
        if not len(pixels):
            return None
        (left, top), (right, bottom) = pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()
        return left, top, right, bottom


def _edges_of(
    faces: NDArray[np.int64], normals: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Edges (E, 2), the two triangles beside each (E, 2), and which are sharp (E); a border is sharp."""
    pairs = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    owner = np.repeat(np.arange(len(faces)), 3)
    edges, index = np.unique(pairs, axis=0, return_inverse=True)
    index = index.reshape(-1)
    beside = np.zeros((len(edges), 2), np.int64)
    beside[index, 0] = owner  # the last triangle of the edge
    beside[index[::-1], 1] = owner[::-1]  # and the first
    fold = (normals[beside[:, 0]] * normals[beside[:, 1]]).sum(-1)
    return edges, beside, (fold < _SHARP) | (beside[:, 0] == beside[:, 1])


def draw_axes(image: RgbImage, pose: Pose, camera: Camera, length: float) -> RgbImage:
    """A copy of the image (H, W, 3) with the object frame: x red, y green, z blue, each ``length`` metres long."""
    drawn = image.copy()
    ends = torch.zeros(6, 3, dtype=torch.float64)
    ends[[1, 3, 5], [0, 1, 2]] = length
    _draw_segments(drawn, _project(ends, *_on_cpu(pose, camera)), _AXES, thicker=1)
    return drawn


def contact_sheet(
    images: Sequence[RgbImage], columns: int = 6, cell_width: int = 320, captions: Sequence[str] | None = None
) -> RgbImage:
    """Images side by side, row by row, each (H, W, 3) uint8 and shrunk to ``cell_width`` pixels.

    Raises:
        ValueError: if there is no image, or not one caption an image.
    """
    if not images:
        raise ValueError("images: expected at least one")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"captions: expected {len(images)}, got {len(captions)}")
    cell_height = max(round(cell_width * p.shape[0] / p.shape[1]) for p in images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows * cell_height, columns * cell_width, 3), np.uint8)
    for i, image in enumerate(images):
        height = round(cell_width * image.shape[0] / image.shape[1])
        cell = np.asarray(cv2.resize(image, (cell_width, height), interpolation=cv2.INTER_AREA), np.uint8)
        if captions is not None:
            cell = write_caption(cell, captions[i])
        top, left = i // columns * cell_height, i % columns * cell_width
        sheet[top : top + height, left : left + cell_width] = cell
    return sheet


def draw_points(image: RgbImage, points: Tensor, colour: Colour = CYAN) -> RgbImage:
    """A copy of the image with a dot at each of (N, 2) pixels; those that are not finite are left out."""
    drawn = image.copy()
    for x, y in points[points.isfinite().all(-1)].clamp(-_FARTHEST_PIXEL, _FARTHEST_PIXEL).tolist():
        centre = round(x * 2**_SUBPIXEL_BITS), round(y * 2**_SUBPIXEL_BITS)
        cv2.circle(drawn, centre, 2**_SUBPIXEL_BITS, colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return drawn


def write_caption(image: RgbImage, text: str, colour: Colour = (255, 255, 255)) -> RgbImage:
    """A copy of the image with a line of text in a darkened strip along its upper edge."""
    drawn = image.copy()
    scale = max(0.45, image.shape[1] / 1200)
    (_, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    drawn[: height + 2 * below] //= 3
    cv2.putText(drawn, text, (below, height + below), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
    return drawn


def _on_cpu(pose: Pose, camera: Camera) -> tuple[Pose, Camera]:
    pose = Pose(pose.rotation.detach().cpu().double(), pose.translation.detach().cpu().double())
    return pose, camera.to("cpu", torch.float64)


def _project(points: torch.Tensor, pose: Pose, camera: Camera) -> NDArray[np.float64]:
    """Pixels (N, 2) of object points (N, 3); NaN behind the camera and far outside of the image."""
    seen = pose.transform(points)
    pixels = camera.project(seen)
    drawable = (seen[:, 2] > 1e-6) & (pixels.abs() < _FARTHEST_PIXEL).all(-1)
    return torch.where(drawable[:, None], pixels, torch.nan).numpy()


def _draw_segments(image: RgbImage, ends: NDArray[np.float64], colours: Sequence[Colour], thicker: int = 0) -> None:
    """Draw segments given by successive pairs of end points (2 S, 2)."""
    thickness = max(1, round(image.shape[1] / 500)) + thicker
    segments = ends.reshape(-1, 2, 2)
    drawable = np.isfinite(segments).all(axis=(1, 2))
    fixed = np.round(np.nan_to_num(segments) * 2**_SUBPIXEL_BITS).astype(np.int32)
    for i in np.flatnonzero(drawable).tolist():
        start, end = fixed[i]
        cv2.line(image, start, end, colours[i], thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
