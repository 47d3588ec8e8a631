"""The one place that knows whether a full ROS installation is there, and starts and ends the nodes.

Where ROS comes from wheels, tf2_ros is missing: a plain publisher on ``/tf`` stands in. So are cv_bridge and
tf_transformations: :mod:`pnp_ros.io.images` and :mod:`pnp_ros.geometry.so3` serve alone then, and give the same bytes
and quaternions (tests marked ``ros``), so that an image gives the same pose with and without ROS.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
from collections.abc import Callable
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from pnp_ros.io.resources import resource
from pnp_ros.nodes.ending import ending_in
from pnp_ros.nodes.shared_memory import remove_dead_segments

# The last message reaches also those who subscribe later.
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


STEADY_CLOCK = Clock(clock_type=ClockType.STEADY_TIME)  # for timers that run while /clock stands still
_WALL_CLOCK = Clock(clock_type=ClockType.SYSTEM_TIME)


class TfPublisher:
    """What tf2_ros.TransformBroadcaster does: one message on ``/tf`` a call, same topic and quality of service."""

    def __init__(self, node: Node) -> None:
        self._publisher = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))

    def sendTransform(self, transform: TransformStamped | list[TransformStamped]) -> None:
        """Publish one transform or several."""
        transforms = transform if isinstance(transform, list) else [transform]
        self._publisher.publish(TFMessage(transforms=transforms))


def transform_broadcaster(node: Node) -> Any:
    """tf2_ros' broadcaster where tf2_ros is installed, else :class:`TfPublisher`; both have ``sendTransform``."""
    try:
        from tf2_ros import TransformBroadcaster
    except ImportError:
        return TfPublisher(node)
    return TransformBroadcaster(node)


def use_image_profile() -> None:
    """Point Fast DDS at ``config/fastdds.xml`` (why: see there), unless the user has chosen a profile.

    Fast DDS reads it when the first participant is made: call before ``rclpy.init``.
    """
    chosen = {"FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"} & os.environ.keys()
    if not chosen:
        os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = image_profile()


def image_profile() -> str:
    """Path of the Fast DDS profile with which images arrive."""
    return str(resource("config/fastdds.xml"))


def wall_time() -> Time:
    """The time of day, for what goes on while ``/clock`` stands still."""
    now: Time = _WALL_CLOCK.now().to_msg()
    return now


def message_class(kind: str) -> type:
    """The class of a type such as ``sensor_msgs/msg/Image``.

    Raises:
        ImportError, AttributeError: if this system has no such type.
    """
    package, _, name = kind.partition("/msg/")
    found: type = getattr(importlib.import_module(f"{package}.msg"), name)
    return found


def has_message_class(kind: str) -> bool:
    """Whether this system has a type such as ``sensor_msgs/msg/Image``."""
    try:
        message_class(kind)
    except (ImportError, AttributeError):
        return False
    return True


@functools.cache
def image_bridge() -> Any:
    """A ``cv_bridge.CvBridge`` where cv_bridge is installed and works, else None."""
    try:
        from cv_bridge import CvBridge
        from cv_bridge.boost.cv_bridge_boost import getCvType

        getCvType("rgb8")
    except Exception as error:  # built for another NumPy it raises anything
        if not isinstance(error, ModuleNotFoundError):
            get_logger("pnp_ros").warning(f"cv_bridge cannot be used, our own decoder serves: {error}")
        return None
    return CvBridge()


@functools.cache
def transformations() -> Any:
    """The module tf_transformations where it is installed, else None."""
    try:
        return importlib.import_module("tf_transformations")
    except ImportError:
        return None


def detection_array() -> type | None:
    """``vision_msgs/Detection3DArray`` where vision_msgs is installed."""
    try:
        return message_class("vision_msgs/msg/Detection3DArray")
    except ImportError:
        return None


def run(make_node: Callable[[], Node], args: list[str] | None = None, patience_s: float = 1.0) -> None:
    """Run one node until SIGINT, SIGTERM or until it raises SystemExit; the context is always shut down.

    Args:
        patience_s: how long the node may take to end.

    Raises:
        SystemExit: 1 if the arguments cannot be read or the node cannot be made; the log says why.
    """
    use_image_profile()
    remove_dead_segments()
    with ending_in(patience_s):
        try:
            rclpy.init(args=args)
        except RuntimeError as error:  # a parameter file that is not there, a remapping that is none, ...
            raise _refused(error) from error
        node = None
        gc.freeze()  # what is imported stays: to look through it takes 0.2 s, with the interpreter's lock held
        try:
            executor = rclpy.get_global_executor()  # now: rclpy stumbles over a context that a signal has ended
            node = make_node()
            rclpy.spin(node, executor)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        except (ValueError, OSError, RuntimeError, ParameterException, NameValidationException) as error:
            if isinstance(error, rclpy_implementation.RCLError) and not rclpy.ok():
                pass  # a signal ended the context while a callback was publishing
            elif node is not None:
                raise
            else:
                raise _refused(error) from error
        finally:
            context = rclpy.get_default_context()
            if node is not None:
                node.destroy_node()
            rclpy.try_shutdown()
            node = None
            gc.collect()  # what belongs to the node holds the context
            context.destroy()  # the process may leave before the interpreter would: shared memory goes now


def _refused(error: Exception) -> SystemExit:
    """What ends a node that was started wrongly; the log says why."""
    get_logger("pnp_ros").fatal(str(error))
    return SystemExit(1)
