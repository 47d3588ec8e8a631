"""Which of two aligned poses an image speaks for, where each of them alone would be borne out.

A face seen nearly head on fits its reversal, too: the same print lies in the same place, some ten degrees off. What
tells the two is little. The reversal's perspective is the other way round, so that its matches miss by more; and the
sides that it draws are not those in the image, so that less of its outline is found. Both are log-likelihoods of which
only the differences count, the outline's as far as it is found at one of the two.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pnp_ros.alignment.aligner import MATCH, Alignment
from pnp_ros.alignment.evidence import Evidence
from pnp_ros.cameras.camera import Camera
from pnp_ros.cameras.single_view import projected

_FOUND, _BY_CHANCE = 0.85, 0.35  # share of the outline found at a right pose, and at one beside it
_LINES, _MATCHES = 8.0, 4.0  # that tell as much as an independent one
# squared deviations from which a match speaks less; its loss is not multiplied by them: neither camera nor mesh
# are exact, so that matches of a right pose miss by two deviations and more
_SCALE = 9.0


def log_odds(other: Alignment, one: Alignment, camera: Camera) -> float:
    """Log odds of ``other`` against ``one``, of the same image and object; ``camera``: of the image."""
    misses = [_misses(each, camera) for each in (one, other)]
    count = min(map(len, misses))
    missed = float(misses[0].mean() - misses[1].mean()) * count / _MATCHES if count else 0.0
    sides = other.evidence, one.evidence
    # where neither pose finds more of its outline than chance would, something hides it, and it tells nothing
    known = np.interp(max(each.lines / max(each.sought, 1) for each in sides), (_BY_CHANCE, _FOUND), (0.0, 1.0))
    return missed + float(known) * (_outline(sides[0]) - _outline(sides[1])) / _LINES


def _misses(alignment: Alignment, camera: Camera) -> NDArray[np.float64]:
    """(M,) of the matches: how far each is from where the pose says, as a Cauchy loss."""
    chosen = alignment.kinds.numpy() == MATCH
    data = alignment.correspondences
    pixels, points, roots = (v.numpy()[chosen] for v in (data.image_points, data.object_points, data.weights))
    miss = np.einsum("nij,nj->ni", roots, projected(camera, alignment.estimate.pose, points) - pixels)
    return np.asarray(np.log1p(np.square(miss).sum(1) / _SCALE), np.float64)


def _outline(evidence: Evidence) -> float:
    """Of the lines that were found and those that were not."""
    found = min(evidence.lines, evidence.sought)
    missing = evidence.sought - found
    return found * math.log(_FOUND / _BY_CHANCE) + missing * math.log((1 - _FOUND) / (1 - _BY_CHANCE))
