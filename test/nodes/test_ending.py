"""Nodes end when they are asked to: soon, whatever they are doing, with one line at most."""

import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy")

_BUSY = """
import ctypes, sys, threading, time
import rclpy
from rclpy.node import Node
from pnp_ros.nodes.ros_compat import run

class Busy(Node):
    def __init__(self):
        super().__init__("busy")
        print("up", flush=True)
        if sys.argv[1] == "callback":
            self.create_timer(0.0, lambda: time.sleep(60.0))
        elif sys.argv[1] == "compiling":
            self.create_timer(0.0, lambda: ctypes.CDLL(None).sleep(60))
        elif sys.argv[1] == "worker":
            self.worker = threading.Thread(target=lambda: time.sleep(60.0))
            self.worker.start()

run(Busy)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("doing", ["nothing", "callback", "compiling", "worker"])
def test_it_ends_within_two_seconds_and_in_silence(ros: None, doing: str, number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", _BUSY, doing], stdout=-1, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(0.3)
    begin = time.monotonic()
    for _ in range(3):  # a user who is in a hurry
        process.send_signal(number)
        time.sleep(0.05)
    said, _ = process.communicate(timeout=30.0)
    assert time.monotonic() - begin < 10.0  # 2 s, on a machine that has other work; by itself it would take 60
    assert process.returncode == 0
    assert said == ""
