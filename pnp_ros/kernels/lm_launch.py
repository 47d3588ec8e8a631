"""Recorded launches of the Levenberg-Marquardt kernel: what a launch costs beside the kernel's own time is small.

A launch is recorded once for each shape of problem; a solve then only changes pointers and settings in the recorded
arguments, on torch's own memory. Launches are kept apart for each thread, so solves may run in several.
"""

from __future__ import annotations

import ctypes.util
import functools
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import warp as wp
from torch import Tensor

from pnp_ros.cameras.camera import CameraModel
from pnp_ros.kernels import kernel_cache, robust, solve_warp
from pnp_ros.kernels.chunks_warp import NUM_ROWS, Buffers, Settings
from pnp_ros.kernels.lens_warp import MODEL_NUMBERS
from pnp_ros.kernels.lm_problem import ANNEAL_STEPS, SECOND, LMSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Block:
    """How a launch is laid out: points in a chunk, threads that share a problem, threads in a block."""

    width: int
    lanes: int
    threads: int


CPU = Block(16, 1, 1)
CUDA_FEW = Block(1, 32, 32)  # a warp for each problem: lowest latency
CUDA_MANY = Block(1, 1, 128)  # a thread for each problem: no reductions, once there are enough to fill the device
MANY = 1 << 15

DTYPES = {"image_points": wp.vec2, "object_points": wp.vec3, "status": wp.int8}  # others: float


def block_for(device: torch.device, batch: int) -> Block:
    """The layout for a batch on a device."""
    if device.type != "cuda":
        return CPU
    return CUDA_MANY if batch >= MANY else CUDA_FEW


@functools.cache
def initialise() -> None:
    """Start Warp without its banner, and without its warning that a machine without a GPU has no driver for one."""
    if wp.config.log_level == wp.LOG_INFO:
        wp.config.log_level = wp.LOG_WARNING
    if ctypes.util.find_library("cuda") is not None:
        _say(kernel_cache.start_warp())
        return
    # The library writes the warning to the file descriptor itself.
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        remark = kernel_cache.start_warp()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    _say(remark)


def _say(remark: str) -> None:
    if remark:
        logger.warning(remark)


@functools.cache
def supports(device: torch.device) -> bool:
    """Whether Warp runs kernels on a torch device."""
    if device.type == "cpu":
        return True
    initialise()
    return device.type == "cuda" and bool(wp.is_cuda_available())


class RecordedLaunch:
    """The launch for B problems of N points with one camera model, on one device.

    Args:
        device: CPU or CUDA.
        batch: B.
        points: N.
        matrices: whether weights are (B, N, 2, 2) or (B, N, 2).
        prior: whether there is one.
        model: lens model.
        camera_per_problem: whether intrinsics and distortion are (B, ...) or (...).
        coefficients: D, of the distortion.
        block: None chooses by device and batch.
    """

    def __init__(
        self,
        device: torch.device,
        batch: int,
        points: int,
        matrices: bool,
        prior: bool,
        model: CameraModel,
        camera_per_problem: bool,
        coefficients: int,
        block: Block | None = None,
    ) -> None:
        initialise()
        block = block or block_for(device, batch)
        width = block.width
        rows = batch * max(-(-points // width), 1)
        self._packed = torch.zeros(rows, int(NUM_ROWS), width, device=device)
        wp_device = wp.device_from_torch(device)
        self._device, self._model = wp_device, MODEL_NUMBERS[model]
        step = 1 if camera_per_problem else 0
        shapes = {
            "image_points": (batch, points),
            "object_points": (batch, points),
            "weights": (batch, points, 4 if matrices else 2),
            "priors": (batch if prior else 0, 10, 6),
            "start_rotation": (batch, 3, 3),
            "start_translation": (batch, 3),
            "intrinsics": (batch, 4),
            "distortion": (batch, coefficients),
            "rotation": (batch, 3, 3),
            "translation": (batch, 3),
            "covariance": (batch, 6, 6),
            "inlier_weights": (batch, points),
            "cost": (batch,),
            "status": (batch,),
            "second": (batch, SECOND),
            "likelihood": (batch, points),
        }
        data = Buffers()
        for name, shape in shapes.items():
            strides = (4 * step * shape[1], 4) if name in ("intrinsics", "distortion") else None
            setattr(data, name, self._array(shape, DTYPES.get(name, wp.float32), strides))
        self._fields = [getattr(data.__ctype__(), name) for name in shapes]
        self._settings: LMSettings | None = None
        settings_struct = Settings()
        self._settings_fields = settings_struct.__ctype__()
        vector = wp.types.vector(length=width, dtype=wp.float32)
        arguments = [
            data,
            settings_struct,
            self._array((rows, int(NUM_ROWS)), vector),
            self._array((rows, int(NUM_ROWS), width), wp.float32),
        ]
        self._launch = wp.launch(
            solve_warp.build(width, block.lanes),
            batch * block.lanes,
            arguments,
            device=wp_device,
            block_dim=block.threads,
            record_cmd=True,
        )
        self._launch.set_param_at_index_from_ctype(0, data.__ctype__())
        self._launch.set_param_at_index_from_ctype(1, self._settings_fields)

    def _array(self, shape: tuple[int, ...], dtype: type, strides: tuple[int, ...] | None = None) -> wp.array:
        """An array on the packed points; its pointer is replaced before a launch where it stands for something else."""
        return wp.array(
            ptr=self._packed.data_ptr(), shape=shape, strides=strides, dtype=dtype, device=self._device, copy=False
        )

    def __call__(self, tensors: Sequence[Tensor], settings: LMSettings, pixels: int, given: bool, guided: bool) -> None:
        """Solve. ``tensors``: contiguous, in the order of ``shapes`` above; ``pixels``: of the image;
        ``given``: whether the start is one of them."""
        if settings is not self._settings:
            self._set(settings)
        self._settings_fields.pixels = pixels
        self._settings_fields.given = int(given)
        self._settings_fields.guided = int(guided)
        for field, tensor in zip(self._fields, tensors):
            field.data = tensor.data_ptr()
        stream = None if self._device.is_cpu else wp.stream_from_torch(tensors[0].device)
        self._launch.launch(stream)

    def _set(self, settings: LMSettings) -> None:
        struct = self._settings_fields
        struct.model = self._model
        struct.kind = int(settings.kind)
        struct.scale = settings.scale
        struct.anneal_from = settings.anneal_from
        struct.anneal_ratio = (settings.scale / settings.anneal_from) ** (1.0 / ANNEAL_STEPS)
        for field, residuals in ((struct.plane, 2), (struct.line, 1)):
            calibration = robust.calibration(settings.kind, settings.scale, residuals)
            field.information = calibration.information
            field.mean_weight = calibration.mean_weight
            field.excess = calibration.excess
        struct.max_iterations = settings.max_iterations
        struct.tolerance2 = settings.tolerance**2
        struct.samples = settings.samples
        struct.accept = int(settings.accept)
        self._settings = settings


class _Launches(threading.local):
    """The recorded launches of one thread, the most recently made ones."""

    def __init__(self) -> None:
        self.get = functools.lru_cache(maxsize=64)(RecordedLaunch)


launches = _Launches()
