"""Nodes as processes of their own, forked off one that has loaded torch, Warp and rclpy: most of a start is that.

What a start by ``python -m`` or by a launch file does is tested where it is the subject.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(
    ["pnp_ros.nodes.pose_estimator_node", "pnp_ros.nodes.fine_tuning_node", "pnp_ros.kernels.lm_launch"]
)


def _main(module: str, arguments: list[str], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)  # the server has that of the first test
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()


class ForkedNode:
    """A running node, with what tests use of :class:`subprocess.Popen`."""

    def __init__(self, node: str, *arguments: str) -> None:
        words = (f"pnp_ros.nodes.{node}_node", list(arguments), dict(os.environ))
        self._process = _FORKSERVER.Process(target=_main, args=words, daemon=True)  # ended with the tests at the latest
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit status, once it has ended; that of a signal is negative."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, when it has ended."""
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it without asking."""
        self.send_signal(signal.SIGKILL)
