"""The poses that the images so far leave open, carried from image to image until motion decides.

Two kinds of them stand beside the pose that is followed: turns that leave the body's shape in place, or nearly so,
which the image tells apart by what is printed on it, without texture by its edges, or not at all; and other modes of
the correspondences' posterior, such as the reversal of a flat body. Both have log odds against the followed pose. Each
image adds its own; what earlier ones said fades, because neighbouring images err alike. A rival that gets ahead is
followed from then on. Modes are looked for after the pose of a followed object is out: what an image says of them, the
next one is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.alignment.appearance import Appearance
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.geometry.covariance import nees
from pnp_ros.geometry.single_pose import difference
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.objects.turns import alike_turns
from pnp_ros.pipeline.result import Hypothesis
from pnp_ros.pipeline.rival import AHEAD, ALIKE, FEWEST, LOSS, SAME, Rival
from pnp_ros.rendering.materials import MESH, likely_colours
from pnp_ros.solvers.epropnp_losses import pose_cost
from pnp_ros.solvers.pose_hypotheses import Plane, angle_to_reversal, mirrored, plane_of, pose_hypotheses, reversal
from pnp_ros.sources.edge_likeness import EdgeLikeness
from pnp_ros.types import Correspondences, Pose, PoseEstimate

DOUBT = 0.01  # probability of all rivals together from which a pose is one of several
_FADING = 0.75  # of earlier images' odds in each image: a still view counts as four images at most
_DECIDED = -12.0  # log odds below which a turn is not looked at again while the object is followed
_WITHOUT = -15.0  # log odds of a reversal that is no minimum of the correspondences at all
_FEW = 4  # turns looked at in an image of an object that is followed
_RARELY = 4  # images for one in which modes are looked for, once the followed pose is known to be the right one
_TILT = 0.1  # rad between a pose and its reversal, below which the two are one
_LEAST, _MOST = 2e-3, 24  # probability, and number, of hypotheses that are told
_SMALL, _PARTS = 0.6, 11  # rad: a body that such a turn keeps in place, any may; poses looked at within one such turn
_Likelihoods = Callable[[NDArray[np.uint8], Camera, Sequence[Pose]], Tensor]
_SAME_TURN, _ALIKE = 0.05, 0.25  # rad: of two turns; and of a reversal, aligned, and a turn


@dataclass(frozen=True, eq=False)
class _Modes:
    """The followed pose and M others: (1 + M) poses, (M, 6, 6) covariances of the others, (1 + M) log odds."""

    pose: Pose
    covariances: Tensor
    odds: Tensor

    @classmethod
    def alone(cls, pose: Pose) -> _Modes:
        """The followed pose, beside which no other is known."""
        return cls(Pose.stack([pose]), pose.rotation.new_zeros(0, 6, 6), torch.zeros(1, dtype=torch.float64))

    def carried(self, pose: Pose) -> _Modes:
        """Moved with the body to where it is followed now."""
        if len(self.odds) == 1:
            return _Modes.alone(pose)
        motion = pose @ self.pose[0].inverse()
        moved = [motion @ self.pose[k] for k in range(1, len(self.odds))]
        return _Modes(Pose.stack([pose, *moved]), self.covariances, self.odds)


class Ambiguity:
    """What else may be right beside the pose of one object. For one thread.

    Args:
        mesh: of the object.
        symmetry: as declared: poses that it calls the same are no rivals.
    """

    def __init__(self, mesh: TriangleMesh, symmetry: Symmetry) -> None:
        self._turns = _undeclared(alike_turns(mesh), symmetry)  # (S, 4, 4)
        self._likelihoods: _Likelihoods | None = None
        if len(self._turns):
            painted = likely_colours(mesh) == (MESH,)
            self._likelihoods = (Appearance(mesh) if painted else EdgeLikeness(mesh)).log_likelihoods
            self._between = _between(self._turns)
        self.forget()

    def forget(self) -> None:
        """The object was lost: what is found next has all to prove."""
        self._turn_odds = torch.zeros(len(self._turns) + 1, dtype=torch.float64)  # of the followed pose first: 0
        self._turn_odds[1:] = -math.inf if self._likelihoods is None else 0.0
        self._mode_odds = 0.0  # of the likeliest other mode
        self._next, self._count = 0, 0  # turn to be looked at; images
        self._fresh = True  # whether no image has spoken yet
        self._last: Pose | None = None  # followed
        self._plane: Plane | None = None  # of the points that were seen lately
        self._beside: _Modes | None = None  # where an image last showed them; None: to be looked for at once
        self._due: Callable[[], object] | None = None  # a look for modes

    def finish(self) -> None:
        """Look for other modes in the last image, if it is their turn, which the next image does else."""
        due, self._due = self._due, None
        if due is not None:
            due()

    def told(self) -> None:
        """The next pose is known by other means to be the right one of those that look alike."""
        self.forget()
        self._turn_odds[1:] = self._mode_odds = 2.0 * _DECIDED
        self._fresh, self._beside = False, _Modes.alone(Pose.identity())

    def weigh(
        self,
        image: NDArray[np.uint8] | None,
        camera: Camera,
        estimate: PoseEstimate,
        correspondences: Callable[[], Correspondences],
        followed: bool,
        rival: Callable[[], Rival | None] = lambda: None,
    ) -> tuple[Hypothesis, ...]:
        """The poses that are left: the one to be followed, then the others, the likeliest first.

        Args:
            image: (H, W, 3) uint8 RGB; None if images are not to be compared: turns of the body then are not told.
            camera: of the image.
            estimate: the pose that was found, and its covariance.
            correspondences: gives the (N) it was solved from, with weights such that their errors count as
                independent; asked only where other modes are looked for.
            followed: whether it is the last image's pose, moved; else it was found anew.
            rival: what the image says of the pose's reversal; None where nothing is compared: then the correspondences
                alone speak of it. Asked only where it is not settled.
        """
        if followed:
            self.finish()
        else:
            self.forget()
        pose = estimate.pose.to("cpu", torch.float32)
        kept = 0  # the mode that was followed
        if followed and self._is_reversed(correspondences, pose):
            kept, self._mode_odds = 1, -self._mode_odds
        if image is not None and self._likelihoods is not None:
            self._look(self._likelihoods, image, camera, pose)
        turns = self._turn_odds if image is not None else self._turn_odds[:1]
        self._count += 1
        if head_on := self._is_own_reversal(pose, estimate.covariance):  # either goes on from here
            self._mode_odds = 0.0
        settled = followed and self._mode_odds < _DECIDED

        def look() -> _Modes:
            found = self._modes(correspondences(), camera, pose, rival)
            self._beside = _Modes.alone(pose) if head_on and not kept and float(found.odds.max()) < AHEAD else found
            return self._beside

        if not followed or kept or self._beside is None:
            modes = look()
        else:
            modes = self._beside.carried(pose)
            if not settled or self._count % _RARELY == 0:
                self._due = look
        if len(modes.odds) == len(turns) == 1:
            self._last = pose
            return (Hypothesis(estimate.pose, estimate.covariance, 1.0),)
        weights = (modes.odds[:, None] + turns[None]).flatten().softmax(0)
        covariances = [estimate.covariance.cpu().double(), *modes.covariances]
        found: list[tuple[int, int, float]] = []
        for index in weights.argsort(descending=True)[:_MOST].tolist():
            if found and float(weights[index]) < _LEAST:
                break
            mode, turn = divmod(index, len(turns))
            found.append((mode, turn, float(weights[index])))
        total = sum(weight for *_, weight in found)
        if any(m == kept and t == 0 and w * math.exp(AHEAD) > found[0][2] for m, t, w in found):  # it is not behind
            found.sort(key=lambda item: (item[:2] != (kept, 0), -item[2]))
        if found[0][:2] != (0, 0):
            self._switch(*found[0][:2])
        told = tuple(
            Hypothesis(estimate.pose, estimate.covariance, w / total)
            if (m, t) == (0, 0)
            else self._hypothesis(modes.pose[m], covariances[m], t, w / total)
            for m, t, w in found
        )
        self._last = told[0].pose
        return told

    def nearer(self, image: NDArray[np.uint8], camera: Camera, pose: Pose) -> Pose | None:
        """The likeliest of the poses between the turns of a body that nearly any turn keeps in place.

        Its outline hardly tells how far it is turned about its axis; a pose in between is none of the turns, then.

        Returns:
            None where that is ``pose`` itself, or no small turn leaves the body as it is.
        """
        if self._likelihoods is None or not len(self._between):
            return None
        pose = pose.to("cpu", torch.float32)
        poses = [pose, *(Pose.from_matrix(pose.matrix() @ turn) for turn in self._between)]
        likely = self._likelihoods(image, camera, poses)
        best = int(likely.argmax())
        return poses[best] if float(likely[best] - likely[0]) > AHEAD else None

    def _is_reversed(self, correspondences: Callable[[], Correspondences], pose: Pose) -> bool:
        """Whether the reversal of ``pose``, and not itself, goes on from the pose that was followed."""
        if self._last is None:
            return False
        turned = _angle(self._last, pose)
        if turned <= _TILT:
            return False
        return _angle(self._last, reversal(_on_the_face(correspondences()), pose)) + _TILT < turned

    def _is_own_reversal(self, pose: Pose, covariance: Tensor) -> bool:
        """Whether what is seen is seen head on, as far as one knows: a region holds the pose and its reversal."""
        if self._plane is None:
            return False
        both = 2.0 * covariance.cpu().double()
        if angle_to_reversal(self._plane, pose) ** 2 > SAME * float(both.diagonal()[3:].sum()):
            return False  # no region of this size holds so large a turn
        apart = torch.from_numpy(difference(pose, mirrored(self._plane, pose)))
        return float(nees(apart, both)) < SAME

    def _look(self, likelihoods: _Likelihoods, image: NDArray[np.uint8], camera: Camera, pose: Pose) -> None:
        """Let the image speak about the turns that are not decided."""
        undecided = (torch.nonzero(self._turn_odds[1:] > _DECIDED).flatten() + 1).tolist()
        if not undecided:
            return
        if not self._fresh:
            start = next((k for k, index in enumerate(undecided) if index >= self._next), 0)
            undecided = (undecided[start:] + undecided[:start])[:_FEW]
            self._next = undecided[-1] + 1
        self._fresh, matrix = False, pose.matrix()
        turned = [Pose.from_matrix(matrix @ self._turns[index - 1]) for index in undecided]
        likely = likelihoods(image, camera, [pose, *turned])
        self._turn_odds[undecided] = _FADING * self._turn_odds[undecided] + (likely[1:] - likely[0])

    def _modes(
        self, correspondences: Correspondences, camera: Camera, pose: Pose, ask: Callable[[], Rival | None]
    ) -> _Modes:
        """The followed pose and its reversal as the image sees it, else the other modes of the correspondences."""
        settled = self._mode_odds < _DECIDED
        if not settled and (told := ask()) is not None and not self._is_turn(pose, told):
            return self._reversed(pose, told)
        self._plane = plane_of(_on_the_face(correspondences))
        other = mirrored(self._plane, pose)
        generator = torch.Generator().manual_seed(0)  # the same images give the same bytes
        found = pose_hypotheses(correspondences, camera, Pose.stack([pose, other]), LOSS, generator)
        away, tilt = so3.angle_between(found.pose.rotation, pose.rotation), _angle(pose, other)
        mine = away < 0.5 * tilt if tilt > _TILT else away == away.min()
        own = found.probability.double()[mine].sum().clamp_min(math.exp(_WITHOUT)).log()
        logs = found.probability.double()[~mine].clamp_min(math.exp(_WITHOUT)).log() - own
        rival = float(logs.max()) if len(logs) else 0.0
        if len(found) == 1:  # the other side has no minimum of its own, and may be right for all that
            here, there = (float(pose_cost(correspondences, camera, side, loss=LOSS)) for side in (pose, other))
            rival = _bounded(here - there)
            logs = torch.full_like(logs, rival)
        odds = self._faded + rival
        unsettled = settled and odds > _DECIDED
        if unsettled and (told := ask()) is not None and not self._is_turn(pose, told):
            return self._reversed(pose, told)
        self._mode_odds = odds
        poses = Pose(
            torch.cat([pose.rotation[None], found.pose.rotation[~mine]]),
            torch.cat([pose.translation[None], found.pose.translation[~mine]]),
        )
        return _Modes(
            poses, found.covariance[~mine].double(), torch.cat([logs.new_zeros(1), logs + self._mode_odds - rival])
        )

    def _is_turn(self, pose: Pose, rival: Rival) -> bool:
        """Whether it is one of the turns, which are told apart by themselves."""
        if rival.estimate is None:
            return False
        turn = pose.rotation.mT @ rival.estimate.pose.rotation.to("cpu", torch.float32)
        return bool((so3.angle_between(self._turns[:, :3, :3], turn) < _ALIKE).any())

    def _reversed(self, pose: Pose, rival: Rival) -> _Modes:
        """The followed pose and its reversal, if the image does not contradict it."""
        if rival is ALIKE:  # what was known of the reversal counts no longer
            self._mode_odds = 0.0
            return _Modes.alone(pose)
        self._mode_odds = self._faded + _bounded(rival.odds)
        both = [pose] if rival.estimate is None else [pose, rival.estimate.pose.to("cpu", torch.float32)]
        spreads = pose.rotation.new_zeros(0, 6, 6) if rival.estimate is None else rival.estimate.covariance[None]
        logs = torch.tensor([0.0, self._mode_odds], dtype=torch.float64)[: len(both)]
        return _Modes(Pose.stack(both), spreads.cpu().double(), logs)

    @property
    def _faded(self) -> float:
        """What earlier images say of the other modes."""
        return _FADING * max(self._mode_odds, 2.0 * _DECIDED)

    def _switch(self, mode: int, turn: int) -> None:
        """Follow another one: the odds are against it from now on."""
        self._beside = self._due = None
        if mode:
            self._mode_odds = -self._mode_odds
        if turn:
            every = torch.cat([torch.eye(4)[None], self._turns])
            seen_from_there = torch.linalg.inv(every[turn]) @ every
            index = [
                int(so3.angle_between(every[:, :3, :3], relative[:3, :3]).argmin()) for relative in seen_from_there
            ]
            odds = self._turn_odds - self._turn_odds[turn]
            self._turn_odds = torch.full_like(odds, -math.inf).index_put((torch.tensor(index),), odds)

    def _hypothesis(self, pose: Pose, covariance: Tensor, turn: int, probability: float) -> Hypothesis:
        if turn == 0:
            return Hypothesis(pose, covariance.float(), probability)
        turned = Pose.from_matrix(pose.matrix() @ self._turns[turn - 1])
        # the origin moves with the body: about the old one it is R s
        lever = (turned.translation - pose.translation).double()
        carry = torch.eye(6, dtype=torch.float64)
        carry[:3, 3:] = -so3.hat(lever)
        return Hypothesis(turned, (carry @ covariance @ carry.mT).float(), probability)


def doubt(hypotheses: tuple[Hypothesis, ...]) -> str:
    """Why a pose with these hypotheses is not valid, in words; empty if it is the only one."""
    if not hypotheses or 1.0 - hypotheses[0].probability < DOUBT:
        return ""
    return f"ambiguous: {len(hypotheses)} poses may be right, this one with {100 * hypotheses[0].probability:.0f} %"


def _undeclared(turns: Tensor, symmetry: Symmetry) -> Tensor:
    """Those turns that the declared symmetry does not contain."""
    left = symmetry.canonicalise(Pose.from_matrix(turns), Pose.identity()).rotation
    return turns[so3.angle_between(left, torch.eye(3).expand_as(left)) > _SAME_TURN]


def _between(turns: Tensor) -> Tensor:
    """(B, 4, 4) turns about the same axis by up to half of the smallest of (S, 4, 4), to either side; often none."""
    angles = so3.angle_between(turns[:, :3, :3], torch.eye(3).expand(len(turns), 3, 3))
    smallest = turns[int(angles.argmin())].double()
    if float(angles.min()) > _SMALL:
        return turns[:0]
    centre = torch.linalg.lstsq(torch.eye(3, dtype=torch.float64) - smallest[:3, :3], smallest[:3, 3:]).solution
    shares = torch.linspace(-0.5, 0.5, _PARTS, dtype=torch.float64)
    rotations = so3.exp(shares[shares.abs() > 1e-6, None] * so3.log(smallest[:3, :3]))
    found = torch.eye(4).repeat(len(rotations), 1, 1)
    found[:, :3, :3], found[:, :3, 3] = rotations.float(), (centre - rotations @ centre)[..., 0].float()
    return found


def _on_the_face(correspondences: Correspondences) -> Tensor:
    """(N, 3) points of what is seen: matches, if there are enough; lines may lie on the outline of a side behind it."""
    used, lines = correspondences.has_weight, ~correspondences.square_root_information[..., 1, :].any(-1)
    matches = used & ~lines
    return correspondences.object_points[matches if int(matches.sum()) >= FEWEST else used]


def _angle(one: Pose, other: Pose) -> float:
    """Between two poses, rad."""
    return float(np.linalg.norm(difference(one, other)[3:]))


def _bounded(odds: float) -> float:
    """Of one image: no more than what a reversal that is none costs."""
    return min(max(odds, _WITHOUT), -_WITHOUT)
