"""Ends by itself once the estimator has answered for every image that reached it, as its diagnostics tell.

For commands that play images to nodes and then end them: how long the rest takes is the computer's affair.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from pnp_ros.nodes.parameters import Parameters
from pnp_ros.nodes.ros_compat import STEADY_CLOCK, run

_STATUS = "pose_estimator: pose"  # how the name of its entry ends
_COUNTS = ("images received", "images taken up", "images waiting", "messages lost on the way")
_REPORTS_AT_REST = 3  # in a row: the later ones leave messages that are under way the time to arrive
_LOOK_S = 0.2


class Backlog:
    """Whether work still goes on.

    Args:
        patience_s: nothing more is expected after so long without progress.
        now: seconds.
    """

    def __init__(self, patience_s: float, now: float) -> None:
        self._patience_s, self._progress = patience_s, now
        self._last: tuple[int, ...] = ()
        self._at_rest, self.waiting = 0, 0

    def report(self, values: Mapping[str, str], now: float) -> None:
        """Take in the figures of one report."""
        counts = tuple(int(values[name]) for name in _COUNTS)
        self.waiting = int(values["images waiting"])
        if counts != self._last:
            self._last, self._progress, self._at_rest = counts, now, 0
        self._at_rest += self.waiting == 0

    @property
    def is_done(self) -> bool:
        """All that has arrived is answered for."""
        return self._at_rest >= _REPORTS_AT_REST

    def is_stuck(self, now: float) -> bool:
        """It does not go on."""
        return now > self._progress + self._patience_s


class BacklogNode(Node):
    """Listens to one estimator."""

    def __init__(self) -> None:
        super().__init__("backlog")
        settings = Parameters(self)
        patience_s = settings.declare("patience", 60.0, "Seconds without progress, then it ends", low=0.1, high=3600.0)
        settings.settle()
        self._backlog = Backlog(patience_s, time.monotonic())
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_timer(_LOOK_S, self._look, clock=STEADY_CLOCK)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(_STATUS):
                self._backlog.report({item.key: item.value for item in status.values}, time.monotonic())

    def _look(self) -> None:
        if self._backlog.is_done:
            raise SystemExit(0)
        if self._backlog.is_stuck(time.monotonic()):
            self.get_logger().warning(f"no progress any more; images that wait: {self._backlog.waiting}")
            raise SystemExit(0)


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run(BacklogNode, args)


if __name__ == "__main__":
    main()
