import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus

from pnp_ros.nodes.health import Health


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def test_working_node_reports_latencies_and_counts() -> None:
    health = Health("node: pose")
    for i in range(100):
        health.processed({"network": 0.01, "total": 0.02}, age=0.03 if i < 99 else 0.5)
    status = health.status("active", {"images received": 100})
    values = _values(status)
    assert status.level == DiagnosticStatus.OK
    assert values["latency network"].startswith("median 10.0 ms")
    assert values["message age"].startswith("median 30.0 ms")
    assert values["images received"] == "100"


def test_error_is_the_headline_and_stays_in_the_values() -> None:
    health = Health("node: pose")
    health.failed("image.encoding: unknown")
    health.processed({"total": 0.02}, age=0.03)
    status = health.status("active", {})
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == "image.encoding: unknown"
    assert _values(status)["errors"] == "1"


def test_idle_node_warns() -> None:
    status = Health("node: pose").status("unconfigured", {})
    assert status.level == DiagnosticStatus.WARN
    assert "no images processed" in status.message


def test_fault_stays() -> None:
    health = Health("node: pose")
    health.processed({"total": 0.02}, age=0.03)
    status = health.status("unconfigured", {}, fault="no such object package")
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, "no such object package")
