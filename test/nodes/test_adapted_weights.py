"""Real processes: the estimator changes its weights while it works, and never uses weights that are not good."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus

from pnp_ros.adaptation.versions import VersionStore
from pnp_ros.io.checkpoints import read_tensors
from pnp_ros.msg import AdaptationStatus
from pnp_ros.nodes import conversions
from pnp_ros.nodes.ros_compat import LATCHED
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.calibration import CovarianceCalibration
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import load_models


class _FineTuning:
    """Says what the fine-tuning node would say."""

    def __init__(self, probe: Any, package: ObjectPackage, folder: Path) -> None:
        self.store, self._package = VersionStore(folder, package), package
        self._probe = probe
        self._status = probe.node.create_publisher(AdaptationStatus, "/fine_tuning/status", LATCHED)

    def write(self, shift: float) -> int:
        """A new version: each number of the weights moved a little."""
        assert self._package.weights_path is not None
        tensors = read_tensors(self._package.weights_path)
        moved = {
            name: tensor * (1 + shift) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
        }
        return self.store.write(moved, CovarianceCalibration(1.0 + shift, 0.0), {"reason": "test"}).number

    def say(self, number: int, name: str = "") -> None:
        """Publish which version is active."""
        self._status.publish(AdaptationStatus(object_name=name or self._package.name, active_version=number))

    def wait_for(self, text: str) -> DiagnosticStatus:
        """Until the estimator's diagnostics name these weights."""
        self._probe.wait(lambda: _values(self._probe.status())["weights"] == text, what=text)
        return self._probe.status()


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


@pytest.fixture
def fine_tuning(probe: Any, package: ObjectPackage, tmp_path: Path) -> _FineTuning:
    return _FineTuning(probe, package, tmp_path / "versions")


def test_weights_are_swapped_between_two_images(
    start_estimator: Any, probe: Any, fine_tuning: _FineTuning, package: ObjectPackage, open_gates: EstimatorConfig
) -> None:
    first = fine_tuning.write(0.001)
    with start_estimator(package.root, versions=str(fine_tuning.store.folder)):
        probe.wait_until_connected()
        fine_tuning.wait_for("version 1")  # the newest, without being told
        second, sent, told = fine_tuning.write(0.002), 0, 0
        while not told or sent < told + 5:
            if sent == 5:
                fine_tuning.say(second, name="another object")
            if sent == 10:
                fine_tuning.say(second)
            probe.send(probe.image(sent), probe.camera_info(sent))
            sent += 1
            assert sent < 5000, "the weights were not swapped"
            probe.wait(lambda count=sent: len(probe.received["objects"]) > count - 4, what="the images before")
            if not told and "version 2" in _latest_weights(probe):
                told = sent
        probe.wait(lambda: len(probe.received["objects"]) == sent, what="every image")
        status = fine_tuning.wait_for("version 2")
        assert [message.header for message in probe.received["objects"]] == [probe.header(i) for i in range(sent)]
        assert _values(status)["images dropped for newer ones"] == "0"
        assert _values(status)["images taken up"] == str(sent)
        packages = [fine_tuning.store.get(number).applied_to(package) for number in (first, second)]
        swapped = _first_mismatch(probe, packages, open_gates, sent)
        assert 7 <= swapped < sent  # up to three images wait when it is said
        assert _first_mismatch(probe, packages, open_gates, swapped) == sent
        fine_tuning.say(0)
        fine_tuning.wait_for("the object package's own")
        fine_tuning.say(first)
        fine_tuning.wait_for("version 1")


def _latest_weights(probe: Any) -> str:
    received = probe.received["diagnostics"]
    return _values(received[-1].status[0])["weights"] if received else ""


def _first_mismatch(probe: Any, packages: list[ObjectPackage], config: EstimatorConfig, swap: int) -> int:
    """The first published pose that is not the library's, which swaps the weights before image ``swap``."""
    camera = conversions.camera_from_message(probe.camera_info(0))
    library = PoseEstimator(packages[0], config)
    for index, message in enumerate(probe.received["objects"]):
        if index == swap:
            library.use(load_models(packages[1], library.device))
        found = library.estimate(probe.pixels(index), camera, conversions.seconds(probe.header(index).stamp))
        if message.objects != [conversions.object_pose(found, packages[0].name)]:
            return index
    return len(probe.received["objects"])


def test_a_bad_version_is_refused_and_the_old_one_stays(
    start_estimator: Any, probe: Any, fine_tuning: _FineTuning, package: ObjectPackage
) -> None:
    fine_tuning.write(0.001)
    spoilt, good = fine_tuning.write(0.002), fine_tuning.write(0.003)
    path = fine_tuning.store.folder / f"{spoilt:06d}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    fine_tuning.store.withdraw(good, "for the test")
    with start_estimator(package.root, versions=str(fine_tuning.store.folder)):
        probe.wait_until_connected()
        fine_tuning.wait_for("version 1")
        for number, expected in ((spoilt, "sha256"), (good, "withdrawn: for the test"), (99, "no such version")):
            fine_tuning.say(number)
            probe.wait(lambda text=expected: text in _values(probe.status())["weights refused"], what=expected)
            status = probe.status()
            assert status.level == DiagnosticStatus.ERROR
            assert expected in status.message
            assert _values(status)["weights"] == "version 1"
        probe.send(probe.image(0), probe.camera_info(0))
        probe.wait(lambda: probe.received["poses"], what="a pose")


def test_without_the_parameter_the_packages_own_weights_are_used(
    start_estimator: Any, probe: Any, fine_tuning: _FineTuning, package: ObjectPackage
) -> None:
    fine_tuning.say(fine_tuning.write(0.001))
    with start_estimator(package.root):
        probe.wait_until_connected()
        fine_tuning.wait_for("the object package's own")


def test_versions_of_another_package_are_not_used(
    start_estimator: Any, probe: Any, fine_tuning: _FineTuning, package: ObjectPackage
) -> None:
    path = fine_tuning.store.folder / "000001.json"
    fine_tuning.write(0.001)
    path.write_text(path.read_text().replace(fine_tuning.store.history()[0]["package_sha256"], "0" * 64))
    with start_estimator(package.root, versions=str(fine_tuning.store.folder)):
        probe.wait_until_connected()
        fine_tuning.wait_for("the object package's own")
        fine_tuning.say(1)
        probe.wait(lambda: "another object package" in _values(probe.status())["weights refused"], what="the reason")
