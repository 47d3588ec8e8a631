"""Rigid transforms: the pose's perturbation, composition and inversion."""

from __future__ import annotations

import torch
from torch import Tensor

from pnp_ros.geometry import so3
from pnp_ros.types import Pose


def retract(pose: Pose, delta: Tensor) -> Pose:
    """The pose moved by ``delta`` (..., 6) = [dt, dtheta] (m, rad): ``t + dt``, ``exp(dtheta) R``."""
    return Pose(so3.exp(delta[..., 3:]) @ pose.rotation, pose.translation + delta[..., :3])


def local(pose_ref: Pose, pose: Pose) -> Tensor:
    """The ``delta`` (..., 6) that leads from one pose to another: ``retract(a, local(a, b)) == b``."""
    dtheta = so3.log(pose.rotation @ pose_ref.rotation.mT)
    return torch.cat([pose.translation - pose_ref.translation, dtheta], dim=-1)


def inverse(pose: Pose) -> Pose:
    """``T_object_camera`` of ``T_camera_object``."""
    rotation = pose.rotation.mT
    return Pose(rotation, -(rotation @ pose.translation[..., None]).squeeze(-1))


def compose(a: Pose, b: Pose) -> Pose:
    """``T_x_z = T_x_y T_y_z``: the transform that applies ``b`` first, then ``a``."""
    return Pose(a.rotation @ b.rotation, (a.rotation @ b.translation[..., None]).squeeze(-1) + a.translation)


def adjoint(pose: Pose) -> Tensor:
    """SE(3) adjoint (..., 6, 6) for twists ordered [translation, rotation]: ``T Exp(x) T^-1 = Exp(Ad x)``.

    Twists have their lever arm about the frame's origin; the package's ``delta`` does not (see the package docstring).
    """
    top = torch.cat([pose.rotation, so3.hat(pose.translation) @ pose.rotation], dim=-1)
    bottom = torch.cat([torch.zeros_like(pose.rotation), pose.rotation], dim=-1)
    return torch.cat([top, bottom], dim=-2)


def look_at(eye: Tensor, target: Tensor, up: Tensor) -> Pose:
    """``T_camera_object`` of a camera at ``eye`` (..., 3) that looks at ``target`` with ``up`` upward in the image.

    All three are in the object frame; ``eye`` must differ from ``target``. Where ``up`` is parallel to the view, an
    arbitrary upright direction is taken.
    """
    forward = torch.nn.functional.normalize(target - eye, dim=-1)
    up = torch.nn.functional.normalize(up.expand_as(forward), dim=-1)
    parallel = torch.linalg.cross(forward, up).square().sum(-1, keepdim=True) < 1e-10
    least = torch.nn.functional.one_hot(forward.abs().argmin(-1), 3).to(forward)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.where(parallel, least, up)), dim=-1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], dim=-2)
    return Pose(rotation, -(rotation @ eye[..., None]).squeeze(-1))
