"""Float32 or bfloat16: whichever this machine trains faster with.

A processor with bfloat16 arithmetic (AMX, AVX512-BF16, recent ARM; GPUs since Ampere) trains two to three times as
fast with it. One without emulates it, three to ten times slower than float32: most laptops and robots. What a
processor's name promises and what its libraries do with it are two things, so it is measured, once a process.

Only training uses it. Estimation stays in float32, whose poses are the same on every machine up to rounding.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import torch

from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig

_CROPS = 2
_WORTHWHILE = 1.2  # times as fast; below that float32, whose rounding is finer
_REPEATS = 2


@dataclass(frozen=True)
class Precision:
    """The type that training calculates with.

    Args:
        dtype: ``torch.bfloat16`` or ``torch.float32``.
        reason: what was found on this machine, for the log.
    """

    dtype: torch.dtype
    reason: str

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context of a forward pass; it changes nothing for float32."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} ({self.reason})"


def training_precision(device: torch.device) -> Precision:
    """The faster type for training on a device; about a second at the first call."""
    return _measured(device.type, torch.get_num_threads())


@functools.cache
def _measured(device_type: str, threads: int) -> Precision:
    if device_type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return chosen(1.0, 0.0, "the GPU has it") if native else chosen(0.0, 1.0, "the GPU lacks bfloat16")
    single, half = seconds(torch.float32), seconds(torch.bfloat16)
    return chosen(single, half, f"bfloat16 is {single / half:.2g} times as fast here")


def chosen(single: float, half: float, reason: str) -> Precision:
    """The precision, given the time of a step in float32 (``single``) and in bfloat16 (``half``)."""
    return Precision(torch.bfloat16 if single > _WORTHWHILE * half else torch.float32, reason)


def seconds(dtype: torch.dtype) -> float:
    """CPU time of a forward and backward pass of the keypoint network on two crops, the best of two after a first."""
    with torch.random.fork_rng(devices=[]):  # asking must not change what a seed gives
        network = KeypointNetwork(KeypointNetworkConfig(num_keypoints=16))
        images = torch.rand(_CROPS, 3, network.config.crop_size, network.config.crop_size)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
    images = images.contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for repeat in range(_REPEATS + 1):
        begin = time.process_time()
        with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            raw = network(images)
        (raw.heat.square().mean() + raw.log_factor.square().mean() + raw.presence.square().mean()).backward()
        if repeat:  # the first one also prepares
            best = min(best, time.process_time() - begin)
    return best
