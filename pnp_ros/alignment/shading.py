"""What an object looks like in the light of an image: its grey by the direction of its surface.

Diffuse light from anywhere shades a surface by a quadratic function of its normal (Ramamoorthi and Hanrahan, "An
efficient representation for irradiance environment maps", SIGGRAPH 2001): nine numbers, fitted to the image where the
object is drawn. What is seen of a surface is its side towards the camera, whichever way a mesh's faces are turned.
Creases of an object of one colour, where two shades meet, then show as a texture does; and what is printed on an object
is drawn as dark as it is seen, so that matches across a crease do not move towards one side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.raster_view import View
from pnp_ros.rendering.shading_normals import corner_normals

_STRIDE, _STRIDE_PRINT = 3, 5  # pixels between those that the light, or its change over a print, is fitted to
_ROUNDS, _ROUNDS_PRINT = 3, 2  # of reweighting
_SCALE = 2.0  # residuals in robust deviations that count by half
_HELD = 1e-3  # share of the pixels' weight that holds the nine numbers at zero where the image tells nothing
_HELD_PRINT = 0.02  # the same where they are the light's change over a print
_DARKEST, _BRIGHTEST = 0.3, 3.0  # times the print's mean brightness
_ODD = slice(1, 4)  # of the nine terms: those whose sign is the normal's


class Shading:
    """The directions of a mesh's surface.

    Args:
        mesh: in metres.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        a, b, c = mesh.vertices[mesh.faces].swapaxes(0, 1)
        self._across = np.cross(b - a, c - a)  # a face's own plane: its smoothed normal may look the other way at a rim
        self._beyond = np.einsum("ij,ij->i", self._across, a)
        normals = corner_normals(mesh).mean(1)
        x, y, z = (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)).T
        terms = [np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3.0 * z * z - 1.0]
        self._terms = np.stack(terms, 1).astype(np.float32)

    def grey(
        self, view: View, shown: NDArray[np.float32], inside: NDArray[np.bool_], eye: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(H, W) grey of an object of one colour in the light that fits an image best; 0 where it is not.

        Args:
            view: of the mesh, whose colours are not looked at.
            shown: (H, W) grey values of the image.
            inside: (H, W) bool, pixels that the image has.
            eye: (3,) where the camera is, in the object's frame.
        """
        every = np.s_[::_STRIDE, ::_STRIDE]
        there = (view.face[every] >= 0) & inside[every]
        grey = np.zeros(view.face.shape, np.float32)
        if there.sum() < self._terms.shape[1]:
            return grey
        terms = self._seen(view.face[every][there], eye)
        light = _fitted(terms[view.face[every][there]], shown[every][there], _HELD, _ROUNDS)
        seen = view.face >= 0
        grey[seen] = np.clip(terms @ light, 0.0, 255.0)[view.face[seen]]
        return grey

    def lit(
        self, view: View, shown: NDArray[np.uint8], inside: NDArray[np.bool_], eye: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(H, W) grey of a printed object in the light that fits an image best; arguments as :meth:`grey`."""
        assert view.grey is not None
        every = np.s_[::_STRIDE_PRINT, ::_STRIDE_PRINT]
        there = (view.face[every] >= 0) & inside[every]
        faces, own = view.face[every][there], view.grey[every][there]
        values = shown[every][there].astype(np.float32)
        power = float(own @ own)
        if len(own) < self._terms.shape[1] or power < 1.0 or (mean := float(own @ values) / power) <= 0.0:
            return view.grey
        terms = self._seen(faces, eye)
        change = _fitted(terms[faces] * own[:, None], values - mean * own, _HELD_PRINT, _ROUNDS_PRINT)
        gain = np.clip(1.0 + terms @ (change / mean), _DARKEST, _BRIGHTEST).astype(np.float32)
        return np.asarray(view.grey * gain.take(view.face, mode="clip"), np.float32)  # it is 0 where there is no face

    def _seen(self, faces: NDArray[np.int32], eye: NDArray[np.float32]) -> NDArray[np.float32]:
        """(F, 9) terms of the sides towards the camera of those faces that are in view."""
        away = self._across @ eye < self._beyond
        if not away[faces].any():
            return self._terms
        terms = self._terms.copy()
        terms[away, _ODD] *= -1.0
        return terms


def _fitted(design: NDArray[np.float32], values: NDArray[np.float32], held: float, rounds: int) -> NDArray[np.float32]:
    """(9,) robust least squares of (N, 9) to (N,)."""
    weights, light = np.ones(len(values), np.float32), np.zeros(design.shape[1], np.float32)
    for _ in range(rounds):
        weighted = design * weights[:, None]
        hold = held * float(weighted[:, 0] @ design[:, 0])  # the first of the terms is the mean light
        normal = weighted.T @ design + hold * np.eye(design.shape[1], dtype=np.float32)
        light = np.linalg.solve(normal, weighted.T @ values)
        miss = np.abs(values - design @ light)
        weights = 1.0 / (1.0 + (miss / (_SCALE * (1.48 * np.median(miss) + 1.0))) ** 2)
    return light
