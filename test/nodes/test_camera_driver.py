"""A driver in a process of its own, with our Fast DDS profile and without it."""

from __future__ import annotations

import os
import subprocess
import sys
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
WARNED = 5  # reports after the first image that is lost


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
    if os.getloadavg()[0] > len(os.sched_getaffinity(0)):
        pytest.skip(
            "others use all of the machine, and who gets no turn for a second loses images whatever the profile"
        )
    with start_estimator(package.root, keep_all=False, max_rate=2.0), _driver(width, height, rate, count, True) as made:
        probe.wait(lambda: made.poll() is not None, 120.0, "the driver's end")
        assert made.returncode == 0
        figures = _values(probe.status())
        assert figures["images received"] == str(count)
        assert int(figures["images skipped"]) > 0.7 * count  # max_rate


def test_without_the_profile_the_loss_is_told_within_five_reports(
    start_estimator: Any, package: ObjectPackage, probe: Any
) -> None:
    with start_estimator(package.root, keep_all=False, max_rate=2.0), _driver(640, 480, 30, 600, False):

        def reports() -> list[DiagnosticStatus]:
            return [report.status[0] for report in probe.received["diagnostics"]]

        def warned() -> list[int]:
            return [k for k, report in enumerate(reports()) if "FASTRTPS_DEFAULT_PROFILES_FILE" in report.message]

        probe.wait(warned, 120.0, "the warning")
        first = warned()[0]
        lost = next(k for k, report in enumerate(reports()) if int(_values(report)["CameraInfos without image"]) > 0)
        assert first - lost <= WARNED  # one report a second
        assert reports()[first].level == DiagnosticStatus.WARN
