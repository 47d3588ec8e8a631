"""Batches from processes that render while the networks train.

Each worker owns a renderer and a pool of rendered images. It makes a batch whenever the trainer has room for one and
renders fresh images into the pool the rest of the time, so neither side waits for the other: the slower the training,
the fresher the pool.
"""

from __future__ import annotations

import faulthandler
import logging
import math
import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

logger = logging.getLogger(__name__)
Batch = dict[str, Tensor]
Kind = Literal["crops", "dense", "frames"]
_WAITING_BATCHES = 3  # per worker
_REFRESH_AT_ONCE = 8  # images rendered between two looks at the queue, at most
_REUSE = 6  # a rendered image serves at most about this many augmented samples
_START_SECONDS, _BATCH_SECONDS, _END_SECONDS = 600.0, 120.0, 5.0
_STALL_SECONDS = 60.0  # after which a worker says where it is stuck
_MOST_STARTS = 10
_NICENESS = 10  # where both share a core: fresher images than are needed are not worth a slower training
_SEED_STEP, _START_STEP = 7919, 15485863


class WorkerError(ChildProcessError):
    """A rendering worker failed, died or gives no batches; the message holds the worker's traceback."""


class Sampler(Protocol):
    """What a worker needs of a source of samples."""

    def at(self, progress: float) -> None: ...
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


class _Shared(NamedTuple):
    """What the trainer and its workers have in common."""

    batches: multiprocessing.Queue
    stop: Event
    progress: Synchronized[float]


class BatchSource:
    """An iterator of batches out of worker processes; use as a context manager.

    Workers that die or stall are replaced, with other seeds, so that a long training survives them.

    Raises:
        WorkerError: from ``next`` if workers cannot be started, or fail again and again.
    """

    def __init__(self, factory: SamplerFactory, config: BatchConfig) -> None:
        self._factory = factory
        self._config = config
        self._context = multiprocessing.get_context("spawn")
        self._progress = self._context.Value("d", 1.0)
        self._processes: list[BaseProcess] = []
        self._starts = 0
        self._batches_since_start = 0

    def __enter__(self) -> BatchSource:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def tell(self, progress: float) -> None:
        """What share of the budget is spent, 0 to 1: the next samples are made for that; until told, for its end."""
        self._progress.value = progress

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        waited = 0.0
        while True:
            try:
                batch = self._queue.get(timeout=1.0)
            except queue.Empty:
                waited += 1.0
                problem = self._problem(waited)
            else:
                if not isinstance(batch, str):
                    self._batches_since_start += 1
                    return {name: torch.from_numpy(array) for name, array in batch.items()}
                problem = f"a rendering worker failed:\n{batch}"
            if problem:
                if not self._batches_since_start or self._starts > _MOST_STARTS:
                    raise WorkerError(problem)
                logger.warning("%s; starting new workers", problem)
                self._end()
                self._start()
                waited = 0.0

    def _problem(self, waited: float) -> str:
        dead = [process for process in self._processes if not process.is_alive()]
        if dead:
            return f"a rendering worker ended with exit code {dead[0].exitcode}"
        patience = _BATCH_SECONDS if self._batches_since_start else _START_SECONDS
        return f"no batch for {waited:.0f} s" if waited > patience else ""

    def _start(self) -> None:
        # a queue of their own: a worker that died while it wrote may have left the former one unreadable
        self._queue = self._context.Queue(_WAITING_BATCHES * self._config.workers)
        self._stop = self._context.Event()
        self._batches_since_start = 0
        for _ in range(self._config.workers):
            seed = self._config.seed + _SEED_STEP * len(self._processes) + _START_STEP * self._starts
            arguments = (self._factory, self._config, seed, _Shared(self._queue, self._stop, self._progress))
            process = self._context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self._processes.append(process)
        self._starts += 1

    def _end(self) -> None:
        self._stop.set()
        for process in self._processes:
            process.join(timeout=_END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        self._processes.clear()
        self._queue.cancel_join_thread()
        self._queue.close()


def _serve(factory: SamplerFactory, config: BatchConfig, seed: int, shared: _Shared) -> None:
    """The worker; what it raises goes to the trainer, which tells of it once for all workers."""
    try:
        _work(factory, config, seed, shared)
    except Exception:
        faulthandler.cancel_dump_traceback_later()
        shared.batches.put(traceback.format_exc().rstrip())


def _work(factory: SamplerFactory, config: BatchConfig, seed: int, shared: _Shared) -> None:
    """Batches as long as there is room, fresh images otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer ends its workers, after its checkpoint
    parent = os.getppid()
    torch.set_num_threads(1)
    os.nice(_NICENESS)
    sampler = factory(seed)
    fresh = config.size  # the pool starts filled
    at_once = min(_REFRESH_AT_ONCE, max(1, math.ceil(config.size / _REUSE)))
    while not shared.stop.is_set() and os.getppid() == parent:
        faulthandler.dump_traceback_later(_STALL_SECONDS)
        if fresh * _REUSE < config.size:
            sampler.refresh(at_once)
            fresh += at_once
            continue
        sampler.at(shared.progress.value)
        # arrays, not tensors: those would travel as shared files that die with the worker
        batch = {name: tensor.numpy() for name, tensor in sampler.batch(config.kind, config.size).items()}
        fresh = 0
        while not shared.stop.is_set() and os.getppid() == parent:
            try:
                shared.batches.put_nowait(batch)
                break
            except queue.Full:
                faulthandler.dump_traceback_later(_STALL_SECONDS)
                sampler.refresh(at_once)
                fresh += at_once
    faulthandler.cancel_dump_traceback_later()
    shared.batches.cancel_join_thread()
