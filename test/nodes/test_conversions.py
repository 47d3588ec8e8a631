import dataclasses
import math

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from pnp_ros.adaptation.status import AdaptationState, AdaptationStatus, Gate
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.geometry import so3
from pnp_ros.io.images import ImageError
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.msg import ObjectPose
from pnp_ros.nodes import conversions
from pnp_ros.pipeline.result import Hypothesis, ObjectEstimate, ObjectState
from pnp_ros.types import Correspondences, Pose, PoseEstimate

HEADER = Header(frame_id="camera_optical_frame")
HEADER.stamp.sec, HEADER.stamp.nanosec = 12, 345_678_901


def _estimate() -> PoseEstimate:
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(6, 6, generator=generator)
    return PoseEstimate(
        pose=Pose(so3.exp(torch.tensor([0.3, -0.8, 1.9])), torch.tensor([0.1, -0.2, 0.7])),
        covariance=1e-4 * root @ root.mT,
        inlier_weights=torch.rand(5, generator=generator),
        cost=torch.tensor(1.0),
        status=torch.tensor(0, dtype=torch.int8),
    )


def test_stamps_are_exact() -> None:
    assert nanoseconds(HEADER.stamp) == 12_345_678_901
    assert conversions.seconds(HEADER.stamp) == pytest.approx(12.345678901)


def test_pose_survives_the_message() -> None:
    pose = _estimate().pose
    back = conversions.pose_from_message(conversions.message_from_pose(pose))
    torch.testing.assert_close(back.rotation, pose.rotation.double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(back.translation, pose.translation.double(), atol=0, rtol=0)


def test_quaternion_is_xyzw_and_of_unit_length() -> None:
    quarter_turn_about_z = Pose(so3.exp(torch.tensor([0.0, 0.0, torch.pi / 2])), torch.zeros(3))
    q = conversions.message_from_pose(quarter_turn_about_z).orientation
    np.testing.assert_allclose([q.x, q.y, q.z, q.w], [0, 0, 0.5**0.5, 0.5**0.5], atol=1e-7)
    q = conversions.message_from_pose(_estimate().pose).orientation
    assert q.x**2 + q.y**2 + q.z**2 + q.w**2 == pytest.approx(1.0, abs=1e-15)


def test_covariance_is_row_major_in_the_core_order() -> None:
    estimate = _estimate()
    message = conversions.stamped_pose(HEADER, estimate)
    assert message.header == HEADER
    np.testing.assert_array_equal(message.pose.covariance.reshape(6, 6), estimate.covariance.double().numpy())


def test_transform_places_the_object_in_the_camera_frame() -> None:
    message = conversions.transform(HEADER, "mug", _estimate().pose)
    assert (message.header.frame_id, message.child_frame_id) == ("camera_optical_frame", "mug")
    assert message.transform.translation.z == pytest.approx(0.7)


def test_image_survives_the_message() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    np.testing.assert_array_equal(conversions.rgb_from_image(conversions.image_from_rgb(HEADER, rgb), None), rgb)
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 64, 3)).copy()
    camera, other = Camera.pinhole(60, 60, 32, 24, 64, 48), Camera.pinhole(60, 60, 32, 24, 64, 40)
    jpeg = conversions.jpeg_from_rgb(HEADER, smooth)
    decoded = conversions.rgb_from_image(jpeg, camera)
    assert np.abs(decoded.astype(int) - smooth).max() < 8
    with pytest.raises(
        ImageError, match=r"image\.data: expected 64x40 pixels as the camera has, its header says 64x48"
    ):
        conversions.rgb_from_image(jpeg, other)


def test_image_with_an_unknown_encoding_is_refused() -> None:
    message = Image(width=2, height=2, step=6, encoding="rgb9", data=bytes(12))
    with pytest.raises(ImageError, match=r"image\.encoding"):
        conversions.rgb_from_image(message, None)


