"""Before its first image the node has been through all that makes a pose, so that the image need not wait."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter

from pnp_ros.io.resources import resource
from pnp_ros.nodes.pose_estimator_node import PoseEstimatorNode
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState


def test_configuring_finds_the_object_in_a_drawing_of_it_and_forgets_it(
    ros: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[ObjectEstimate] = []
    estimate = PoseEstimator.estimate

    def kept(*arguments: Any) -> ObjectEstimate:
        found.append(estimate(*arguments))
        return found[-1]

    monkeypatch.setattr(PoseEstimator, "estimate", kept)
    monkeypatch.setattr(PoseEstimatorNode, "autostart", lambda self: None)
    node = PoseEstimatorNode()
    try:
        node.set_parameters([Parameter("object", value=str(resource("config/objects/demo")))])
        node.configure()
        assert [each.state for each in found] == [ObjectState.VALID]
        assert node.scene is not None
        assert [each.expected(0.0) for each in node.scene.estimators.values()] == [None]
    finally:
        node.destroy_node()
