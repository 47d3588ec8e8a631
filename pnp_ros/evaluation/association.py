"""Which of several estimates is of which true instance, image after image.

As CLEAR MOT does (Bernardin and Stiefelhagen, "Evaluating multiple object tracking performance", 2008): a pair of the
last image stays one while it is near enough; what is left is paired so that the sum of the distances is least. Only
instances of one object are paired. A true instance whose name changes is an identity swap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from pnp_ros.evaluation.truth import Truth
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.types import Pose

NEAR = 0.5  # diameters between the centres of an estimate and of the true instance that it may be of


class Association:
    """The instances of one object, told and true.

    Args:
        package: of the object.
    """

    def __init__(self, package: ObjectPackage) -> None:
        self._package, self._centre = package, package.mesh.bounds.mean(axis=0, dtype=np.float64)
        self._names: dict[str, str] = {}  # the estimate's name that a true instance had last
        self.swaps = 0

    def pair(
        self, told: Mapping[str, FrameResult], truths: Mapping[str, Truth]
    ) -> tuple[dict[str, FrameResult], list[FrameResult]]:
        """Of one image.

        Args:
            told: what was estimated, by the estimate's name.
            truths: by the true instance's name.

        Returns:
            What was estimated of each true instance, with its truth; and the valid poses that are of none, as false.
        """
        valid = {name: self._place(record.pose) for name, record in told.items() if record.is_valid and record.pose}
        there = {name: self._place(truth.pose) for name, truth in truths.items() if truth.pose is not None}
        pairs = {
            true: name
            for true, name in self._names.items()
            if true in there and name in valid and self._near(there[true], valid[name])
        }
        pairs |= self._assigned(
            {true: at for true, at in there.items() if true not in pairs},
            {name: at for name, at in valid.items() if name not in pairs.values()},
        )
        self.swaps += sum(self._names.get(true, name) != name for true, name in pairs.items())
        self._names |= pairs
        strays = [
            replace(told[name], truth=None, visible=False, reason="no such instance is there")
            for name in valid
            if name not in pairs.values()
        ]
        return {true: self._record(true, truth, told, pairs) for true, truth in truths.items()}, strays

    def _record(
        self, true: str, truth: Truth, told: Mapping[str, FrameResult], pairs: Mapping[str, str]
    ) -> FrameResult:
        """The estimate of a true instance; where it has none, what was said of the one that it had last."""
        name = pairs.get(true) or self._names.get(true)
        record = told.get(name or "", FrameResult(ObjectState.LOST, score=0.0, reason="never found"))
        if true not in pairs and record.is_valid:
            record = FrameResult(ObjectState.LOST, score=0.0, reason=f"{name} is told elsewhere", name=name or "")
        pose = truth.pose
        if pose is not None and record.pose is not None:
            pose = self._package.symmetry.canonicalise(pose, record.pose)
        return replace(record, truth=pose, visible=truth.visible)

    def _assigned(self, there: Mapping[str, np.ndarray], valid: Mapping[str, np.ndarray]) -> dict[str, str]:
        if not there or not valid:
            return {}
        far = 1e3 * self._package.diameter
        distances = [
            [np.linalg.norm(a - b) if self._near(a, b) else far for b in valid.values()] for a in there.values()
        ]
        rows, columns = linear_sum_assignment(distances)
        trues, names = list(there), list(valid)
        return {trues[i]: names[j] for i, j in zip(rows, columns) if distances[i][j] < far}

    def _near(self, a: np.ndarray, b: np.ndarray) -> bool:
        return bool(np.linalg.norm(a - b) <= NEAR * self._package.diameter)

    def _place(self, pose: Pose) -> np.ndarray:
        """(3) of the object's middle, which its symmetries leave where it is."""
        return pose.rotation.double().numpy() @ self._centre + pose.translation.double().numpy()
