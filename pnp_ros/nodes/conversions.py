"""ROS messages to the core's values and back. Quaternions are xyzw here and nowhere else."""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, PoseWithCovariance, PoseWithCovarianceStamped, TransformStamped
from geometry_msgs.msg import Pose as PoseMsg
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo as CameraInfoMsg
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import ColorRGBA, Header
from torch import Tensor
from visualization_msgs.msg import Marker

from pnp_ros.adaptation.status import AdaptationStatus
from pnp_ros.cameras.camera import Camera
from pnp_ros.filtering.pose_filter import FilteredPose
from pnp_ros.geometry import covariance, so3
from pnp_ros.io.camera_info import CameraInfo
from pnp_ros.io.images import check_raw, decode_compressed, decode_raw
from pnp_ros.msg import AdaptationGate, Hypothesis, ObjectPose, ObjectPoseArray, StageLatency
from pnp_ros.msg import AdaptationStatus as AdaptationStatusMsg
from pnp_ros.msg import Correspondences as CorrespondencesMsg
from pnp_ros.nodes.ros_compat import image_bridge, message_class, transformations
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.types import Correspondences, Pose, PoseEstimate

_LEAST_VARIANCE = 1e-18  # of a nanometre or nanoradian: less was not measured, and its inverse overflows
_FAINTEST = 0.25  # opacity of an unlikely pose's box
_COLOURS = {
    ObjectState.VALID: ColorRGBA(r=0.2, g=0.9, b=0.3, a=1.0),
    ObjectState.UNCERTAIN: ColorRGBA(r=1.0, g=0.7, b=0.1, a=1.0),
}
# What cv_bridge, where it is, makes into RGB. Not 16 bits, of which it takes all where most drivers fill 12, and not
# what it calls no colour (8UC1, 8UC3, ...) or has no name for (nv12).
BRIDGED = frozenset(
    ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", *(f"bayer_{order}8" for order in ("rggb", "bggr", "gbrg", "grbg"))]
)
# Corners of a box by bits (x, y, z); its edges join the corners that differ in one bit.
_EDGES = [(a, a | bit) for a in range(8) for bit in (1, 2, 4) if not a & bit]


# --- time -------------------------------------------------------------------------------------------------------------


def seconds(stamp: Time) -> float:
    """A stamp in seconds."""
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)


def stamp_of(seconds: float) -> Time:
    """The inverse of :func:`seconds`, to a quarter of a microsecond."""
    whole, rest = divmod(round(seconds * 1e9), 1_000_000_000)
    return Time(sec=whole, nanosec=rest)


# --- images and cameras ---------------------------------------------------------------------------------------------


def rgb_from_image(message: Image | CompressedImage, camera: Camera | None) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB; ``camera`` is the one that took it, None where that is not known.

    Raises:
        ImageError: an unknown encoding, no pixels, data that does not hold the image, or a compressed image of another
            size than the camera's; its header says it, before anything is decoded.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(message.data, (camera.width, camera.height) if camera else None, message.format)
    data, big = message.data, bool(message.is_bigendian)
    bridge = image_bridge()
    if bridge is None or message.encoding not in BRIDGED:
        return decode_raw(data, message.width, message.height, message.encoding, message.step, big)
    layout = check_raw(data, message.width, message.height, message.encoding, message.step)  # cv_bridge trusts them
    if message.step % layout.channels:  # cv_bridge rounds such rows, and the image leans
        return decode_raw(data, message.width, message.height, message.encoding, message.step, big)
    return np.array(bridge.imgmsg_to_cv2(message, "rgb8"))  # the bridge may lend the message's own memory


def image_from_rgb(header: Header, rgb: np.ndarray) -> Image:
    """An rgb8 message of an image (H, W, 3) uint8."""
    height, width = rgb.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array.array("B", rgb.tobytes())  # rclpy checks any other type byte by byte
    return message


