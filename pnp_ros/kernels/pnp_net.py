"""Dispatch of PnP-Net's likelihoods to the Warp kernel: one launch, whose cost beside the network is small."""

from __future__ import annotations

import functools
import threading

import numpy as np
import torch
import warp as wp
from torch import Tensor

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.kernels import lm_launch, pnp_net_warp
from pnp_ros.kernels.lens_warp import MODEL_NUMBERS
from pnp_ros.types import Correspondences

_WIDTH = 16


class PackedNetwork:
    """A network's weights as the kernel wants them: four outputs side by side, each matrix with its bias.

    Args:
        embed: (C, 7 + 1).
        layers: (L, C + H, C + 1).
        look: (STAGES - 1, C, 6 + 1).
        judge: (STAGES, C + 1).
    """

    def __init__(self, embed: Tensor, layers: Tensor, look: Tensor, judge: Tensor) -> None:
        lm_launch.initialise()
        missing = pnp_net_warp.OUTPUTS - layers.shape[1]
        layers = torch.nn.functional.pad(layers, (0, 0, 0, missing))
        self._kept = [_in_blocks(x) for x in (embed, layers, look)] + [judge.float().contiguous()]
        self.struct = pnp_net_warp.Network()
        for name, tensor in zip(("embed", "layers", "look"), self._kept):
            setattr(self.struct, name, wp.from_torch(tensor, dtype=wp.vec4))
        self.struct.judge = wp.from_torch(self._kept[3])


def _in_blocks(matrix: Tensor) -> Tensor:
    """(..., O / 4, I, 4) of (..., O, I)."""
    return matrix.detach().cpu().float().unflatten(-2, (-1, pnp_net_warp.BLOCK)).mT.contiguous()


class _Launch:
    """A recorded launch for one shape of problems, with memory of its own."""

    def __init__(self, batch: int, points: int, parts: int, model: CameraModel, per_problem: bool, terms: int) -> None:
        rows = batch * max(-(-points // _WIDTH), 1)
        self._packed = torch.zeros(rows, pnp_net_warp.ROWS, _WIDTH)
        data = pnp_net_warp.NetBuffers()
        data.cameras = int(per_problem)
        shapes = {
            "image_points": ((batch, points), wp.vec2, None),
            "object_points": ((batch, points), wp.vec3, None),
            "weights": ((batch, points, parts), wp.float32, None),
            "intrinsics": ((batch,), wp.vec4, None),
            "distortion": ((batch * terms,), wp.float32, None),
            "likelihood": ((batch, points), wp.float32, None),
        }
        for name, (shape, dtype, strides) in shapes.items():
            setattr(data, name, self._array(shape, dtype, strides))
        self._fields = [getattr(data.__ctype__(), name) for name in shapes]
        self._data = data
        vector = wp.types.vector(length=_WIDTH, dtype=wp.float32)
        chunks = self._array((rows, pnp_net_warp.ROWS), vector)
        packed = self._array((rows, pnp_net_warp.ROWS, _WIDTH), wp.float32)
        self._arguments = [data, pnp_net_warp.Network(), MODEL_NUMBERS[model], chunks, packed]
        self._batch = batch
        self._command: wp.Launch | None = None

    def _array(self, shape: tuple[int, ...], dtype: type, strides: tuple[int, ...] | None = None) -> wp.array:
        return wp.array(
            ptr=self._packed.data_ptr(), shape=shape, strides=strides, dtype=dtype, device="cpu", copy=False
        )

    def __call__(self, tensors: list[Tensor], network: PackedNetwork) -> None:
        if self._command is None or self._arguments[1] is not network.struct:
            self._arguments[1] = network.struct
            kernel = pnp_net_warp.build(_WIDTH)
            self._command = wp.launch(kernel, self._batch, self._arguments, device="cpu", record_cmd=True)
            self._command.set_param_at_index_from_ctype(0, self._data.__ctype__())
        for field, tensor in zip(self._fields, tensors):
            field.data = tensor.data_ptr()
        self._command.launch()


class _Launches(threading.local):
    """The recorded launches of one thread, the most recently made ones."""

    def __init__(self) -> None:
        self.get = functools.lru_cache(maxsize=16)(_Launch)


_launches = _Launches()


def likelihood(correspondences: Correspondences, camera: Camera, network: PackedNetwork) -> Tensor:
    """(..., N) probabilities to be an inlier, on the CPU in float32.

    Args:
        correspondences: (..., N, 2) px, (..., N, 3) m, (..., N, 2) or (..., N, 2, 2) 1/px: float32 on the CPU.
        camera: intrinsics (4,) or (..., 4).
        network: the packed weights.
    """
    c = correspondences
    *batch, n, _ = np.broadcast_shapes((*c.image_points.shape[:-1], 1), (*c.object_points.shape[:-1], 1))
    count = torch.Size(batch).numel()
    result = c.image_points.new_empty(*batch, n)
    if result.numel() == 0:
        return result
    points = [x.expand(*batch, *x.shape[-2:]).contiguous() for x in (c.image_points, c.object_points)]
    tail = c.weights.shape[c.image_points.ndim - 1 :]
    weights = c.weights.expand(*batch, n, *tail).contiguous()
    lens = [camera.intrinsics.contiguous(), camera.distortion.contiguous()]
    per_problem = camera.intrinsics.ndim > 1 or camera.distortion.ndim > 1
    if per_problem:
        lens = [x.expand(*batch, x.shape[-1]).contiguous() for x in lens]
    launch = _launches.get(count, n, tail.numel(), camera.model, per_problem, lens[1].shape[-1])
    launch([*points, weights, *lens, result], network)
    return result
