"""What a node reports on ``/diagnostics``: rates, ages, latencies, counts and the last error."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus

from pnp_ros.nodes.conversions import diagnostic_status

_ERROR_SHOWN_S = 5.0  # an error stays the headline for this long after it last happened
_WINDOW = 300  # samples that a latency's percentiles are taken over


class Health:
    """Gathers figures between two reports. Safe to use from several threads.

    Args:
        name: of the entry, by custom ``node: what``, with the node's namespace.

    Attributes:
        hardware_id: the camera's frame, once it is known.
    """

    def __init__(self, name: str) -> None:
        self._name = name.lstrip("/")
        self.hardware_id = ""
        self._lock = threading.Lock()
        self._samples: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_WINDOW))
        self._processed = 0
        self._since = time.monotonic()
        self._error = ""
        self._error_time = -_ERROR_SHOWN_S
        self.errors = 0

    def processed(self, latency: dict[str, float], age: float) -> None:
        """One image went through: seconds by stage, and the image's age when its result was published."""
        with self._lock:
            self._processed += 1
            self._samples["message age"].append(age)
            for stage, value in latency.items():
                self._samples[f"latency {stage}"].append(value)

    def failed(self, error: str) -> None:
        """One image could not be used."""
        with self._lock:
            self._error, self._error_time = error, time.monotonic()
            self.errors += 1

    def status(self, state: str, counts: Mapping[str, object], fault: str = "", warning: str = "") -> DiagnosticStatus:
        """The entry since the last call: ERROR while an error is fresh, WARN while nothing is processed, else OK.

        Args:
            state: of the node, in a word.
            counts: figures to list.
            fault: an error that lasts.
            warning: what should be changed, though it works.
        """
        with self._lock:
            now = time.monotonic()
            frequency = self._processed / max(now - self._since, 1e-3)
            self._processed, self._since = 0, now
            values = {"state": state, "frequency": f"{frequency:.1f} Hz"}
            for name, samples in self._samples.items():
                median, tail = np.percentile(np.array(samples), [50, 99]) * 1e3
                values[name] = f"median {median:.1f} ms, p99 {tail:.1f} ms"
            values |= {name: str(count) for name, count in counts.items()}
            values |= {"errors": str(self.errors), "last error": self._error}
            level, message = DiagnosticStatus.OK, state
            if frequency == 0.0:
                level, message = DiagnosticStatus.WARN, f"{state}: no images processed"
            if warning:
                level, message = DiagnosticStatus.WARN, f"{state}: {warning}"
            if fault or now - self._error_time < _ERROR_SHOWN_S:
                level, message = DiagnosticStatus.ERROR, fault or self._error
            return diagnostic_status(level, self._name, message, values, self.hardware_id)
