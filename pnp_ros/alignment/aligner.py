"""The image has the last word: a pose is moved to where the object drawn at it lies on the object in the image.

Draw, search, solve, coarse to fine. What is found in the image (matches of the texture, steps across the outline)
and the start with its covariance are one least-squares problem; its minimum is the pose.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.alignment import joint
from pnp_ros.alignment.attempts import attempts
from pnp_ros.alignment.chroma import Chroma
from pnp_ros.alignment.colours import ColourModel
from pnp_ros.alignment.config import FOLLOWED, FORESEEN, HOPED, LAST, LOOKS, AlignmentConfig, Round
from pnp_ros.alignment.evidence import Evidence, nothing, weigh
from pnp_ros.alignment.look import Drawing, Lesson, Look, Window, draw, look
from pnp_ros.alignment.regions import factor
from pnp_ros.alignment.shading import Shading
from pnp_ros.alignment.uncertainty import covariance
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import CropError
from pnp_ros.geometry.covariance import UNKNOWN_VARIANCE, nees
from pnp_ros.geometry.single_pose import difference, placed
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.materials import MESH, likely_colours
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus

MATCH, LINE = 0, 1  # kinds of correspondences

_FEWEST = 20  # axes measured, of matches and lines together, from which a round moves the pose
_STARVED = 4  # looks in a row that find fewer, after which no closer one was seen to find them
_DAMPING = 0.026, 0.058  # of the diameter, and rad: how far one round moves a pose that lines hold badly
_LEAST_VARIANCE = 1e-10  # m^2, rad^2: no start is known better
_LEARNING = 0.2  # share of an image's colours in what is known of them
_ENOUGH = 15.0  # times the last move that a round must be able to reach, or it is left out
_SETTLED = 0.015  # of the object's size: a round that moved a followed pose by less need not be repeated
_MANY = 24  # matches that dispel the doubt about a start
_PLAIN = 12  # matches where the pose says, from which on it is right and what is missing is hidden
_BRIEF = 8  # looks at an image that did not show a followed object, after which no further start is tried
_ARRIVED = 0.25  # NEES from another pose, each as uncertain as that one, below which a look has led to it
_THERE = "the image shows the object at the other pose"
_AHEAD = 0.02  # of the object's size: how far from its start the object may be drawn ahead


@dataclass(frozen=True, eq=False)
class Alignment:
    """A pose and what the image says of it.

    Args:
        estimate: the joint minimum of matches, lines and start; its covariance contains the doubt about camera and
            mesh. Status DEGENERATE, and the start's pose, where nothing was found.
        correspondences: of the last round, in pixels of the whole image; weights (N, 2, 2).
        kinds: (N,) int8, ``MATCH`` or ``LINE``.
        evidence: the image's verdict on the pose.
        systematic: (6, M) float32 [dt, dtheta] by which the pose moves where one of M parameters of camera and mesh is
            a standard deviation off; in all images alike. Part of the covariance. M is 0 where nothing was found.
    """

    estimate: PoseEstimate
    correspondences: Correspondences
    kinds: Tensor
    evidence: Evidence
    systematic: Tensor


@dataclass(frozen=True, eq=False)
class _Found:
    """Where an attempt ended: pose, the last look, its correspondences and their inlier weights, and the verdict."""

    pose: Pose
    seen: Look
    data: Correspondences
    weights: NDArray
    evidence: Evidence

    @property
    def score(self) -> float:
        return self.evidence.explained + float(self.evidence.supported)


class Aligner:
    """Aligns poses of one object with images; keeps the colours it learns. For one thread.

    Args:
        mesh: in metres.
        config: what is compared and what makes a verdict.
    """

    def __init__(self, mesh: TriangleMesh, config: AlignmentConfig | None = None) -> None:
        config = config or AlignmentConfig()
        painted = likely_colours(mesh) == (MESH,)
        if not painted and config.contours:
            config = dataclasses.replace(config, texture=False)
        self.config = config
        self._mesh = RayMesh(mesh)
        self._chroma = Chroma(mesh) if painted and self.config.texture and self.config.valid_colours > 0.0 else None
        self._recognised = False  # by its colours
        self._painted = painted
        self._shading = Shading(mesh) if painted or config.contours else None
        self._extent = torch.from_numpy(mesh.extreme_points)
        self._corners = np.stack(np.meshgrid(*mesh.bounds.T), -1).reshape(-1, 3).astype(np.float32)
        self._diameter = mesh.diameter
        self._attempts = partial(attempts, mesh.diameter, config.texture)
        self._colours = ColourModel()
        self._unlearnt: Lesson | None = None  # what the colours are still to be taught by

    @property
    def _learns(self) -> bool:
        """Whether each look has to find the colours by itself: none were learnt."""
        return self.config.contours and not self._colours.known

    def forget(self) -> None:
        """Forget the colours: the object was lost, the light is another one."""
        self._colours.forget()
        self._recognised, self._unlearnt = False, None

    def finish(self) -> None:
        """Learn what the last image showed, which the next one does else."""
        if self._unlearnt is not None:
            self._unlearnt.teach(self._colours, _LEARNING)
            self._unlearnt = None

    def ahead(self, camera: Camera, start: PoseEstimate) -> Drawing | None:
        """The object as :meth:`align` would draw it first from a start like this; None where it would not be in view.

        For the time before an image is there; arguments as :meth:`align`.
        """
        self.finish()
        camera, pose = _plain(camera), _single(start.pose)
        begin, rounds = next(self._attempts(pose, start.covariance, self._learns))
        try:
            return self._draw(camera, begin, rounds[0])
        except CropError:
            return None

    def near(self, pose: Pose, start: Pose) -> bool:
        """Whether what is drawn at a pose serves a start."""
        return self._moved(_single(pose), _single(start)) < _AHEAD

    def align(
        self,
        image: NDArray[np.uint8],
        camera: Camera,
        start: PoseEstimate,
        widely: bool = True,
        drawn: Drawing | None = None,
        turn: int | None = None,
    ) -> Alignment:
        """Align a pose with the image.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image, any model.
            start: a pose, and a covariance that says how far to search and how much the start counts in the end; one
                that is not determined (``UNKNOWN_VARIANCE``) does not count.
            widely: off, a start that is doubted much is not searched around: thirty looks, where two are usual.
            drawn: by :meth:`ahead`, for this camera and :meth:`near` this start.
            turn: of a start that is searched around, try the start itself and one beside it, this one, counted round:
                the next image has its turn, too. None: all that fit into thirty looks.

        Returns:
            Never an error for a start that does not fit: the evidence says so.

        Raises:
            ValueError: if the image is not (H, W, 3) uint8 of the camera's size.
        """
        camera.check_image(image)
        self.finish()
        camera, known = _plain(camera), _information(start.covariance)
        best = self._best(image, camera, start, known, widely, drawn=drawn, turn=turn)
        if isinstance(best, str):
            return self._lost(start, best)
        self._recognised |= best.evidence.supported and math.isfinite(best.evidence.colours)
        if best.evidence.supported and self.config.contours:
            self._unlearnt = best.seen.lesson
        return self._alignment(best, camera, known)

    def compare(
        self,
        image: NDArray[np.uint8],
        camera: Camera,
        start: PoseEstimate,
        one: Alignment | None = None,
        closely: bool = True,
        fresh: bool = False,
    ) -> Alignment:
        """As :meth:`align`, near a start alone, and nothing is learnt: another pose beside the one that was aligned.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image.
            start: of the other pose.
            one: the one that was aligned; given back as it is where a look leads from the start to it.
            closely: a start that a texture does not bear out at once is not looked at from farther off: it would be
                another pose then.
            fresh: by no colours that were learnt: those beside a wrong outline would lead back to it.
        """
        camera.check_image(image)
        self.finish()
        camera, known = _plain(camera), _information(start.covariance)
        learnt = self._colours, self._recognised
        if fresh:
            self._colours, self._recognised = ColourModel(), False
        try:
            best = self._best(image, camera, start, known, widely=False, closely=closely, one=one)
        finally:
            self._colours, self._recognised = learnt
        if best is _THERE and one is not None:
            return one
        return self._lost(start, best) if isinstance(best, str) else self._alignment(best, camera, known)

    def _best(
        self,
        image: NDArray[np.uint8],
        camera: Camera,
        start: PoseEstimate,
        information: NDArray[np.float64] | None,
        widely: bool,
        closely: bool = False,
        drawn: Drawing | None = None,
        turn: int | None = None,
        one: Alignment | None = None,
    ) -> _Found | str:
        """The best that the attempts lead to, or why they lead nowhere; ``information``: of the start."""
        pose = _single(start.pose)
        prior = None if information is None else (pose, information)
        best: _Found | str = "it may be anywhere near where it is expected"
        looks, most = 0, LOOKS if turn is None else _BRIEF
        for begin, rounds in self._attempts(pose, start.covariance, self._learns, widely, closely, turn):
            if looks >= most:
                break
            found, used = self._descend(image, camera, begin, rounds, prior, drawn, one)
            if found is _THERE:
                return found
            looks, drawn = looks + used, None
            if isinstance(best, str) or (not isinstance(found, str) and found.score > best.score):
                best = found
            sure = rounds not in (FOLLOWED, HOPED) or (not isinstance(best, str) and best.evidence.matches >= _MANY)
            if not isinstance(best, str) and best.evidence.supported and sure:
                break
            if rounds is FOLLOWED and not isinstance(found, str) and self._hidden(found.evidence):
                break
        return best

    def _hidden(self, seen: Evidence) -> bool:
        """Whether too little of the texture is shown, but that where the pose says: no other start shows more of it."""
        return seen.matches >= _PLAIN and seen.texture < self.config.valid_texture

    def judge(self, image: NDArray[np.uint8], camera: Camera, pose: Pose) -> Evidence:
        """The image's verdict on a pose from anywhere, which stays as it is, as does what is known of the colours.

        Arguments as :meth:`align`.
        """
        camera.check_image(image)
        self.finish()
        camera, pose = _plain(camera), _single(pose)
        try:
            seen = self._look(image, self._draw(camera, pose, LAST[0]))
        except CropError as error:
            return nothing(str(error))
        return weigh(seen, pose, camera, self.config, self._chroma)

    def _draw(self, camera: Camera, pose: Pose, step: Round, last: Window | None = None) -> Drawing:
        frame = None if last is None else last.frame
        return draw(self._mesh, self._extent, camera, pose, step, self.config, frame, self._painted)

    def _look(self, image: NDArray[np.uint8], drawing: Drawing, last: Window | None = None) -> Look:
        colours = None if self._learns else self._colours
        return look(drawing, image, self.config, colours, self._shading, self._painted, last)

    def _descend(
        self,
        image: NDArray[np.uint8],
        camera: Camera,
        pose: Pose,
        rounds: Sequence[Round],
        prior: tuple[Pose, NDArray] | None,
        drawn: Drawing | None,
        one: Alignment | None,
    ) -> tuple[_Found | str, int]:
        """What the rounds lead to, or why they lead nowhere; and how often they looked.

        ``drawn``: for the first; ``one``: where nothing else is to be found.
        """
        shift, looks = math.inf, 0
        found: _Found | str = ""
        window: Window | None = None
        in_vain, starved = None, 0
        try:
            for step in rounds:
                if step.share > _ENOUGH * shift and step is not rounds[-1]:
                    continue  # the last round already moved it much less than this one could
                if step == in_vain:
                    continue
                drawing = drawn if drawn is not None and drawn.step == step else self._draw(camera, pose, step, window)
                seen, pose, drawn = self._look(image, drawing, window), drawing.pose, None
                window = seen.window
                looks += 1
                matches, lines = seen.count
                if 2 * matches + lines < _FEWEST:
                    in_vain, starved = step, starved + 1
                    if step is not rounds[-1] and starved < _STARVED:
                        continue  # few pixels have few corners, and of a thin shape few lines that are free so far
                    return "the image shows hardly anything of the object near the pose", looks
                starved = 0
                data = seen.correspondences(step.reach)
                solved = joint.minimise(data, camera, pose, self._damping, prior)
                if not bool(solved.usable):
                    return "what the image shows of the object does not determine its pose", looks
                before, pose, weights = pose, solved.pose, solved.inlier_weights.numpy()
                shift = self._moved(before, pose)
                if rounds is FORESEEN and shift > _SETTLED:  # so close a look tells little of what is farther off
                    return "the object is not where it was expected", looks
                if step is rounds[-1] or (shift < _SETTLED and rounds is FOLLOWED):
                    evidence = weigh(seen, pose, camera, self.config, None if self._recognised else self._chroma)
                    found = _Found(pose, seen, data, weights, evidence)
                    if evidence.supported:  # else a closer look may tell more
                        break
                elif one is not None and _is_at(pose, one.estimate):
                    return _THERE, looks
        except CropError as error:
            return str(error), looks
        return found, looks

    def _moved(self, before: Pose, pose: Pose) -> float:
        """By how large a share of the object's size it looks moved, at most."""
        a, b = placed(before, self._corners), placed(pose, self._corners)
        shift = a[:, :2] / a[:, 2:] - b[:, :2] / b[:, 2:]
        return float(np.abs(shift).max() * pose.translation[2]) / self._diameter

    @property
    def _damping(self) -> NDArray[np.float64]:
        return np.diag([(_DAMPING[0] * self._diameter) ** -2.0] * 3 + [_DAMPING[1] ** -2.0] * 3)

    def _alignment(self, found: _Found, camera: Camera, prior: NDArray[np.float64] | None) -> Alignment:
        data, pose, lines = found.data, found.pose, found.seen.count[1]
        spread, systematic, cost = covariance(
            data, camera, pose, found.weights, lines, prior, self._diameter, self.config
        )
        wider = factor(found.evidence)
        spread, systematic = wider * spread, math.sqrt(wider) * systematic
        estimate = PoseEstimate(
            pose,
            torch.from_numpy(spread).float(),
            torch.from_numpy(found.weights),
            torch.tensor(cost),
            torch.tensor(int(SolveStatus.CONVERGED), dtype=torch.int8),
        )
        return Alignment(estimate, data, _kinds(found.seen), found.evidence, torch.from_numpy(systematic).float())

    def _lost(self, start: PoseEstimate, reason: str) -> Alignment:
        status = torch.tensor(int(SolveStatus.DEGENERATE), dtype=torch.int8)
        estimate = dataclasses.replace(start, inlier_weights=torch.zeros(0), status=status)
        none = Correspondences(torch.zeros(0, 2), torch.zeros(0, 3), torch.zeros(0, 2, 2))
        return Alignment(estimate, none, torch.zeros(0, dtype=torch.int8), nothing(reason), torch.zeros(6, 0))


