"""A driver in a process of its own, with our Fast DDS profile and without it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus

from pnp_ros.nodes.ros_compat import image_profile
from pnp_ros.objects.object_package import ObjectPackage

pytestmark = pytest.mark.slow

PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
WARNED_S = 5.0


@contextmanager
def _driver(width: int, height: int, rate: int, count: int, profile: bool) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name not in PROFILES}
    if profile:
        environment[PROFILES[0]] = image_profile()
    command = [sys.executable, str(Path(__file__).with_name("camera_driver.py"))]
    command += [str(value) for value in (width, height, rate, count)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


@pytest.mark.parametrize(("width", "height", "rate", "count"), [(640, 480, 30, 300), (1920, 1080, 15, 150)])
def test_with_the_profile_every_image_arrives(
    start_estimator: Any, package: ObjectPackage, probe: Any, width: int, height: int, rate: int, count: int
) -> None:
    with start_estimator(package.root, keep_all=False, max_rate=2.0), _driver(width, height, rate, count, True) as made:
        probe.wait(lambda: made.poll() is not None, 120.0, "the driver's end")
        assert made.returncode == 0
        figures = _values(probe.status())
        assert figures["images received"] == str(count)
        assert int(figures["images skipped"]) > 0.7 * count  # max_rate


def test_without_the_profile_the_loss_is_told_within_seconds(
    start_estimator: Any, package: ObjectPackage, probe: Any
) -> None:
    with start_estimator(package.root, keep_all=False, max_rate=2.0), _driver(640, 480, 30, 600, False):
        probe.wait(
            lambda: (
                probe.received["diagnostics"]
                and int(_values(probe.received["diagnostics"][-1].status[0])["CameraInfos without image"]) > 0
            ),
            120.0,
            "the first image that is lost",
        )
        begin = time.monotonic()
        probe.wait(lambda: "FASTRTPS_DEFAULT_PROFILES_FILE" in probe.status().message, what="the warning")
        assert time.monotonic() - begin < WARNED_S
        assert probe.status().level == DiagnosticStatus.WARN
