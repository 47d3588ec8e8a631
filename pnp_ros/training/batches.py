"""Batches from processes that render while the networks train.

Each worker owns a renderer and a pool of rendered pictures. It makes a batch whenever the trainer has room for one and
renders fresh pictures into the pool the rest of the time, so neither side waits for the other: the slower the training,
the fresher the pool.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Literal, Protocol

import torch
from torch import Tensor

Batch = dict[str, Tensor]
Kind = Literal["crops", "frames"]
_WAITING_BATCHES = 3  # per worker
_REFRESH_AT_ONCE = 8  # pictures rendered between two looks at the queue
_REUSE = 6  # a rendered picture serves at most about this many augmented samples
_START_SECONDS, _BATCH_SECONDS = 300.0, 120.0


class WorkerError(RuntimeError):
    """A rendering worker died or gives no batches."""


class Sampler(Protocol):
    """What a worker needs of a source of samples."""

    def refresh(self, count: int) -> None: ...
    def batch(self, kind: Kind, size: int) -> Batch: ...


class SamplerFactory(Protocol):
    """Builds a sampler inside the worker; must be picklable."""

    def __call__(self, seed: int) -> Sampler: ...


@dataclass(frozen=True)
class BatchConfig:
    """What to make: ``kind``, ``size`` of a batch, ``workers``, first ``seed``."""

    kind: Kind
    size: int
    workers: int
    seed: int


class BatchSource:
    """An iterator of batches out of worker processes; use as a context manager.

    Raises:
        WorkerError: from ``next`` if a worker died or no batch came in time.
    """

    def __init__(self, factory: SamplerFactory, config: BatchConfig) -> None:
        self._factory = factory
        self._config = config
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> BatchSource:
        self._queue = self._context.Queue(_WAITING_BATCHES * self._config.workers)
        self._stop = self._context.Event()
        for index in range(self._config.workers):
            arguments = (self._factory, self._config, self._config.seed + 7919 * index, self._queue, self._stop)
            process = self._context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self._processes.append(process)
        self._patience = _START_SECONDS
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        with contextlib.suppress(queue.Empty):
            while True:  # a worker that waits to put a batch could not end otherwise
                self._queue.get(timeout=0.2)
        for process in self._processes:
            process.join(timeout=10.0)
            if process.is_alive():
                process.terminate()
                process.join()
        self._processes.clear()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        waited = 0.0
        while True:
            try:
                batch = self._queue.get(timeout=1.0)
            except queue.Empty:
                waited += 1.0
                dead = [process for process in self._processes if not process.is_alive()]
                if dead:
                    raise WorkerError(f"a rendering worker ended with exit code {dead[0].exitcode}") from None
                if waited > self._patience:
                    raise WorkerError(f"no batch for {waited:.0f} s") from None
                continue
            self._patience = _BATCH_SECONDS
            return {name: torch.from_numpy(array) for name, array in batch.items()}


def _serve(
    factory: SamplerFactory,
    config: BatchConfig,
    seed: int,
    batches: multiprocessing.Queue,
    stop: Event,
) -> None:
    """The worker: batches as long as there is room, fresh pictures otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer ends its workers, after its checkpoint
    parent = os.getppid()
    torch.set_num_threads(1)
    os.environ.setdefault("LP_NUM_THREADS", "0")  # software OpenGL in this thread alone: the other cores have work
    sampler = factory(seed)
    fresh = config.size  # the pool starts filled
    while not stop.is_set() and os.getppid() == parent:
        if fresh * _REUSE < config.size:
            sampler.refresh(_REFRESH_AT_ONCE)
            fresh += _REFRESH_AT_ONCE
            continue
        # arrays, not tensors: those would travel as shared files that die with the worker
        batch = {name: tensor.numpy() for name, tensor in sampler.batch(config.kind, config.size).items()}
        fresh = 0
        while not stop.is_set() and os.getppid() == parent:
            try:
                batches.put_nowait(batch)
                break
            except queue.Full:
                sampler.refresh(_REFRESH_AT_ONCE)
                fresh += _REFRESH_AT_ONCE
    batches.cancel_join_thread()
