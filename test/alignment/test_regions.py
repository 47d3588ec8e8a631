"""A pose that hardly more than its outline bears out says that it is less sure than its residuals tell."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import Aligner, start_at
from pnp_ros.alignment.evidence import nothing
from pnp_ros.alignment.regions import FACTORS, HIDDEN, OUTLINE, SHOWN, TEXTURE, category, factor
from pnp_ros.rendering.demo_object import demo_mesh
from synthetic.scenes import EXACT, perturbed, scenes


@pytest.mark.parametrize(
    ("texture", "explained", "likeness", "expected"),
    [
        (0.9, 0.9, 0.9, (TEXTURE, SHOWN)),
        (0.4, 0.4, 0.7, (TEXTURE, HIDDEN)),
        (math.nan, 0.9, 0.2, (OUTLINE, SHOWN)),
        (math.nan, 0.5, 0.95, (OUTLINE, SHOWN)),  # its shading fits as that of no other pose
        (math.nan, 0.5, 0.6, (OUTLINE, HIDDEN)),
        (math.nan, 0.5, math.nan, (OUTLINE, HIDDEN)),
    ],
)
def test_what_bears_a_pose_out_is_told_by_its_evidence(
    texture: float, explained: float, likeness: float, expected: tuple[str, str]
) -> None:
    seen = replace(nothing(""), texture=texture, explained=explained, likeness=likeness)
    assert category(seen) == expected
    assert factor(seen) == FACTORS[expected] >= 1.0


def test_the_factor_widens_the_covariance_and_its_systematic_part(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = replace(demo_mesh(), uv=None, texture=None)
    scene = next(scenes(mesh, 1, 1, EXACT))
    start = start_at(perturbed(scene.pose, 2.0, 0.01, 0), 0.01, 0.05)
    found = []
    for wider in (1.0, 4.0):
        for kind in FACTORS:
            monkeypatch.setitem(FACTORS, kind, wider)
        found.append(Aligner(mesh).align(scene.image, scene.camera, start))
    narrow, wide = found
    assert torch.equal(narrow.estimate.pose.rotation, wide.estimate.pose.rotation)
    np.testing.assert_allclose(wide.estimate.covariance, 4.0 * narrow.estimate.covariance, rtol=1e-5)
    np.testing.assert_allclose(wide.systematic, 2.0 * narrow.systematic, rtol=1e-5)
