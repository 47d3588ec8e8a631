"""Nodes as processes of their own, as a launch file would start them: for commands that run some and end them."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ERRORS = ("[ERROR]", "[FATAL]")  # how such a line of a node's log begins
_START_S = 300.0  # for the processes to import, load the object, compile the solver (once a machine), find each other
_ESTIMATOR, _BACKLOG = "pose_estimator", "backlog"
_END_S = 10.0


def run_nodes(
    parameters: Mapping[str, Mapping[str, Any]],
    remappings: Mapping[str, Sequence[str]],
    until: str,
    seconds: float,
    file: Path,
) -> None:
    """Run nodes together until one of them has ended by itself, then end the others.

    An estimator among them is given the time to answer for all images that have reached it, as long as it goes on.

    Args:
        parameters: of each node by its name; its module is ``pnp_ros.nodes.<name>_node``.
        remappings: of the nodes that have some, as ``image:=/camera/image_raw``.
        until: the node that ends by itself.
        seconds: that it takes, starting not counted.
        file: where the parameters are written to.

    Raises:
        ValueError: if a node failed, or the one has not ended in three times its time.
    """
    content = {f"/**/{node}": {"ros__parameters": dict(values)} for node, values in parameters.items()}
    file.write_text(parameter_file(content))
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    signal.signal(signal.SIGTERM, _end)
    nodes: dict[str, _NodeProcess] = {}
    try:
        for name in parameters:
            renamed = [word for rule in remappings.get(name, ()) for word in ("-r", rule)]
            nodes[name] = _NodeProcess(name, ["--params-file", str(file), *renamed])
        _wait(nodes, until, _START_S + 3.0 * seconds)
        if _ESTIMATOR in nodes:
            nodes[_BACKLOG] = _NodeProcess(_BACKLOG, [])
            _wait(nodes, _BACKLOG)
    finally:
        for number in _SIGNALS:  # the nodes end with the command; a second signal must not keep it from ending them
            signal.signal(number, signal.SIG_IGN)
        for node in nodes.values():  # all at once, then each is waited for
            node.ask_to_end()
        for node in nodes.values():
            node.end()
        for number, handler in previous.items():
            signal.signal(number, handler)


class _WithoutAliases(yaml.SafeDumper):
    """rcl's parser knows no aliases, which yaml writes where two nodes are given the same list."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def parameter_file(content: Mapping[str, Any]) -> str:
    """The text of a file for ``--params-file``."""
    return yaml.dump(content, Dumper=_WithoutAliases, sort_keys=False)


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _wait(nodes: Mapping[str, _NodeProcess], until: str, patience_s: float = math.inf) -> None:
    deadline = time.monotonic() + patience_s
    awaited = nodes[until].process
    while awaited.poll() is None:
        for name, node in nodes.items():
            if node.error or node.process.poll() not in (None, 0):
                raise ValueError(f"{name} failed: {node.error or 'what it said is above'}")
        if time.monotonic() > deadline:
            raise ValueError(f"{until} has not come to its end within {patience_s:.0f} s")
        time.sleep(0.1)
    if awaited.returncode != 0:
        raise ValueError(f"{until} failed: what it said is above")


class _NodeProcess:
    """A node's process; what it says is shown under its name, and its first error is kept."""

    def __init__(self, name: str, ros_arguments: Sequence[str]) -> None:
        environment = os.environ | {
            "ROS_DOMAIN_ID": str(os.getpid() % 100 + 1),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "RCUTILS_CONSOLE_OUTPUT_FORMAT": "[{severity}] {message}",
            "RCUTILS_COLORIZED_OUTPUT": "0",
        }
        self.error = ""
        self._name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pnp_ros.cli.entry", f"pnp_ros.nodes.{name}_node", "--ros-args", *ros_arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._relay = threading.Thread(target=self._show, daemon=True)
        self._relay.start()

    def _show(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(_ERRORS):
                self.error = line.partition("] ")[2].strip()
            print(f"{self._name}: {line.removeprefix('[INFO] ')}", end="", flush=True)

    def ask_to_end(self) -> None:
        """As ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Wait for the end, and bring it about by force where asking did not help."""
        try:
            self.process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._relay.join(timeout=1.0)
