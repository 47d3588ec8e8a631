"""Dispatch of PnP-Net's likelihoods to the Warp kernel: one launch, whose cost beside the network is small."""

from __future__ import annotations

import functools
import threading

import numpy as np
import torch
import warp as wp
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import lm_launch, pnp_net_warp
from pnp_ros.kernels.lens_warp import MODEL_NUMBERS
from pnp_ros.types import Correspondences

_WIDTH = 16


class PackedNetwork:
    """A network's weights as the kernel wants them: four outputs side by side, each matrix with its bias.

    Args:
        embed: (1, C, 7 + 1).
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
    """The recorded launch for problems of any number and size, with memory of its own."""

    def __init__(self) -> None:
        lm_launch.initialise()
        self._chunks = self._room(1)
        self._kept = 1
        data = pnp_net_warp.NetBuffers()
        for name, kind in pnp_net_warp.NetBuffers.cls.__annotations__.items():
            if isinstance(kind, wp.array):
                setattr(data, name, self._array((1,), kind.dtype))
        vector = wp.types.vector(length=_WIDTH, dtype=wp.float32)
        shape = (1, pnp_net_warp.ROWS, _WIDTH)
        arguments = [data, pnp_net_warp.Network(), self._array(shape[:2], vector), self._array(shape, wp.float32)]
        self._launch = wp.launch(pnp_net_warp.build(_WIDTH), 1, arguments, device="cpu", record_cmd=True)
        self._data = data.__ctype__()
        self._launch.set_param_at_index_from_ctype(0, self._data)
        self._packed = self._launch.params[3:5]
        names = ("image_points", "object_points", "weights", "intrinsics", "distortion", "likelihood")
        self._fields = [getattr(self._data, name) for name in names]

    def _room(self, chunks: int) -> Tensor:
        return torch.empty(chunks, pnp_net_warp.ROWS, _WIDTH)

    def _array(self, shape: tuple[int, ...], dtype: type) -> wp.array:
        """An array on the chunks; its pointer is replaced before a launch."""
        return wp.array(ptr=self._chunks.data_ptr(), shape=shape, dtype=dtype, device="cpu", copy=False)

    def __call__(self, tensors: list[Tensor], parts: int, camera: Camera, network: PackedNetwork) -> None:
        """``tensors``, contiguous: image and object points, weights, intrinsics, distortion, the result (..., N)."""
        points = tensors[-1].shape[-1]
        count = tensors[-1].numel() // points
        if count * points * parts > lm_launch.MAX_NUMBERS:
            most = lm_launch.MAX_NUMBERS // parts
            raise ValueError(f"image_points: expected at most {most} points, got {count * points}")
        data = self._data
        data.points, data.parts, data.cameras = points, parts, int(tensors[3].ndim > 1)
        data.model = MODEL_NUMBERS[camera.model]
        for field, tensor in zip(self._fields, tensors):
            field.data = tensor.data_ptr()
        needed = count * -(-points // _WIDTH)
        if needed > self._kept:
            self._chunks, self._kept = self._room(needed), needed
        self._packed[0].data = self._packed[1].data = self._chunks.data_ptr()
        self._launch.set_param_at_index_from_ctype(1, network.struct.__ctype__())
        self._launch.set_dim(count)
        self._launch.launch()


class _Launches(threading.local):
    """The recorded launch of one thread."""

    def __init__(self) -> None:
        self.get = functools.cache(_Launch)


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
    _launches.get()([*points, weights, *lens, result], tail.numel(), camera, network)
    return result
