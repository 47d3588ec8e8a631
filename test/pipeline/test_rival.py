"""When is the reversal of a pose worth a look at the image?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import MATCH, Aligner, Alignment, start_at
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.rival import ALIKE, reversed_rival
from pnp_ros.solvers.pose_hypotheses import reversal
from pnp_ros.types import Pose, PoseEstimate
from synthetic.printed_box import printed_box
from synthetic.scenes import EXACT, scenes

MESH = printed_box(0)


def placed(turn: tuple[float, float, float]) -> Pose:
    return Pose(so3.exp(torch.tensor(turn)), torch.tensor([0.01, 0.0, 0.6]))


def beside(pose: Pose) -> PoseEstimate:
    return start_at(pose, 0.05 * MESH.diameter, 0.1)


@pytest.mark.parametrize(
    ("turn", "drawn"), [((0.7, 0.5, 0.3), 0), ((0.15, 0.1, 0.0), 1)], ids=["three sides", "one side, nearly head on"]
)
def test_the_reversal_is_drawn_only_where_the_matches_do_not_lead_back(
    turn: tuple[float, float, float], drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene,) = scenes(MESH, 1, 0, EXACT, lambda _: placed(turn))
    aligner, compare, asked = Aligner(MESH, AlignmentConfig()), Aligner.compare, list[PoseEstimate]()

    def noted(self: Aligner, image: np.ndarray, camera: Camera, start: PoseEstimate, one: Alignment) -> Alignment:
        asked.append(start)
        return compare(self, image, camera, start, one)

    monkeypatch.setattr(Aligner, "compare", noted)
    one = aligner.align(scene.image, scene.camera, beside(scene.pose))
    assert one.evidence.supported
    rival = reversed_rival(aligner, scene.image, scene.camera, one, Symmetry(), beside)
    assert len(asked) == drawn
    if not drawn:
        assert rival is not None
        assert rival.estimate is None


@pytest.mark.parametrize(("turn", "count"), [((0.15, 0.1, 0.0), 1), ((0.2, 0.0, 0.0), 2)], ids=["at once", "later"])
def test_a_reversal_that_leads_back_is_not_looked_at_again(
    turn: tuple[float, float, float], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene,) = scenes(MESH, 1, 0, EXACT, lambda _: placed(turn))
    aligner, look, looks = Aligner(MESH, AlignmentConfig()), Aligner._look, list[None]()
    one = aligner.align(scene.image, scene.camera, beside(scene.pose))
    chosen = one.kinds == MATCH
    start = reversal(one.correspondences.object_points[chosen], one.estimate.pose)
    assert so3.angle_between(start.rotation, one.estimate.pose.rotation) > 0.3
    whole = aligner.compare(scene.image, scene.camera, beside(start)).estimate  # the same pose, found to the end
    spread = (whole.covariance + one.estimate.covariance).double()
    assert covariance.nees(se3.local(one.estimate.pose, whole.pose).double(), spread) < 0.5
    monkeypatch.setattr(Aligner, "_look", lambda self, *given: looks.append(None) or look(self, *given))
    assert reversed_rival(aligner, scene.image, scene.camera, one, Symmetry(), beside) is ALIKE
    assert len(looks) == count
