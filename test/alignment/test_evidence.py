"""What a verdict asks for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.alignment.evidence import _contradiction, nothing
from pnp_ros.alignment.likeness import Likeness

SEEN = replace(nothing(""), texture=0.8, explained=0.8, matches=40, colours=0.9)


def textured(blur: float) -> Likeness:
    """Of an image that is blurred by so many pixels."""
    return Likeness(np.ones((2, 2), np.float32), np.ones((2, 2), np.bool_), (0, 0), 1.0, 1.0, 0.8, 0.4, blur)


@pytest.mark.parametrize(
    ("blur", "contour", "likeness", "supported"),
    [
        (2.5, 0.8, 0.4, True),
        (1.0, 0.8, 0.4, False),
        (2.5, 0.1, 0.4, False),
        (2.5, 0.1, 0.55, True),
        (2.5, math.nan, 0.4, True),
    ],
    ids=["blurred", "sharp", "blurred, and not where its outline is", "and like it all the same", "without lines"],
)
def test_a_blurred_texture_needs_less_likeness_where_the_outline_is(
    blur: float, contour: float, likeness: float, supported: bool
) -> None:
    seen = replace(SEEN, contour=contour, likeness=likeness)
    reason = _contradiction(seen, textured(blur), False, 40, AlignmentConfig())
    assert (reason == "") is supported
    assert supported or "correlates by 0.40 with the texture" in reason
