"""Which of several poses the image likes best, where all of them have the same outline: turns of a body onto itself.

The object's own grey, drawn at each pose, is compared with the image. Light makes neighbouring pixels err together, so
the print (what differs from its surroundings) and the shades of whole sides are compared apart, and a side counts as
one look however many pixels it has. The print is compared place by place, so that what hides a part says nothing. For
a Gaussian error of unknown size, ``n`` independent looks that correlate by ``c`` have the log-likelihood
``-n/2 log(1 - c^2)``, but for a constant.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.pose_likeness import PoseLikeness
from pnp_ros.types import Pose

_SIDE, _MARGIN = 160, 1.3  # of the window, pixels; over the object's box
_AROUND = 41  # pixels, side of the square that is a place's surroundings
_SMOOTH = 1.2  # pixels: what is finer, drawing and camera show differently
_LOOK = 180.0  # pixels that make one independent look at the print
_PLACE, _ALIKE = 31, 0.5  # pixels, side of a place; and its least correlation that is none by chance
_SIDES = 4.0  # looks that the shades of sides are worth
_FEWEST = 100  # pixels of the object that tell anything
_FLAT = 1.0  # grey levels, standard deviation: less is no print
_CLOSEST = 0.93  # correlation beyond which what is left is the drawing's fault


class Appearance(PoseLikeness):
    """An object whose poses with one outline are compared with images by its grey. For one thread.

    Args:
        mesh: in metres.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        super().__init__(mesh, _SIDE, _MARGIN)

    def _compared(self, window: NDArray[np.uint8]) -> Callable[[Pose, Camera], float]:
        seen = cv2.cvtColor(window, cv2.COLOR_RGB2GRAY).astype(np.float32)

        def log_likelihood(pose: Pose, camera: Camera) -> float:
            view = self._mesh.view(pose, camera, with_grey=True)
            inside = cv2.erode(view.mask, np.ones((3, 3), np.uint8), borderValue=0) > 0
            if view.grey is None or inside.sum() < _FEWEST:
                return 0.0
            return _log_likelihood(seen, view.grey, inside)

        return log_likelihood


def _log_likelihood(seen: NDArray[np.float32], drawn: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    looks = float(inside.sum()) / _LOOK
    (seen_shade, seen_print), (drawn_shade, drawn_print) = _parted(seen, inside), _parted(drawn, inside)
    return _places(seen_print, drawn_print, inside) + _evidence(seen_shade, drawn_shade, min(_SIDES, looks))


def _places(seen: NDArray[np.float32], drawn: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Of the print, place by place: where something hides the object no pose has anything in common with the image."""

    def near(values: NDArray[np.float32]) -> NDArray[np.float32]:
        whole = np.zeros(inside.shape, np.float32)
        whole[inside] = values
        return np.asarray(cv2.blur(whole, (_PLACE, _PLACE))[inside], np.float32)

    power, share = near(seen**2) * near(drawn**2), near(np.ones_like(seen))
    correlation = near(seen * drawn) / np.sqrt(np.maximum(power, (_FLAT**2 * share) ** 2))
    alike = np.where(correlation > _ALIKE, np.minimum(correlation, _CLOSEST), 0.0)
    return float(-0.5 * np.log1p(-(alike**2)).sum() / _LOOK)


def _parted(grey: NDArray[np.float32], inside: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(P,) of the pixels inside: the mean grey of their surroundings, and what they differ from it by."""
    smooth = cv2.GaussianBlur(np.where(inside, grey, grey[inside].mean()).astype(np.float32), (0, 0), _SMOOTH)
    square = (_AROUND, _AROUND)
    total, count = (cv2.blur(v.astype(np.float32), square) for v in (np.where(inside, smooth, 0.0), inside))
    around = np.asarray(total[inside] / count[inside], np.float32)
    return around, np.asarray(smooth[inside] - around, np.float32)


def _evidence(seen: NDArray[np.float32], drawn: NDArray[np.float32], looks: float) -> float:
    seen, drawn = seen - seen.mean(), drawn - drawn.mean()
    if seen.std() < _FLAT or drawn.std() < _FLAT:
        return 0.0
    correlation = float((seen * drawn).mean() / (seen.std() * drawn.std()))
    return -0.5 * looks * float(np.log1p(-(min(max(correlation, 0.0), _CLOSEST) ** 2)))
