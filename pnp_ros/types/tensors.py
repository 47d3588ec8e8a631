"""What all values share: numbers become tensors once, shapes are checked, and a representation is short."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def as_tensor(name: str, value: ArrayLike, like: Tensor | None = None) -> Tensor:
    """A tensor of the dtype and on the device of ``like``, else float32."""
    if isinstance(value, Tensor):
        return value
    try:
        array = torch.from_numpy(np.array(value, np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected a tensor or an array of numbers, got {type(value).__name__}") from error
    return array.float() if like is None else array.to(like)


def check_shape(name: str, tensor: Tensor, tail: tuple[int, ...]) -> None:
    if tensor.shape[-len(tail) :] != tail:
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, tail))}), got {tuple(tensor.shape)}")


def numbers(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values.detach().flatten().tolist()) + "]"


def batch_and_kind(batch: torch.Size, like: Tensor) -> list[str]:
    """What a short representation says of tensors that are not one problem's in float32 on the CPU."""
    found = [f"batch {tuple(batch)}"] if batch else []
    if like.dtype is not torch.float32:
        found.append(str(like.dtype).removeprefix("torch."))
    return found if like.device.type == "cpu" else [*found, str(like.device)]
