"""When is the reversal of a pose worth a look at the image?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.rival import reversed_rival
from pnp_ros.types import Pose, PoseEstimate
from synthetic.printed_box import printed_box
from synthetic.scenes import EXACT, scenes

MESH = printed_box(0)


def placed(turn: tuple[float, float, float]) -> Pose:
    return Pose(so3.exp(torch.tensor(turn)), torch.tensor([0.01, 0.0, 0.6]))


@pytest.mark.parametrize(
    ("turn", "drawn"), [((0.7, 0.5, 0.3), 0), ((0.15, 0.1, 0.0), 1)], ids=["three sides", "one side, nearly head on"]
)
def test_the_reversal_is_drawn_only_where_the_matches_do_not_lead_back(
    turn: tuple[float, float, float], drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene,) = scenes(MESH, 1, 0, EXACT, lambda _: placed(turn))
    aligner, compare, asked = Aligner(MESH, AlignmentConfig()), Aligner.compare, list[PoseEstimate]()

    def noted(self: Aligner, image: np.ndarray, camera: Camera, start: PoseEstimate) -> Alignment:
        asked.append(start)
        return compare(self, image, camera, start)

    def beside(pose: Pose) -> PoseEstimate:
        return start_at(pose, 0.05 * MESH.diameter, 0.1)

    monkeypatch.setattr(Aligner, "compare", noted)
    one = aligner.align(scene.image, scene.camera, beside(scene.pose))
    assert one.evidence.supported
    rival = reversed_rival(aligner, scene.image, scene.camera, one, Symmetry(), beside)
    assert len(asked) == drawn
    if not drawn:
        assert rival is not None
        assert rival.estimate is None