def test_camera_of_raw_and_of_rectified_images() -> None:
    message = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=[0.1, 0.0, 0.0, 0.0, 0.0])
    message.k = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
    message.p = [400.0, 0.0, 310.0, 0.0, 0.0, 410.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    raw, rectified = conversions.camera_from_message(message), conversions.camera_from_message(message, rectified=True)
    assert raw.intrinsics.tolist() == [500.0, 510.0, 320.0, 240.0]
    assert raw.distortion[0] == pytest.approx(0.1)
    assert rectified.intrinsics.tolist() == [400.0, 410.0, 310.0, 230.0]
    assert rectified.distortion.numel() == 0


def _object(state: ObjectState, estimate: PoseEstimate | None) -> ObjectEstimate:
    return ObjectEstimate(state, estimate, Box(1.0, 2.0, 30.0, 40.0), name="mug", score=0.75, reason="why")


def test_object_pose_carries_state_box_and_reason() -> None:
    valid = conversions.object_pose(_object(ObjectState.VALID, _estimate()), "mug_1")
    assert (valid.state, valid.object_name, valid.object_id, valid.reason) == (ObjectPose.VALID, "mug", "mug_1", "why")
    assert valid.score == pytest.approx(0.75)
    assert valid.box.tolist() == [1.0, 2.0, 30.0, 40.0]
    lost = conversions.object_pose(_object(ObjectState.LOST, None), "mug_1")
    assert lost.state == ObjectPose.LOST == ObjectPose().state
    assert not lost.pose.covariance.any()


def test_correspondences_are_flat_and_row_major() -> None:
    points = Correspondences.from_sigma(torch.arange(10.0).reshape(5, 2), torch.arange(15.0).reshape(5, 3), 0.5)
    estimate = _estimate()
    message = conversions.correspondences_message(HEADER, "mug", points, estimate)
    assert list(message.image_points) == list(range(10))
    assert list(message.object_points) == list(range(15))
    assert set(message.weights) == {2.0}
    np.testing.assert_array_equal(np.array(message.inlier_weights, np.float32), estimate.inlier_weights.numpy())
    assert len(conversions.correspondences_message(HEADER, "mug", points, None).inlier_weights) == 0


def test_correspondences_of_lines_have_a_weight_for_each_axis() -> None:
    """As the message says, 2N values, whatever form the weights have."""
    image, points = torch.zeros(3, 2), torch.zeros(3, 3)
    normals = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    lines = Correspondences.from_lines(image, points, normals, sigma=0.5)
    message = conversions.correspondences_message(HEADER, "mug", lines, None)
    assert list(message.weights) == pytest.approx([2.0, 0.0, 0.0, 2.0, 1.2, 1.6])


def test_box_marker_has_the_twelve_edges() -> None:
    bounds = np.array([[-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]], np.float32)
    marker = conversions.box_marker(HEADER, "mug", bounds, _object(ObjectState.VALID, _estimate()))
    edges = np.array([[p.x, p.y, p.z] for p in marker.points]).reshape(12, 2, 3)
    lengths = np.abs(edges[:, 1] - edges[:, 0])
    assert ((lengths > 0).sum(axis=1) == 1).all()
    assert sorted(lengths.max(axis=1)) == [2.0] * 4 + [4.0] * 4 + [6.0] * 4
    gone = conversions.box_marker(HEADER, "mug", bounds, _object(ObjectState.LOST, None))
    assert gone.action == gone.DELETE


def test_several_poses_that_may_be_right_are_told_and_drawn() -> None:
    first, second = _estimate(), _estimate()
    told = tuple(Hypothesis(e.pose, 2.0 * e.covariance, p) for e, p in ((first, 0.75), (second, 0.25)))
    found = dataclasses.replace(_object(ObjectState.UNCERTAIN, first), hypotheses=told)
    message = conversions.object_pose(found, "mug")
    assert [h.probability for h in message.hypotheses] == [0.75, 0.25]
    np.testing.assert_allclose(message.hypotheses[1].pose.covariance, 2.0 * second.covariance.double().flatten())
    assert message.hypotheses[0].pose.pose == message.pose.pose
    bounds = np.array([[-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]], np.float32)
    markers = conversions.hypothesis_markers(HEADER, "mug", bounds, found)
    assert len({(m.ns, m.id) for m in markers}) == 4
    assert [m.color.a for m in markers] == [0.75, 0.75, 0.25, 0.25]
    assert [m.text for m in markers] == ["", "75 %", "", "25 %"]
    one = conversions.box_marker(HEADER, "mug", bounds, found)
    assert one.color.a == 1.0  # a colour of its own
    assert conversions.hypothesis_markers(HEADER, "mug", bounds, _object(ObjectState.VALID, first)) == []


def test_adaptation_status_takes_numbers_of_any_type() -> None:
    gate = Gate("error, %", np.float32(3.5), torch.tensor(2.5), 3, np.bool_(True))  # type: ignore[arg-type]
    status = AdaptationStatus(AdaptationState.CHECKING, "why", 3, np.int64(4), 50, 6, 7, np.float32(0.5), gates=(gate,))  # type: ignore[arg-type]
    made = conversions.adaptation_status(HEADER.stamp, "mug", status)
    again = deserialize_message(serialize_message(made), type(made))
    assert again.header.stamp == HEADER.stamp
    assert (again.object_name, again.state, again.reason) == ("mug", made.CHECKING, "why")
    assert (again.active_version, again.candidate_version, again.buffered, again.refused, again.steps) == (
        3,
        4,
        50,
        6,
        7,
    )
    assert again.reprojection_loss == 0.5
    assert math.isnan(again.correspondence_loss)
    (shown,) = again.gates
    assert (shown.name, shown.active, shown.candidate, shown.bound, shown.passed) == ("error, %", 3.5, 2.5, 3.0, True)


def test_estimates_come_back_from_their_message() -> None:
    for state in (ObjectState.VALID, ObjectState.UNCERTAIN):
        estimate = _estimate()
        found, pose = conversions.estimate_from_message(conversions.object_pose(_object(state, estimate), "mug"))
        assert found is state
        assert pose is not None
        torch.testing.assert_close(pose.matrix().float(), estimate.pose.matrix(), atol=1e-6, rtol=0.0)
    lost = conversions.object_pose(_object(ObjectState.LOST, None), "mug")
    assert conversions.estimate_from_message(lost) == (ObjectState.LOST, None)
    lost.state = 77
    with pytest.raises(ValueError, match=r"objects\.state"):
        conversions.estimate_from_message(lost)
    wrong = conversions.object_pose(_object(ObjectState.VALID, _estimate()), "mug")
    wrong.pose.pose.position.x = math.nan
    with pytest.raises(ValueError, match=r"objects\.pose"):
        conversions.estimate_from_message(wrong)


def test_detections_have_the_box_in_the_camera_frame() -> None:
    pytest.importorskip("vision_msgs")
    bounds = np.array([[-0.1, -0.2, -0.3], [0.3, 0.2, 0.3]], np.float32)
    estimate = _estimate()
    item = conversions.object_pose(_object(ObjectState.VALID, estimate), "mug_1")
    (detection,) = conversions.detections(HEADER, [item], {item.object_id: bounds}).detections
    assert (detection.id, detection.results[0].hypothesis.class_id) == ("mug_1", "mug")
    assert detection.results[0].pose == item.pose
    size = detection.bbox.size
    np.testing.assert_allclose([size.x, size.y, size.z], [0.4, 0.4, 0.6], atol=1e-6)
    position = detection.bbox.center.position
    expected = estimate.pose.transform(torch.tensor([[0.1, 0.0, 0.0]]))[0]
    np.testing.assert_allclose([position.x, position.y, position.z], expected, atol=1e-6)


def test_states_rank_as_the_message_numbers_them() -> None:
    told = {
        ObjectState.LOST: ObjectPose.LOST,
        ObjectState.UNCERTAIN: ObjectPose.UNCERTAIN,
        ObjectState.VALID: ObjectPose.VALID,
    }
    assert {state: state.rank for state in told} == told
    assert all(ObjectState.of_rank(state.rank) is state for state in ObjectState)
    with pytest.raises(ValueError, match=r"state: expected .*2 .valid.*got 3"):
        ObjectState.of_rank(3)