def jpeg_from_rgb(header: Header, rgb: np.ndarray) -> CompressedImage:
    """A JPEG message of an image (H, W, 3) uint8."""
    _, encoded = cv2.imencode(".jpg", rgb[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
    return CompressedImage(header=header, format="jpeg", data=array.array("B", encoded.tobytes()))


def camera_from_message(message: CameraInfoMsg, rectified: bool = False) -> Camera:
    """The camera that took the raw image (K, D), or the rectified one (P).

    Raises:
        ValueError: naming the field: an uncalibrated camera, numbers that are not finite, an unknown model.
    """
    return CameraInfo.from_message(message).camera(rectified)


def message_from_camera_info(header: Header, info: CameraInfo) -> CameraInfoMsg:
    """The message of a ``camera_info`` file."""
    message = CameraInfoMsg(header=header, width=info.width, height=info.height)
    message.distortion_model, message.d = info.distortion_model, list(info.d)
    message.k, message.r, message.p = list(info.k), list(info.r), list(info.p)
    return message


# --- poses ------------------------------------------------------------------------------------------------------------


def message_from_pose(pose: Pose) -> PoseMsg:
    """A pose without batch dimensions."""
    message = PoseMsg()
    x, y, z, w = quat_xyzw_from_matrix(pose.rotation.double())
    message.orientation.x, message.orientation.y, message.orientation.z, message.orientation.w = x, y, z, w
    message.position.x, message.position.y, message.position.z = pose.translation.double().tolist()
    return message


def quat_xyzw_from_matrix(rotation: Tensor) -> tuple[float, float, float, float]:
    """The unit quaternion, ``w >= 0``, of a rotation (3, 3) in double precision; by tf_transformations where it is.

    The way back is ours alone: of a quaternion of zeros, as a message that nobody filled has it, tf_transformations
    makes the identity.
    """
    theirs = transformations()
    if theirs is not None:
        matrix = np.eye(4)
        matrix[:3, :3] = rotation.numpy()
        x, y, z, w = map(float, theirs.quaternion_from_matrix(matrix))
        return (x, y, z, w) if w >= 0.0 else (-x, -y, -z, -w)
    quat_wxyz = so3.quat_wxyz_from_matrix(rotation)
    w, x, y, z = (quat_wxyz / quat_wxyz.norm()).tolist()
    return x, y, z, w


def pose_from_message(message: PoseMsg) -> Pose:
    """The inverse of :func:`message_from_pose`, float64."""
    q, p = message.orientation, message.position
    rotation = so3.matrix_from_quat_wxyz(torch.tensor([q.w, q.x, q.y, q.z], dtype=torch.float64))
    return Pose(rotation, torch.tensor([p.x, p.y, p.z], dtype=torch.float64))


def _finite_pose(message: PoseMsg, name: str) -> Pose:
    pose = pose_from_message(message)
    if not bool(torch.isfinite(pose.matrix()).all()):
        raise ValueError(f"{name}: expected finite numbers and a quaternion of length 1")
    return pose


def pose_with_covariance(estimate: PoseEstimate) -> PoseWithCovariance:
    """Pose and covariance; the core's order and axes of the covariance are REP-103's."""
    return _posed(estimate.pose, estimate.covariance)


def _posed(pose: Pose, spread: Tensor) -> PoseWithCovariance:
    return PoseWithCovariance(pose=message_from_pose(pose), covariance=spread.double().flatten().tolist())


def measured_pose(message: PoseWithCovariance) -> PoseEstimate:
    """A pose and its covariance that somebody else measured, float64.

    Raises:
        ValueError: naming the field: a pose that is not finite, or a covariance of which nothing can be concluded.
    """
    spread = torch.tensor(message.covariance, dtype=torch.float64).reshape(6, 6)
    if not bool(covariance.is_valid(spread)) or float(spread.diagonal().min()) < _LEAST_VARIANCE:
        variances = ", ".join(f"{float(value):g}" for value in spread.diagonal())
        raise ValueError(f"pose.covariance: expected it finite, symmetric and positive, got the variances {variances}")
    return PoseEstimate.of(_finite_pose(message.pose, "pose.pose"), spread)


def stamped_pose(header: Header, estimate: PoseEstimate) -> PoseWithCovarianceStamped:
    """Pose and covariance in the frame of ``header``."""
    return PoseWithCovarianceStamped(header=header, pose=pose_with_covariance(estimate))


def odometry(header: Header, child_frame: str, motion: FilteredPose) -> Odometry:
    """Pose in the frame of ``header``, velocity in the object's own axes, as REP-147 and nav_msgs ask for."""
    back = motion.pose.rotation.mT
    message = Odometry(header=header, child_frame_id=child_frame)
    message.pose.pose = message_from_pose(motion.pose)
    message.pose.covariance = motion.covariance.double().flatten().tolist()
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    linear.x, linear.y, linear.z = (back @ motion.velocity[:3]).tolist()
    angular.x, angular.y, angular.z = (back @ motion.velocity[3:]).tolist()
    message.twist.covariance = covariance.rotate(motion.velocity_covariance, back).flatten().tolist()
    return message


def transform(header: Header, child_frame: str, pose: Pose) -> TransformStamped:
    """The transform that places ``child_frame`` (the object) in the frame of ``header`` (the camera)."""
    return transform_from_message(header, child_frame, message_from_pose(pose))


def transform_from_message(header: Header, child_frame: str, posed: PoseMsg) -> TransformStamped:
    """As :func:`transform`, of a pose that is a message already."""
    message = TransformStamped(header=header, child_frame_id=child_frame)
    message.transform.rotation = posed.orientation
    translation = message.transform.translation
    translation.x, translation.y, translation.z = posed.position.x, posed.position.y, posed.position.z
    return message


# --- objects ----------------------------------------------------------------------------------------------------------


def object_pose(estimate: ObjectEstimate, object_id: str) -> ObjectPose:
    """What is known about one object."""
    message = ObjectPose(object_name=estimate.name, object_id=object_id, reason=estimate.reason)
    message.state, message.score = estimate.state.rank, float(estimate.score)
    if estimate.estimate is not None:
        message.pose = pose_with_covariance(estimate.estimate)
    if estimate.box is not None:
        message.box = np.asarray(estimate.box, np.float32)
    message.hypotheses = [
        Hypothesis(probability=float(h.probability), pose=_posed(h.pose, h.covariance)) for h in estimate.hypotheses
    ]
    return message


def estimate_from_message(message: ObjectPose) -> tuple[ObjectState, Pose | None]:
    """State and pose of one object, float64; None when it is lost.

    Raises:
        ValueError: naming the field: an unknown state, or a pose that is not finite.
    """
    state = ObjectState.of_rank(message.state)
    if state is ObjectState.LOST:
        return state, None
    return state, _finite_pose(message.pose.pose, "objects.pose")


def object_poses(header: Header, objects: Sequence[ObjectPose], latency: Mapping[str, float]) -> ObjectPoseArray:
    """All objects of one image and the seconds by stage that it took."""
    stages = [StageLatency(stage=stage, seconds=float(value)) for stage, value in latency.items()]
    return ObjectPoseArray(header=header, objects=list(objects), latency=stages)


def detections(header: Header, objects: Sequence[ObjectPose], bounds: Mapping[str, np.ndarray]) -> Any:
    """A ``vision_msgs/Detection3DArray`` of the objects that have a pose.

    Args:
        bounds: (2, 3) lower and upper corner of each object's bounding box in metres, object frame, by its id.

    Raises:
        ImportError: if vision_msgs is not installed.
    """
    array_type, detection_type, hypothesis_type = (
        message_class(f"vision_msgs/msg/{name}")
        for name in ("Detection3DArray", "Detection3D", "ObjectHypothesisWithPose")
    )
    found = []
    for item in objects:
        hypothesis = hypothesis_type(pose=item.pose)
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = item.object_name, float(item.score)
        detection = detection_type(header=header, results=[hypothesis], id=item.object_id)
        pose = pose_from_message(item.pose.pose)
        low, high = bounds[item.object_id].astype(np.float64)
        centre = torch.from_numpy((low + high) / 2)
        box = detection.bbox
        box.center = message_from_pose(Pose(pose.rotation, pose.transform(centre[None])[0]))
        box.size.x, box.size.y, box.size.z = (high - low).tolist()
        found.append(detection)
    return array_type(header=header, detections=found)


def correspondences_message(
    header: Header, object_id: str, points: Correspondences, estimate: PoseEstimate | None
) -> CorrespondencesMsg:
    """The matched points of one object, and their inlier weights if they were solved."""
    message = CorrespondencesMsg(header=header, object_id=object_id)
    message.image_points = _floats(points.image_points)
    message.object_points = _floats(points.object_points)
    message.weights = _floats(points.axis_weights)
    if estimate is not None:
        message.inlier_weights = _floats(estimate.inlier_weights)
    return message


def _floats(tensor: Tensor) -> array.array:
    return array.array("f", tensor.detach().float().cpu().contiguous().numpy().tobytes())


# --- fine-tuning ------------------------------------------------------------------------------------------------------


def adaptation_status(stamp: Time, object_name: str, status: AdaptationStatus) -> AdaptationStatusMsg:
    """What the fine-tuning of an object tells about itself. Numbers may be of any type: messages take plain ones."""
    message = AdaptationStatusMsg(object_name=object_name, state=int(status.state), reason=status.reason)
    message.header.stamp = stamp
    for name in ("active_version", "candidate_version", "buffered", "refused", "steps"):
        setattr(message, name, int(getattr(status, name)))
    for name in ("reprojection_loss", "correspondence_loss"):
        setattr(message, name, float(getattr(status, name)))
    for gate in status.gates:
        figures = {name: float(getattr(gate, name)) for name in ("active", "candidate", "bound")}
        message.gates.append(AdaptationGate(name=gate.name, passed=bool(gate.passed), **figures))
    return message


# --- display ----------------------------------------------------------------------------------------------------------


def box_marker(
    header: Header, namespace: str, bounds: np.ndarray, estimate: ObjectEstimate, lifetime_s: float = 0.5
) -> Marker:
    """The edges of the object's bounding box, coloured by state; a deletion if the object is lost.

    Args:
        bounds: (2, 3) lower and upper corner in metres, object frame.
    """
    marker = Marker(header=header, ns=namespace, type=Marker.LINE_LIST, action=Marker.DELETE)
    if estimate.estimate is None:
        return marker
    marker.action, marker.pose = Marker.ADD, message_from_pose(estimate.estimate.pose)
    colour = _COLOURS[estimate.state]
    marker.color = ColorRGBA(r=colour.r, g=colour.g, b=colour.b, a=colour.a)
    marker.scale.x = 0.01 * float(np.linalg.norm(bounds[1] - bounds[0]))
    marker.lifetime = Duration(sec=int(lifetime_s), nanosec=int(1e9 * (lifetime_s % 1)))
    corners = [Point(**{axis: float(bounds[i >> k & 1][k]) for k, axis in enumerate("xyz")}) for i in range(8)]
    marker.points = [corners[i] for edge in _EDGES for i in edge]
    return marker


def hypothesis_markers(
    header: Header, namespace: str, bounds: np.ndarray, estimate: ObjectEstimate, lifetime_s: float = 0.5
) -> list[Marker]:
    """The box at each of several poses that may be right, the fainter the less likely, with its probability.

    Args:
        bounds: (2, 3) lower and upper corner in metres, object frame.
    """
    markers = []
    for k, told in enumerate(estimate.hypotheses):
        at = dataclasses.replace(estimate, estimate=PoseEstimate.of(told.pose, told.covariance))
        box = box_marker(header, namespace, bounds, at, lifetime_s)
        box.id, box.color.a = 2 * k, max(_FAINTEST, float(told.probability))
        centre = told.pose.transform(torch.from_numpy(bounds.mean(0)).to(told.pose.translation)[None])[0]
        text = Marker(header=header, ns=namespace, id=2 * k + 1, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD)
        text.text = f"{100 * told.probability:.0f} %"
        # beside the middle, at a place of its own: poses that look alike have the same middle
        text.pose.position.x, text.pose.position.y, text.pose.position.z = centre.double().tolist()
        text.pose.position.y += 20.0 * box.scale.x * k
        text.pose.orientation.w, text.scale.z = 1.0, 15.0 * box.scale.x
        text.color, text.lifetime = box.color, box.lifetime
        markers += [box, text]
    return markers


def diagnostic_status(
    level: bytes, name: str, message: str, values: Mapping[str, str], hardware_id: str
) -> DiagnosticStatus:
    """One entry of ``/diagnostics``."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware_id, values=pairs)
