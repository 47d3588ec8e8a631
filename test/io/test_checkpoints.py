from pathlib import Path

import pytest
import torch

from pnp_ros.io.checkpoints import (
    CheckpointError,
    read_metadata,
    read_tensors,
    sha256,
    under_prefix,
    with_prefix,
    write_tensors,
)


def test_round_trip_with_metadata(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = {"a": torch.randn(3, 4).mT, "b": torch.tensor(3.0)}  # one of them not contiguous
    write_tensors(path, tensors, {"steps": 7, "seconds": 1.5})
    again = read_tensors(path, sha256(path))
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    assert read_metadata(path) == {"steps": 7, "seconds": 1.5}
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


def test_damaged_and_absent_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.zeros(100)})
    digest = sha256(path)
    path.write_bytes(path.read_bytes()[:-20])
    for read in (lambda: read_tensors(path), lambda: read_tensors(path, digest), lambda: read_metadata(path)):
        with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
            read()
    with pytest.raises(CheckpointError, match="no such file"):
        read_tensors(tmp_path / "other.safetensors")


def test_prefixes() -> None:
    tensors = {"x.y": torch.zeros(1)}
    assert list(under_prefix("net", with_prefix("net", tensors) | {"network.z": torch.ones(1)})) == ["x.y"]
