"""How far a pose of a printed cube is from an image, by OpenCV alone: neither truth nor estimate was made of it.

Its edges: each edge of a side that the pose turns to the camera should lie on an edge of the image that runs the same
way (directional chamfer distance: Shotton, Blake, Cipolla, "Multiscale categorical object recognition using contour
fragments", PAMI 2008). Its prints: the image, seen through the homography of such a side, is aligned densely with the
print by enhanced correlation (Evangelidis and Psarakis, PAMI 2008); the pose is off by what the print must still move.
A print alone does not tell a face from its reversal, nor where its depth is; the edges do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh

_SIDE, _MARGIN = 96, 24  # pixels of a print and around it, about as many as the image has
_FINE = 4  # times as many pixels of the texture, averaged
_STEEPEST = 0.1, 0.4  # cosine of normal and line of sight from which a side is seen, and its print is compared
_ALIKE, _BLUR = 0.6, 5  # least correlation of a print that was found, and the kernel's side that smooths both, pixels
_UNTIL = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-5)
_GRID = 5  # places a side at which a print's motion is measured
_BINS, _APART = 18, 15.0  # directions of edges, and degrees by which they may differ
_FARTHEST = 8.0  # pixels: edges farther away are others
_EVERY = 2.0  # pixels of an edge


@dataclass(frozen=True)
class Misses:
    """Pixels by which a pose is off: its edges, mean; and its prints, rms (NaN where none is found)."""

    edges: float
    prints: float


class CubeJudge:
    """A cube along the axes about the origin, the texture of each side one homography; intrinsics (3, 3), no lens."""

    def __init__(self, mesh: TriangleMesh, intrinsics: NDArray[np.float64]) -> None:
        self._matrix, self._half = intrinsics, float(mesh.bounds[1, 0])
        self._sides = [_corners(axis, sign, self._half) for axis in range(3) for sign in (-1.0, 1.0)]
        self._prints = [_print(mesh, corners) for corners in self._sides]

    def __call__(self, rgb: NDArray[np.uint8], *poses: NDArray[np.float64]) -> list[Misses]:
        """Judge poses (4, 4) ``T_camera_object`` by an image (H, W, 3) uint8."""
        distances, grey = _edge_distances(rgb), cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        return [Misses(self._edges(distances, pose), self._moves(grey, pose)) for pose in poses]

    def _seen(self, pose: NDArray, least: float) -> Iterator[tuple[NDArray, NDArray[np.float64]]]:
        """Print, and (4, 2) pixels of the corners, of each side turned to the camera."""
        for corners, shown in zip(self._sides, self._prints):
            normal = pose[:3, :3] @ corners.mean(0) / self._half
            centre = pose[:3, :3] @ corners.mean(0) + pose[:3, 3]
            if -(normal @ centre) > least * np.linalg.norm(centre):
                pixels = (corners @ pose[:3, :3].T + pose[:3, 3]) @ self._matrix.T
                yield shown, pixels[:, :2] / pixels[:, 2:]

    def _edges(self, distances: NDArray, pose: NDArray) -> float:
        misses, (height, width) = list[float](), distances.shape[1:]
        for _, corners in self._seen(pose, _STEEPEST[0]):
            for a, b in itertools.pairwise([*corners, corners[0]]):
                direction = round(np.degrees(np.arctan2(*(b - a)[::-1])) / 180.0 * _BINS) % _BINS
                places = np.linspace(a, b, max(int(np.hypot(*(b - a)) / _EVERY), 2)).round().astype(int)
                x, y = places[((places >= 0) & (places < (width, height))).all(1)].T
                misses.extend(np.minimum(distances[direction, y, x], _FARTHEST))
        return float(np.mean(misses)) if misses else float("nan")

    def _moves(self, grey: NDArray, pose: NDArray) -> float:
        ends = np.array([(0, 0), (_SIDE, 0), (_SIDE, _SIDE), (0, _SIDE)], np.float32) - 0.5
        beside = np.array([[1, 0, -_MARGIN], [0, 1, -_MARGIN], [0, 0, 1]], np.float64)
        at = (np.arange(_GRID) + 0.5) * _SIDE / _GRID - 0.5
        grid, squares = np.stack(np.meshgrid(at, at), -1).reshape(-1, 1, 2), list[float]()
        for shown, corners in self._seen(pose, _STEEPEST[1]):
            to_image = cv2.getPerspectiveTransform(ends, corners.astype(np.float32))
            size, how = (_SIDE + 2 * _MARGIN,) * 2, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            seen, there = (cv2.warpPerspective(v, to_image @ beside, size, flags=how) for v in (grey, grey * 0 + 1))
            warp = np.linalg.inv(beside)[:2].astype(np.float32)
            try:
                alike, warp = cv2.findTransformECC(shown, seen, warp, cv2.MOTION_AFFINE, _UNTIL, there, _BLUR)
            except cv2.error:  # it does not converge
                continue
            if alike > _ALIKE:
                moved = cv2.transform(grid, warp) - _MARGIN
                ways = cv2.perspectiveTransform(moved, to_image) - cv2.perspectiveTransform(grid, to_image)
                squares.extend((ways**2).sum(-1).ravel())
        return float(np.sqrt(np.mean(squares))) if squares else float("nan")


def _edge_distances(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(D, H, W) pixels from each to the next edge of the image, by direction."""
    smooth = cv2.GaussianBlur(rgb, (0, 0), 1.0)
    dx, dy = (cv2.Sobel(smooth, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    strongest = (dx**2 + dy**2).argmax(-1)[..., None]
    dx, dy = (np.take_along_axis(d, strongest, -1)[..., 0] for d in (dx, dy))
    along = np.degrees(np.arctan2(dx, -dy))  # an edge runs across the gradient
    edges = np.max([cv2.Canny(np.ascontiguousarray(smooth[..., k]), 20, 60) for k in range(3)], axis=0) > 0
    found = []
    for direction in np.arange(_BINS) * 180.0 / _BINS:
        beside = np.abs((along - direction + 90.0) % 180.0 - 90.0)
        found.append(cv2.distanceTransform((~(edges & (beside < _APART))).astype(np.uint8), cv2.DIST_L2, 5))
    return np.stack(found)


def _corners(axis: int, sign: float, half: float) -> NDArray[np.float64]:
    """(4, 3) of a side, clockwise as seen from outside."""
    normal, x = sign * np.eye(3)[axis], np.eye(3)[(axis + 1) % 3]
    y = np.cross(x, normal)
    return half * np.array([normal - x - y, normal + x - y, normal + x + y, normal - x + y])


def _print(mesh: TriangleMesh, corners: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(S, S) grey of a side, its first corner at the upper left."""
    assert mesh.texture is not None
    assert mesh.uv is not None
    triangles, centre = mesh.vertices[mesh.faces], corners.mean(0)
    of = (triangles @ (centre / (centre @ centre)) > 0.999).all(1)
    away = triangles[of].reshape(-1, 3) - corners[0]
    on_side = [_SIDE * away @ v / (v @ v) - 0.5 for v in (corners[1] - corners[0], corners[3] - corners[0])]
    height, width = mesh.texture.shape[:2]
    u, v = mesh.uv[mesh.faces[of]].reshape(-1, 2).T
    to_texture, _ = cv2.findHomography(np.stack(on_side, -1), np.stack([u * width, (1.0 - v) * height], -1) - 0.5)
    finer = np.diag([1.0 / _FINE, 1.0 / _FINE, 1.0])
    finer[:2, 2] = 0.5 / _FINE - 0.5
    grey, how = cv2.cvtColor(mesh.texture, cv2.COLOR_RGB2GRAY), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    large = cv2.warpPerspective(grey, to_texture @ finer, (_FINE * _SIDE,) * 2, flags=how)
    return np.asarray(cv2.resize(large, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)
