"""How what is told of an image is set beside what is true in it: strategies of the one loop of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pnp_ros.evaluation.association import Association
from pnp_ros.evaluation.frames import Frame
from pnp_ros.evaluation.truth import Truth, TruthOf, TruthsOf
from pnp_ros.objects.instance_names import object_of
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import FrameResult
from pnp_ros.types import Pose


@dataclass(frozen=True, eq=False)
class Paired:
    """One image.

    Args:
        records: of each instance by its name, with its truth.
        strays: valid poses that are of no true instance, by object.
    """

    records: Mapping[str, FrameResult]
    strays: Mapping[str, Sequence[FrameResult]] = field(default_factory=dict)


class Pairing(Protocol):
    """Says which record is of which instance, and what is true of it; is shown the images in order of time."""

    def pair(self, frame: Frame, told: Mapping[str, FrameResult]) -> Paired | None:
        """What is told by the estimates' names, by instance; None where nothing is known of the image."""

    @property
    def swaps(self) -> dict[str, int] | None:
        """How often a true instance got another name, by object; None where that is not known."""


class AsTold:
    """Nothing is known: each name is an instance of its own."""

    swaps = None

    def pair(self, frame: Frame, told: Mapping[str, FrameResult]) -> Paired:
        """See :class:`Pairing`."""
        return Paired(told)


class Alone:
    """One object of which there is one: whatever is told is of it, however far away.

    Args:
        package: of the object.
        truth_of: truth from outside of the source; the images' own truth is used without it.
    """

    swaps = None

    def __init__(self, package: ObjectPackage, truth_of: TruthOf | None = None) -> None:
        self._package, self._truth_of = package, truth_of

    def pair(self, frame: Frame, told: Mapping[str, FrameResult]) -> Paired:
        """See :class:`Pairing`."""
        record = told[self._package.name]
        truth = _own_truth(frame, record.pose) if self._truth_of is None else self._truth_of(frame)
        pose = truth.pose
        if pose is not None and record.pose is not None:
            pose = self._package.symmetry.canonicalise(pose, record.pose)  # the alike pose that NEES is measured from
        return Paired({self._package.name: replace(record, truth=pose, visible=truth.visible)})


def _own_truth(frame: Frame, estimate: Pose | None) -> Truth:
    """Of several instances the one nearest to the estimate; the most visible one without an estimate."""
    if frame.truths is None:
        return Truth()
    if not frame.truths:
        return Truth(visible=False)
    if estimate is None:
        return Truth(frame.truths[0], True)
    place = estimate.translation.double()
    return Truth(min(frame.truths, key=lambda true: float((place - true.translation).norm())), True)


class ByPlace:
    """Many objects and instances: who is who is found by place.

    Args:
        packages: of the objects.
        truths_of: the true instances of an image by name.
        named: whether a true instance has the same name in all images; else swaps are not counted.
    """

    def __init__(self, packages: Sequence[ObjectPackage], truths_of: TruthsOf, named: bool = True) -> None:
        self._packages, self._truths_of, self._named = packages, truths_of, named
        self._begin()

    def _begin(self) -> None:
        self._known = {package.name: Association(package) for package in self._packages}

    @property
    def swaps(self) -> dict[str, int] | None:
        """See :class:`Pairing`."""
        return {name: each.swaps for name, each in self._known.items()} if self._named else None

    def pair(self, frame: Frame, told: Mapping[str, FrameResult]) -> Paired | None:
        """See :class:`Pairing`."""
        truths = self._truths_of(frame)
        if truths is None:
            return None
        if not self._named:
            self._begin()
        records: dict[str, FrameResult] = {}
        strays = {}
        for kind, association in self._known.items():
            own = {name: record for name, record in told.items() if object_of(name, self._known) == kind}
            true = {name: truth for name, truth in truths.items() if object_of(name, self._known) == kind}
            paired, strays[kind] = association.pair(own, true)
            records |= paired
        return Paired(records, strays)
