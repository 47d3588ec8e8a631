"""The plain torch form of ``posterior_sampler``, for any precision: it defines the truth, autograd included."""

from __future__ import annotations

import torch
from torch import Tensor

from pnp_ros.kernels import robust
from pnp_ros.kernels.robust import RobustKind


def pose_costs(
    rows: Tensor,
    object_points: Tensor,
    rotation: Tensor,
    translation: Tensor,
    min_depth: Tensor,
    kind: RobustKind = RobustKind.GAUSSIAN,
    scale: float = 1.0,
) -> Tensor:
    """Robust cost ``1/2 sum rho(|r|^2)``, ``r = A p / max(p_z, min_depth)``, ``p = R x + t``, of each pose.

    Args:
        rows: (B, N, 2, 3) whitened residual rows ``A``.
        object_points: (B, N, 3) metres.
        rotation: (B, S, 3, 3).
        translation: (B, S, 3) metres.
        min_depth: (B, S) metres.
        kind: robust loss.
        scale: its scale in standard deviations.

    Returns:
        (B, S).
    """
    points = object_points[:, None] @ rotation.mT + translation[:, :, None]
    numerator = torch.einsum("bnij,bsnj->bsni", rows, points)
    residual = numerator / torch.maximum(points[..., 2], min_depth[..., None])[..., None]
    return 0.5 * robust.rho(kind, residual.square().sum(-1), scale).sum(-1)
