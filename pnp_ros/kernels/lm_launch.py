"""The recorded launch of the Levenberg-Marquardt kernel: what a launch costs beside the kernel's own time is small.

A launch is recorded once; a solve of whatever size then only changes numbers and pointers in the recorded arguments, on
torch's own memory. Launches are kept apart for each thread, so solves may run in several.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import logging
import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import warp as wp
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.kernels import kernel_cache, robust, solve_warp
from pnp_ros.kernels.chunks_warp import NUM_ROWS, Buffers, Settings
from pnp_ros.kernels.lens_warp import MODEL_NUMBERS
from pnp_ros.kernels.lm_problem import ANNEAL_STEPS, LMSettings
from pnp_ros.kernels.packed_estimate import INLIER_WEIGHTS, PackedEstimate
from pnp_ros.types import PoseEstimate

logger = logging.getLogger(__name__)


class Block(NamedTuple):
    """How a launch is laid out: points in a chunk, threads that share a problem, threads in a block."""

    width: int
    lanes: int
    threads: int


CPU = Block(16, 1, 1)
CUDA_FEW = Block(1, 32, 32)  # a warp for each problem: lowest latency
CUDA_MANY = Block(1, 1, 128)  # a thread for each problem: no reductions, once there are enough to fill the device
MANY = 1 << 15
MAX_NUMBERS = 2**31 - 1  # that an index in the kernel can tell apart

KEPT_CHUNKS = 1 << 14  # of points, between calls; the memory for more is given back

# Warp's launch copies all arguments anew, which takes a third as long as a small solve. In these versions a kernel of
# the CPU is a function of its bounds and its arguments, which may be called as it is.
CALLED_DIRECTLY = wp.__version__.startswith("1.19.")

# The kernel's arrays, in the order in which a call gives them.
POINTS = ("image_points", "object_points", "weights")
PRIOR = ("priors",)
START = ("start_rotation", "start_translation")
GUIDE = ("likelihood",)
CAMERA = ("intrinsics", "distortion")
RESULT = ("rotation", "translation", "usable", "rest")


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
    """The launch for problems of any number and size, on one device and in one layout."""

    def __init__(self, device: torch.device, block: Block) -> None:
        initialise()
        self._device, self._block = device, block
        self._cuda = device.type == "cuda"
        self._chunks = self._room(1)
        self._kept = 1
        self._needed = 0  # chunks that each call makes for itself
        self._shape: tuple[int, int, int, bool, bool, bool] | None = None
        self._inputs: list[Any] = []
        self._settings: LMSettings | None = None
        self._camera: Camera | None = None
        data, options = Buffers(), Settings()
        for name, kind in Buffers.cls.__annotations__.items():
            if isinstance(kind, wp.array):
                setattr(data, name, self._array((1,), kind.dtype))
        vector, rows = wp.types.vector(length=block.width, dtype=wp.float32), int(NUM_ROWS)
        packed = [self._array((1, rows), vector), self._array((1, rows, block.width), wp.float32)]
        self._launch = wp.launch(
            solve_warp.build(block.width, block.lanes),
            block.lanes,
            [data, options, *packed],
            device=wp.device_from_torch(device),
            block_dim=block.threads,
            record_cmd=True,
        )
        self._arguments = _in_a_row(data.__ctype__(), options.__ctype__(), *self._launch.params[3:5])
        self._data, self._options, *self._packed = (getattr(self._arguments, f[0]) for f in self._arguments._fields_)
        for i, argument in enumerate((self._data, self._options, *self._packed)):
            self._launch.set_param_at_index_from_ctype(i, argument)
        self._results = [getattr(self._data, name) for name in RESULT]
        self._entry = None
        if CALLED_DIRECTLY and device.type == "cpu" and block.threads == 1:
            self._entry, self._at = self._launch.hooks.forward, ctypes.byref(self._arguments)

    def _array(self, shape: tuple[int, ...], dtype: type) -> wp.array:
        """An array on the chunks; its pointer is replaced before a launch where it stands for something else."""
        device = wp.device_from_torch(self._device)
        return wp.array(ptr=self._chunks.data_ptr(), shape=shape, dtype=dtype, device=device, copy=False)

    def _room(self, chunks: int) -> Tensor:
        return torch.empty(chunks, int(NUM_ROWS), self._block.width, device=self._device)

    def __call__(
        self,
        tensors: Sequence[Tensor],
        camera: Camera,
        batch: torch.Size,
        prior: bool,
        start: bool,
        guided: bool,
        settings: LMSettings,
    ) -> PoseEstimate:
        """Solve.

        Args:
            tensors: contiguous: image points, object points, weights, with a ``prior`` its rows, with a ``start`` its
                rotation and translation, if it is ``guided`` likelihoods (..., N), intrinsics and distortion.
            camera: its model and size.
            batch: leading dimensions of all tensors but a shared camera's.
            settings: loss and limits.
        """
        like, parts = tensors[0], 4 if tensors[2].ndim > tensors[0].ndim else 2
        points = like.shape[-2]
        result = PackedEstimate(like, batch, points)
        shape = batch.numel(), points, parts, prior, start, guided
        if shape != self._shape:
            if shape[0] == 0:
                return result.estimate()
            self._set_shape(*shape)
        if settings is not self._settings:
            self._set(settings)
        if camera is not self._camera:
            self._set_camera(camera)
        for field, tensor in zip(self._inputs, tensors):
            field.data = tensor.data_ptr()
        for field, tensor in zip(self._results, result.tensors):
            field.data = tensor.data_ptr()
        if self._needed > 0:
            chunks = self._room(self._needed)
            self._work_in(chunks)
        if self._entry is not None:
            self._entry(self._bounds, self._at)
        else:
            self._launch.launch(wp.stream_from_torch(self._device) if self._cuda else None)
        return result.estimate()

    def _set_shape(self, problems: int, points: int, parts: int, prior: bool, start: bool, guided: bool) -> None:
        numbers = max(points * parts, INLIER_WEIGHTS + points)
        if problems * numbers > MAX_NUMBERS:
            most = MAX_NUMBERS // numbers
            raise ValueError(f"image_points: expected at most {most} problems of {points} points, got {problems}")
        data, options = self._data, self._options
        data.problems, data.points, data.parts, data.prior = problems, points, parts, prior
        options.given, options.guided = start, guided
        names = (*POINTS, *(PRIOR if prior else ()), *(START if start else ()), *(GUIDE if guided else ()), *CAMERA)
        self._inputs = [getattr(data, name) for name in names]
        self._shape = problems, points, parts, prior, start, guided
        self._launch.set_dim(problems * self._block.lanes)
        self._bounds = ctypes.byref(self._launch.bounds)
        needed = problems * max(-(-points // self._block.width), 1)
        if self._cuda or needed > KEPT_CHUNKS:  # on other streams others may be under way; and much is given back
            self._needed = needed
            return
        self._needed = 0
        if needed > self._kept:
            self._chunks, self._kept = self._room(needed), needed
        self._work_in(self._chunks)

    def _work_in(self, chunks: Tensor) -> None:
        self._packed[0].data = self._packed[1].data = chunks.data_ptr()

    def _set_camera(self, camera: Camera) -> None:
        self._data.cameras = camera.intrinsics.ndim > 1 or camera.distortion.ndim > 1
        self._options.model, self._options.pixels = MODEL_NUMBERS[camera.model], camera.width * camera.height
        self._camera = camera

    def _set(self, settings: LMSettings) -> None:
        struct = self._options
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


def _in_a_row(*arguments: ctypes.Structure) -> ctypes.Structure:
    """Copies of a kernel's arguments as one structure, as the kernel reads them."""
    fields = [(f"argument_{i}", type(argument)) for i, argument in enumerate(arguments)]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})(*arguments)


class _Launches(threading.local):
    """The recorded launches of one thread."""

    def __init__(self) -> None:
        self.get = functools.lru_cache(maxsize=None)(RecordedLaunch)


launches = _Launches()
