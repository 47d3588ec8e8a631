"""Nodes that a command runs end with the command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from pnp_ros.cli.node_processes import parameter_file

PATIENCE_S = 300.0  # the machine may be busy
COMMAND = """
import sys
from pathlib import Path
from pnp_ros.cli.node_processes import run_nodes
folder = Path(sys.argv[1])
parameters = {"bag_recorder": {"topics": ["/nothing"], "output": str(folder / "bag")}}
run_nodes(parameters, {}, "bag_recorder", 1000.0, folder / "parameters.yaml")
"""


def test_lists_that_nodes_share_are_written_out() -> None:
    shared = ["a", "b"]
    assert "&" not in parameter_file({"first": {"objects": shared}, "second": {"objects": shared}})


def test_a_terminated_command_leaves_no_node(tmp_path: Path) -> None:
    """Told to the command alone, as a service manager does; its nodes are in its group."""
    command = subprocess.Popen([sys.executable, "-c", COMMAND, str(tmp_path)], start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (tmp_path / "bag").is_dir():
            assert command.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=PATIENCE_S) == 128 + signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            os.killpg(command.pid, 0)
    finally:
        if command.poll() is None or command.returncode < 0:
            os.killpg(command.pid, signal.SIGKILL)
