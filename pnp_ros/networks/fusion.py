"""Fold batch normalisation into the convolution before it: the same function in ``eval()`` mode, fewer passes."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fused(module: nn.Module) -> nn.Module:
    """A copy for inference in which every convolution followed by batch normalisation is one convolution.

    Only neighbours inside an ``nn.Sequential`` are folded, since only there the order of calls is known.
    """
    result = copy.deepcopy(module).eval()
    for sequence in [part for part in result.modules() if isinstance(part, nn.Sequential)]:
        for index in range(len(sequence) - 1):
            convolution, norm = sequence[index], sequence[index + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[index] = fuse_conv_bn_eval(convolution, norm)
                sequence[index + 1] = nn.Identity()
    return result.requires_grad_(False)
