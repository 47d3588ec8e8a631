"""The SROS 2 policy allows what the nodes really open, and nothing that they never do."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage

NODES = ("pose_estimator", "fine_tuning", "pose_fusion", "collision_objects")
KINDS = {"publish": "topic", "subscribe": "topic", "reply": "service"}
OF_AN_ACTION = {"publish": ("feedback", "status"), "subscribe": (), "reply": ("send_goal", "cancel_goal", "get_result")}
# opened on some condition only: another transport, a clock, vision_msgs, a fixed frame
SOMETIMES = {
    "/camera/image_raw/compressed",
    "/clock",
    "/tf",
    "/tf_static",
    "/pose_estimator/detections",
    "/pose_estimator/odometry",
    "/fine_tuning/status",
    "/pose_estimator/overlay",
    "/pose_estimator/markers",
}


def _allowed(node: str, kind: str, way: str) -> set[str]:
    policy = ElementTree.parse(resource("config/security/policy.xml")).getroot()
    (profile,) = (each for each in policy.iter("profile") if each.get("node") == node)
    assert profile.get("ns") == "/"
    names = {
        (entry.text or "").strip()
        for group in profile.findall(f"{kind}s")
        if group.get(way) == "ALLOW"
        for entry in group.findall(kind)
    }
    actions = {(entry.text or "").strip() for entry in profile.iter("action")}
    names |= {f"{action}/_action/{part}" for action in actions for part in OF_AN_ACTION[way]}
    return {name.replace("~", f"/{node}") if name[0] in "~/" else f"/{name}" for name in names}


def _opened(ask: Any, node: str) -> dict[str, set[str]]:
    """What the node publishes, hears and answers, as far as it is known by now."""
    if node not in ask.get_node_names():
        return {way: set() for way in KINDS}
    names = (
        ask.get_publisher_names_and_types_by_node,
        ask.get_subscriber_names_and_types_by_node,
        ask.get_service_names_and_types_by_node,
    )
    return {way: {name for name, _ in of(node, "/")} for way, of in zip(KINDS, names, strict=True)}


@pytest.mark.parametrize("node", NODES)
def test_the_policy_is_what_the_node_opens(
    node: str,
    start_estimator: Any,
    start_fine_tuning: Any,
    start_node: Any,
    package: ObjectPackage,
    probe: Any,
    tmp_path: Path,
) -> None:
    if node == "pose_estimator":
        running = start_estimator(package.root, versions=str(tmp_path))
    elif node == "fine_tuning":
        running = start_fine_tuning(package.root, versions=str(tmp_path), reference="tf:object_truth")
    elif node == "collision_objects":
        pytest.importorskip("moveit_msgs")
        running = start_node(node, objects=[str(package.root)], fixed_frame="cell")
    else:
        poses = [f"/{side}/pose_estimator/pose" for side in ("left", "right")]
        running = start_node(node, poses=poses, fixed_frame="cell", object_frame="object")
    allowed = {way: _allowed(node, kind, way) for way, kind in KINDS.items()}

    def unopened() -> set[str]:  # the policy allows what the node never does
        found = _opened(probe.node, node)
        return {name for way in KINDS for name in allowed[way] - found[way] - SOMETIMES}

    with running:
        deadline = time.monotonic() + 120.0
        while unopened() and time.monotonic() < deadline:
            time.sleep(0.1)  # asking without a pause starves the node
        found = _opened(probe.node, node)
        assert not unopened(), f"nodes {sorted(probe.node.get_node_names())}"
    for way in KINDS:
        assert found[way] <= allowed[way], f"{way}: not allowed: {sorted(found[way] - allowed[way])}"


@pytest.mark.ros
@pytest.mark.parametrize("node", NODES)
def test_sros2_makes_signed_permissions_of_it(node: str, tmp_path: Path) -> None:
    """Where sros2 is installed, which checks the policy and what it makes of it against the schemas."""
    keystore = pytest.importorskip("sros2.keystore")
    enclave, file = f"/pnp_ros/{node}", Path(resource("config/security/policy.xml"))
    keystore.create_keystore(tmp_path)
    keystore.create_enclave(tmp_path, enclave)
    keystore.create_permission(tmp_path, enclave, file)
    folder = tmp_path / "enclaves" / enclave[1:]
    assert {"cert.pem", "governance.p7s", "key.pem", "permissions.p7s"} <= {path.name for path in folder.iterdir()}
    permissions = ElementTree.parse(folder / "permissions.xml")
    may = {
        way: {entry.text for group in permissions.iter(way) for entry in group.iter("topic")}
        for way in ("publish", "subscribe")
    }
    for way, allowed in may.items():
        assert {f"rt{name}" for name in _allowed(node, "topic", way)} <= allowed
    services = _allowed(node, "service", "reply")
    assert {f"rq{name}Request" for name in services} <= may["subscribe"]
    assert {f"rr{name}Reply" for name in services} <= may["publish"]
