"""Named tensors in safetensors files, written atomically and checked against a sha256. Never pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor


class CheckpointError(ValueError):
    """A file of weights is absent, damaged or not the expected one; the message names it."""


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part, also after a loss of power."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the content reaches the disk before its name does
        partial.replace(path)
    except OSError:  # a part of a file would keep a full disk full
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Write named tensors; ``metadata`` is kept as JSON in the file's header.

    Both arrive in one rename, so an interrupted write leaves the former file.
    """
    write_bytes_atomically(path, serialised(tensors, metadata))


def serialised(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> bytes:
    """The content of the file that :func:`write_tensors` writes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"metadata": json.dumps(metadata)} if metadata is not None else None
    return safetensors.torch.save(plain, header)


def read_tensors(path: Path, expected_sha256: str | None = None) -> dict[str, Tensor]:
    """Read named tensors onto the CPU.

    Raises:
        CheckpointError: if the file is absent, is not safetensors, has another sha256, or numbers that are not finite.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of weights")
    if expected_sha256 is not None and (found := sha256(path)) != expected_sha256:
        raise CheckpointError(f"{path}: sha256 is {found}, expected {expected_sha256}; the file is damaged")
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name}: expected finite numbers")
    return tensors


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The tensors' shapes by name, from the file's header alone.

    Raises:
        CheckpointError: if the file is absent or is not safetensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of weights")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """The ``metadata`` that :func:`write_tensors` kept; empty where there is none.

    Raises:
        CheckpointError: as :func:`read_tensors`.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of weights")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        return dict(json.loads(header.get("metadata", "{}")))
    except (safetensors.SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under ``prefix.name``."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name starts with ``prefix.``, without it."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
