"""What all values share: numbers become tensors once, shapes are checked, and a representation is short."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_NOTHING: tuple[object, ...] = (None, "", ())  # not told
_FEW = 6  # numbers that a short representation shows; of more it tells the shape


class Values:
    """What results share: their arrays by name, and a representation that is short in a notebook.

    For frozen dataclasses with ``repr=False``.
    """

    def numpy(self) -> dict[str, NDArray[np.generic]]:
        """The fields that hold numbers or names as arrays, by name.

        Poses are (..., 4, 4) homogeneous; of values within, such as an estimate, the arrays stand beside the others.
        """
        found: dict[str, NDArray[np.generic]] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, Tensor):
                found[name] = value.detach().cpu().numpy()
            elif hasattr(value, "numpy"):
                inner = value.numpy()
                found |= inner if isinstance(inner, dict) else {name: inner}
            elif isinstance(value, (bool, int, float)) or (isinstance(value, tuple) and _is_plain(value)):
                found[name] = np.asarray(value)
        return found

    def __repr__(self) -> str:
        fields = [(each.name, getattr(self, each.name)) for each in dataclasses.fields(self) if each.repr]  # type: ignore[arg-type]
        told = [_told(name, value) for name, value in fields if isinstance(value, Tensor) or value not in _NOTHING]
        return f"{type(self).__name__}({', '.join(told)})"


def _is_plain(values: tuple[object, ...]) -> bool:
    return all(isinstance(value, (bool, int, float, str)) for value in values)


def _told(name: str, value: Any) -> str:
    """A field, in a few words."""
    if isinstance(value, Tensor):
        if value.dtype is torch.bool:
            return f"{name} {int(value.sum())} of {value.numel()}"
        return f"{name} {numbers(value) if value.numel() <= _FEW else tuple(value.shape)}"
    if isinstance(value, tuple) and all(isinstance(item, float) for item in value):
        return f"{name} ({', '.join(f'{item:.4g}' for item in value)})"
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"


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