def start_at(pose: Pose, translation_sigma: float, rotation_sigma: float) -> PoseEstimate:
    """A start for :meth:`Aligner.align`: a pose that is known to so many metres and radians (1 sigma)."""
    return PoseEstimate.of(_single(pose), np.diag([translation_sigma**2] * 3 + [rotation_sigma**2] * 3))


def _plain(camera: Camera) -> Camera:
    """In single precision on the CPU."""
    both = camera.intrinsics, camera.distortion
    ready = all(v.dtype is torch.float32 and v.device.type == "cpu" for v in both)
    return camera if ready else camera.to("cpu", torch.float32)


def _single(pose: Pose) -> Pose:
    return Pose(pose.rotation.detach().cpu().float(), pose.translation.detach().cpu().float())


def _is_at(pose: Pose, other: PoseEstimate) -> bool:
    """Whether a pose is none other than one that is known."""
    apart = torch.from_numpy(difference(other.pose, pose)).double()
    return float(nees(apart, 2.0 * other.covariance.double())) < _ARRIVED


def _kinds(seen: Look) -> Tensor:
    matches, lines = seen.count
    kinds = torch.full((matches + lines,), LINE, dtype=torch.int8)
    kinds[:matches] = MATCH
    return kinds


def _information(spread: Tensor) -> NDArray[np.float64] | None:
    """(6, 6) of a prior; None where its covariance says that nothing is known."""
    wide = spread.detach().cpu().double().numpy()
    if not np.isfinite(wide).all() or wide.diagonal().max() >= UNKNOWN_VARIANCE:
        return None
    return np.asarray(np.linalg.inv(wide + _LEAST_VARIANCE * np.eye(6)), np.float64)
