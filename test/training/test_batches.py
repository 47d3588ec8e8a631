import os

import pytest
import torch

from pnp_ros.training.batches import Batch, BatchConfig, BatchSource, Kind, Sampler, WorkerError


class _Counting:
    """Batches that say how much was rendered, in which process."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rendered = 0

    def refresh(self, count: int) -> None:
        self._rendered += count

    def batch(self, kind: Kind, size: int) -> Batch:
        if self._seed == 666:
            raise RuntimeError("cannot render")
        row = torch.tensor([self._seed, self._rendered, os.getpid(), kind == "crops"])
        return {"rows": row.expand(size, 4).clone()}


def counting(seed: int) -> Sampler:
    return _Counting(seed)


def test_workers_make_batches_and_keep_rendering() -> None:
    with BatchSource(counting, BatchConfig("crops", 4, 2, 10)) as batches:
        rows = torch.stack([next(batches)["rows"][0] for _ in range(40)])
    assert set(rows[:, 0].tolist()) == {10, 10 + 7919}
    assert os.getpid() not in rows[:, 2].tolist()
    assert bool((rows[:, 3] == 1).all())
    for seed in rows[:, 0].unique():
        assert rows[rows[:, 0] == seed][-1, 1] > 0


def test_a_dead_worker_is_an_error() -> None:
    with BatchSource(counting, BatchConfig("frames", 4, 1, 666)) as batches, pytest.raises(WorkerError, match="exit"):
        next(batches)
