"""Keeps an estimator on the version of the weights that the fine-tuning says is active."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import Models, load_models


class WeightsFollower:
    """Loads versions on a thread of its own, so that no image waits for it, and hands them to the estimator.

    A version that fails a check is refused, and the weights in use stay; it is tried again when it is asked for after
    another one.

    Args:
        estimator: with the package's own weights.
        store: of the versions.
        log: a logger with ``info`` and ``error``.
        refused: told why a version was refused.
    """

    def __init__(self, estimator: PoseEstimator, store: VersionStore, log: Any, refused: Callable[[str], None]) -> None:
        self._estimator, self._store, self._log, self._tell = estimator, store, log, refused
        own = estimator.models
        if own is None:
            raise ValueError("parameter versions: the estimator asks no network (parameter estimator.sources)")
        self._own = own  # the package's files may be replaced meanwhile
        self.active, self.reason = 0, ""
        self._changed = threading.Condition()
        self._wanted: int | None = None
        self._refused: int | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="weights", daemon=True)

    def start(self) -> None:
        """Use the newest good version now, and begin to follow."""
        newest = self._store.newest()
        if newest is not None:
            self._load(newest.number)
        self._log.info(f"weights: {self.description}")
        self._thread.start()

    @property
    def description(self) -> str:
        """Which weights the next image is estimated with."""
        return describe(self.active)

    def follow(self, number: int) -> None:
        """Ask for a version, 0 for the package's own weights; returns at once."""
        with self._changed:
            if number != self._wanted:
                self._wanted, self._refused = number, None
                self._changed.notify()

    def close(self) -> None:
        """Stop following; waits for a version that is being loaded."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wanted not in (None, self.active, self._refused))
                if self._closed:
                    return
                number = self._wanted
            assert number is not None
            self._load(number)

    def _load(self, number: int) -> None:
        try:
            self._estimator.use(self._models(number))
        except (ValueError, OSError, RuntimeError) as error:
            self._refused, self.reason = number, f"version {number} refused: {error}"
            self._log.error(f"weights: {self.reason}; {self.description} stays in use")
            self._tell(self.reason)
            return
        changed, self.active = self.active != number, number
        self._refused, self.reason = None, ""
        if changed:
            self._log.info(f"weights: {self.description} from the next image on")

    def _models(self, number: int) -> Models:
        if not number:
            return self._own
        package = self._store.get(number).applied_to(self._estimator.package)
        return load_models(package, self._estimator.device, self._estimator.backend)


def describe(number: int) -> str:
    """A version in words."""
    return f"version {number}" if number else "the object package's own"
