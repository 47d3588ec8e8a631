"""Symmetries of an object as BOP's ``models_info.json`` gives them, and the choice of one among equivalent poses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pnp_ros.types import Pose

CONTINUOUS_STEPS = 64  # transforms() lists a continuous symmetry as this many rotations


@dataclass(frozen=True)
class ContinuousSymmetry:
    """Any rotation about ``axis`` (unit vector, object frame) through the point ``offset`` (metres)."""

    axis: tuple[float, float, float]
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        length = math.sqrt(sum(c * c for c in self.axis))
        if len(self.axis) != 3 or not math.isfinite(length) or length < 1e-9:
            raise ValueError(f"symmetries_continuous.axis: expected 3 numbers, not all zero, got {self.axis}")
        if len(self.offset) != 3 or not all(math.isfinite(c) for c in self.offset):
            raise ValueError(f"symmetries_continuous.offset: expected 3 finite numbers, got {self.offset}")
        object.__setattr__(self, "axis", tuple(c / length for c in self.axis))


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The rigid motions that leave an object looking the same.

    Args:
        discrete: (D, 4, 4) float64, object frame, metres, without the identity; D may be 0.
        continuous: rotations about axes.

    Raises:
        ValueError: if a discrete symmetry is not a rigid transform.
    """

    discrete: Tensor = field(default_factory=lambda: torch.zeros(0, 4, 4, dtype=torch.float64))
    continuous: tuple[ContinuousSymmetry, ...] = ()

    def __post_init__(self) -> None:
        if tuple(self.discrete.shape[1:]) != (4, 4):
            raise ValueError(f"symmetries_discrete: expected shape (D, 4, 4), got {tuple(self.discrete.shape)}")
        rotation = self.discrete[:, :3, :3].double()
        gram_error = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs()
        rigid = (gram_error.flatten(1) < 1e-3).all() and bool((torch.linalg.det(rotation) > 0).all())
        bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=self.discrete.dtype)
        if not rigid or not torch.allclose(self.discrete[:, 3], bottom.expand(len(self.discrete), 4)):
            raise ValueError("symmetries_discrete: expected rigid transforms (rotation and translation)")

    @property
    def is_trivial(self) -> bool:
        """Whether the object has no symmetry."""
        return len(self.discrete) == 0 and not self.continuous

    def transforms(self, steps: int = CONTINUOUS_STEPS) -> Tensor:
        """(S, 4, 4) float64: every symmetry, the identity first; continuous ones as ``steps`` equal rotations."""
        found = torch.cat([torch.eye(4, dtype=torch.float64)[None], self.discrete.double()])
        for symmetry in self.continuous:
            angles = torch.arange(steps, dtype=torch.float64) * (2.0 * math.pi / steps)
            found = (found[:, None] @ _rotation_about(symmetry, angles)).reshape(-1, 4, 4)
        return found

    def canonicalise(self, pose: Pose, reference: Pose | None = None) -> Pose:
        """Among the poses that look the same, the one whose rotation is nearest to a reference's.

        Makes the network's target a function of the image: poses ``T S`` for symmetries ``S`` show the same image,
        and the one that minimises the angle to the reference is chosen (Pitteri et al. 2019, "On Object Symmetries and
        6D Pose Estimation from Images", section 3). Without a reference the identity is meant, turned onto the ray to
        the object, so that the choice depends on the crop and not on where in the image the object is. The optimum
        over a continuous symmetry is exact, not sampled.

        Args:
            pose: (...) poses.
            reference: one pose, or (...) of them, e.g. the last frame's; only its rotation is used.
        """
        if self.is_trivial:
            return pose
        if reference is None:
            # the mean image of the origin stays where it is under every symmetry, unlike the origin itself
            centre = self.transforms(steps=4)[:, :3, 3].mean(dim=0).to(pose.translation)
            target = _view_rotation(pose.transform(centre[None]).squeeze(-2))
        else:
            target = reference.rotation.to(pose.rotation)
        matrix = pose.matrix()
        identity = torch.eye(4, dtype=matrix.dtype, device=matrix.device)[None]
        candidates = matrix[..., None, :, :] @ torch.cat([identity, self.discrete.to(matrix)])
        target = target.expand_as(pose.rotation)[..., None, :, :]
        # one axis is solved exactly; with several, sweeps over the axes converge to the best combination
        for symmetry in self.continuous * (1 if len(self.continuous) < 2 else 8):
            candidates = candidates @ _rotation_about(symmetry, _best_angle(candidates, target, symmetry))
        closeness = (target * candidates[..., :3, :3]).sum(dim=(-2, -1))  # trace(R_target^T R) = 1 + 2 cos(angle)
        best = closeness.argmax(dim=-1)[..., None, None, None].expand(*matrix.shape[:-2], 1, 4, 4)
        return Pose.from_matrix(candidates.gather(-3, best).squeeze(-3))


