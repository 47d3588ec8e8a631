"""Which images may be learnt from: those that show the object where the reference says.

An image passes one check after another; the first that refuses it says why. What is learnt from is where the *image*
shows the object: the reference vouches for it, and its own small errors are not learnt. Only what no image can tell, a
wrong focal length, is learnt from references, once many of them tell it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.example import Example, ExampleCutter
from pnp_ros.adaptation.examples.reference_bias import Displacement, ReferenceBias
from pnp_ros.adaptation.examples.witness import Sight, Witness
from pnp_ros.adaptation.observation import Observation
from pnp_ros.adaptation.supervision import GIVEN, Supervision
from pnp_ros.detection.crop import CropError, box_from_pose
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.types import Pose

_SMALLEST = 20.0  # pixels of the object's size in the image
_INSIDE = 0.7  # share of the object's box that must lie in the image
_FLAT = 2.0  # standard deviation of 255 below which an image shows nothing


class Check(enum.Enum):
    """What an image must pass, in this order; the value names it for the user."""

    POSE = "a reference"
    INTERVAL = "time since the last image"
    CONTENT = "the image's content"
    PLACE = "place in the image"
    FIT = "the object is seen"
    ESTIMATE = "agreement with the estimate"
    AGREEMENT = "agreement with the image"
    BIAS = "no constant error"


@dataclass(frozen=True)
class Refusal:
    """An image that is not learnt from.

    Args:
        check: that it did not pass.
        reason: in words.
    """

    check: Check
    reason: str

    @property
    def kind(self) -> str:
        """The reason without its numbers: what refusals are counted by."""
        return "".join("#" if letter.isdigit() else letter for letter in self.reason)


@dataclass(eq=False)
class _Case:
    """An image under examination, and what the checks find out about it."""

    seen: Observation
    pose: Pose | None = None  # the reference, float32
    sight: Sight | None = None

    @property
    def known_pose(self) -> Pose:
        assert self.pose is not None, "the check of the pose comes first"
        return self.pose


class Intake:
    """Examines images one by one, in order of time; for one thread.

    Args:
        package: of the object.
        config: limits.
        supervision: what kind of references they are.
    """

    def __init__(self, package: ObjectPackage, config: AdaptationConfig, supervision: Supervision = GIVEN) -> None:
        self._package, self._config, self._supervision = package, config, supervision
        self._extent = torch.from_numpy(package.mesh.extreme_points)
        self._witness = Witness(package.mesh)
        self._cutter = ExampleCutter(package, self._witness)
        self._bias = ReferenceBias(config, package.diameter)
        self._last_kept_ns: int | None = None
        self._last: bytes = b""
        self._checks = {
            Check.POSE: self._check_pose,
            Check.INTERVAL: self._check_interval,
            Check.CONTENT: self._check_content,
            Check.PLACE: self._check_place,
            Check.FIT: self._check_fit,
            Check.ESTIMATE: self._check_estimate,
            Check.AGREEMENT: self._check_agreement,
            Check.BIAS: self._check_bias,
        }

    def examine(self, seen: Observation) -> Example | Refusal:
        """What to keep of an image, or why nothing."""
        case = _Case(seen)
        for check, problem_of in self._checks.items():
            if problem := problem_of(case):
                return Refusal(check, problem)
        assert case.sight is not None
        try:
            example = self._cutter.cut(seen.stamp_ns, seen.rgb, seen.camera, case.sight.pose)
        except CropError as error:
            return Refusal(Check.PLACE, str(error))
        self._last_kept_ns = seen.stamp_ns
        return self.corrected(example)

    def corrected(self, example: Example) -> Example:
        """An example with the focal error that is known now."""
        if example.focal_error == self.focal_error:
            return example
        return self._cutter.corrected(example, self.focal_error)

    @property
    def focal_error(self) -> float:
        """By what share of the distance objects are further than the image shows them, as the references tell."""
        return self._bias.focal_error if self._supervision.independent else 0.0

    @property
    def bias(self) -> str:
        """What all recent references have wrong, in words; empty if nothing."""
        return self._bias.problem if self._supervision.independent else ""

    def _check_pose(self, case: _Case) -> str:
        pose = case.seen.reference
        if pose is None:
            return "no reference at the time of the image"
        if not (bool(torch.isfinite(pose.rotation).all()) and bool(torch.isfinite(pose.translation).all())):
            return "reference: not finite"
        rotation = pose.rotation.double()
        if float((rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().max()) > 1e-3:
            return "reference: its rotation is none"
        case.pose = Pose(pose.rotation.float(), pose.translation.float())
        return ""

    def _check_interval(self, case: _Case) -> str:
        last = self._last_kept_ns
        if last is not None and abs(case.seen.stamp_ns - last) < self._supervision.interval_ns:
            return "the image is too soon after the last one that was kept"
        return ""

    def _check_content(self, case: _Case) -> str:
        if _is_flat(case.seen.rgb):
            return "the image shows nothing"
        sample = case.seen.rgb[::8, ::8].tobytes()
        if sample == self._last:
            return "the image is the same as the one before"
        self._last = sample
        return ""

    def _check_place(self, case: _Case) -> str:
        camera = case.seen.camera
        try:
            x, y, width, height = box_from_pose(camera, case.known_pose, self._extent)
        except CropError as error:
            return f"reference: {error}"
        if max(width, height) < _SMALLEST:
            return f"reference: the object is only {max(width, height):.0f} px large"
        across = min(x + width, camera.width) - max(x, 0.0)
        down = min(y + height, camera.height) - max(y, 0.0)
        if max(across, 0.0) * max(down, 0.0) < _INSIDE * width * height:
            return "reference: the object is not wholly in the image"
        return ""

    def _check_estimate(self, case: _Case) -> str:
        """A valid estimate elsewhere, which fits the image better than what the reference leads to."""
        assert case.sight is not None
        if case.seen.state is not ObjectState.VALID or case.seen.estimate is None:
            return ""
        found = case.seen.estimate
        estimate = Pose(found.rotation.float(), found.translation.float())
        displacement = self._displacement(case, estimate)
        excess = displacement.excess(self._config, self._package.diameter)
        if not excess or self._witness.overlap(case.seen.rgb, case.seen.camera, estimate) < case.sight.overlap:
            return ""
        self._bias.add(displacement)
        return f"reference: {excess} from a valid estimate, which fits the image better"

    def _check_fit(self, case: _Case) -> str:
        case.sight = self._witness.look(case.seen.rgb, case.seen.camera, case.known_pose)
        if case.sight is None:
            return "the image does not show the object there"
        if case.sight.overlap < self._supervision.least_overlap(self._config):
            return f"the image does not show the object there: correlation {case.sight.overlap:.2f}"
        return ""

    def _check_agreement(self, case: _Case) -> str:
        assert case.sight is not None
        displacement = self._displacement(case, case.sight.pose)
        self._bias.add(displacement)
        excess = displacement.excess(self._config, self._package.diameter)
        return excess and f"reference: {excess} from where the image shows the object"

    def _check_bias(self, case: _Case) -> str:
        return self.bias

    def _displacement(self, case: _Case, seen: Pose) -> Displacement:
        nearest = self._package.symmetry.canonicalise(case.known_pose, seen)
        return Displacement(case.seen.stamp_ns, seen, nearest)


def _is_flat(rgb: NDArray[np.uint8]) -> bool:
    """Whether an image shows nothing: a covered lens, a dead sensor."""
    return float(rgb[::4, ::4].std()) < _FLAT
