"""How much wider the covariance of an aligned pose must be for its 90 % region to hold nine poses of ten.

The covariance is calculated from residuals, camera and mesh. It cannot tell that the outline it fits is partly that of
something else. Split conformal prediction by categories (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random
World", 2005, section 4.5) can: of held-out renders with camera, mesh and light off, the NEES that nine of ten do not
exceed, over the chi-square quantile, is the factor of their category. ``test/benchmark/bench_alignment.py regions``
measures the factors. None is below one: what is calculated is not made narrower by luck of the objects rendered.
"""

from __future__ import annotations

import math

from pnp_ros.alignment.evidence import Evidence

TEXTURE, OUTLINE = "texture", "outline"  # what the pose is borne out by
SHOWN, HIDDEN = "shown", "hidden"  # how much of the object the image shows
FACTORS = {(TEXTURE, SHOWN): 1.0, (TEXTURE, HIDDEN): 1.0, (OUTLINE, SHOWN): 1.0, (OUTLINE, HIDDEN): 9.0}
_MOST = 0.7  # of the object in view: with less, something hides it, or what is found is something else
_FITTED = 0.9  # correlation of the shading that no other pose reaches, however little of the outline is found


def category(evidence: Evidence) -> tuple[str, str]:
    """What bears a pose out, and whether most of it is shown; a key of :data:`FACTORS`."""
    if not math.isnan(evidence.texture):
        return TEXTURE, SHOWN if evidence.explained >= _MOST else HIDDEN
    return OUTLINE, SHOWN if evidence.explained >= _MOST or evidence.likeness > _FITTED else HIDDEN


def factor(evidence: Evidence) -> float:
    """On the covariance of a pose that this speaks for."""
    return FACTORS[category(evidence)]