def symmetry_from_bop(info: Mapping[str, object], metres_per_unit: float = 1.0) -> Symmetry:
    """From one object's entry in BOP's ``models_info.json``.

    Args:
        info: mapping with ``symmetries_discrete`` (lists of 16 numbers, row-major) and ``symmetries_continuous``
            (mappings of ``axis`` and ``offset``); both may be missing.
        metres_per_unit: 0.001 for BOP's own files, whose translations are millimetres.

    Raises:
        ValueError: naming the field that has the wrong form.
    """
    rows = _sequence(info, "symmetries_discrete")
    try:
        discrete = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 4, 4)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError("symmetries_discrete: expected lists of 16 numbers (4x4, row-major)") from error
    discrete[:, :3, 3] *= metres_per_unit
    continuous = []
    for entry in _sequence(info, "symmetries_continuous"):
        if not isinstance(entry, Mapping) or "axis" not in entry:
            raise ValueError("symmetries_continuous: expected mappings of axis and offset")
        try:
            axis = [float(c) for c in entry["axis"]]
            offset = [float(c) * metres_per_unit for c in entry.get("offset", (0.0, 0.0, 0.0))]
        except (TypeError, ValueError) as error:
            raise ValueError("symmetries_continuous: expected 3 numbers for axis and offset") from error
        if len(axis) != 3 or len(offset) != 3:
            raise ValueError("symmetries_continuous: expected 3 numbers for axis and offset")
        continuous.append(ContinuousSymmetry((axis[0], axis[1], axis[2]), (offset[0], offset[1], offset[2])))
    return Symmetry(discrete, tuple(continuous))


def symmetry_to_bop(symmetry: Symmetry) -> dict[str, list]:
    """The inverse of :func:`symmetry_from_bop`, in metres, of plain numbers."""
    return {
        "symmetries_discrete": symmetry.discrete.double().flatten(1).tolist(),
        "symmetries_continuous": [{"axis": list(s.axis), "offset": list(s.offset)} for s in symmetry.continuous],
    }


def _sequence(info: Mapping[str, object], key: str) -> Sequence:
    value = info.get(key) or []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{key}: expected a list, got {type(value).__name__}")
    return value


def _rotation_about(symmetry: ContinuousSymmetry, angle: Tensor) -> Tensor:
    """(..., 4, 4) rotations by ``angle`` (...) about the symmetry's axis through its offset (Rodrigues)."""
    axis, offset = angle.new_tensor(symmetry.axis), angle.new_tensor(symmetry.offset)
    hat = angle.new_tensor(
        [[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]],
    )
    sine, cosine = angle.sin()[..., None, None], angle.cos()[..., None, None]
    rotation = torch.eye(3).to(angle) + sine * hat + (1.0 - cosine) * (hat @ hat)
    matrix = torch.eye(4).to(angle).repeat(*angle.shape, 1, 1)
    matrix[..., :3, :3] = rotation
    matrix[..., :3, 3] = offset - rotation @ offset
    return matrix


def _best_angle(candidates: Tensor, target: Tensor, symmetry: ContinuousSymmetry) -> Tensor:
    """The angle that brings ``candidates`` nearest to ``target``: trace(A Rot(angle)) is a sinusoid of the angle."""
    relative = target.mT @ candidates[..., :3, :3]
    axis = relative.new_tensor(symmetry.axis)
    cosine_part = relative.diagonal(dim1=-2, dim2=-1).sum(-1) - ((relative @ axis) * axis).sum(-1)
    skew = torch.stack(
        [
            relative[..., 1, 2] - relative[..., 2, 1],
            relative[..., 2, 0] - relative[..., 0, 2],
            relative[..., 0, 1] - relative[..., 1, 0],
        ],
        dim=-1,
    )
    return torch.atan2((skew * axis).sum(-1), cosine_part)


def _view_rotation(translation: Tensor) -> Tensor:
    """(..., 3, 3) the smallest rotation that turns the optical axis onto the ray to the object."""
    ray = translation / translation.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    x, y, z = ray.unbind(-1)
    k = 1.0 / (1.0 + z).clamp_min(1e-6)
    rows = [1.0 - x * x * k, -x * y * k, x, -x * y * k, 1.0 - y * y * k, y, -x, -y, z]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
