"""Training in several processes with torch's own launcher: gloo on CPUs, NCCL on GPUs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel


class Group:
    """The processes that train together; a group of one needs no process group.

    Args:
        device: of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self._device = device
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with averaged gradients."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network, device_ids=[self._device] if self._device.type == "cuda" else None)

    def agree(self, value: float) -> float:
        """The first process's value, in all of them: they must end a phase at the same step."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self._device)
        distributed.broadcast(shared, src=0)
        return float(shared)

    def close(self) -> None:
        """Leave the process group."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()


def process_device(name: str) -> torch.device:
    """The device of this process: with ``cuda``, the GPU of its local rank.

    Raises:
        ValueError: for a device this machine does not have.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: expected cpu or cuda, got {name!r}") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device: cuda was asked for, but torch finds no CUDA GPU here")
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", device.index or 0)))
        torch.cuda.set_device(device)
    return device


def launch(count: int, function: Callable[..., Any], *arguments: Any) -> dict[int, Any]:
    """Run ``function(*arguments)`` in ``count`` processes on this machine that form one group; what each returned."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=f"pnp_ros-{os.getpid()}",
        max_restarts=0,
    )
    found: dict[int, Any] = elastic_launch(config, function)(*arguments)
    return found
