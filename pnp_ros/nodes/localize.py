"""The action ``~/localize``: several views of an object that stands still, one precise pose.

All of the work is done by :mod:`pnp_ros.filtering.localization`. Images are taken in by the worker's thread, the goal
is answered by the executor's, ten times a second while there is one.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from std_msgs.msg import Header

from pnp_ros.action import Localize
from pnp_ros.filtering.localization import View, Views, localize
from pnp_ros.io.stamps import nanoseconds
from pnp_ros.nodes import conversions
from pnp_ros.nodes.lifecycle import ManagedNode
from pnp_ros.nodes.ros_compat import STEADY_CLOCK
from pnp_ros.nodes.transform_history import TransformHistory
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.types import Pose

_LOOK_S = 0.1
_WAITING = 60  # valid poses that wait for the transform of their image's time
_DEFAULT_VIEWS, _DEFAULT_APART_DEG, _DEFAULT_TIMEOUT_S = 5, 5.0, 30.0
_FEWEST = 2


@dataclass(eq=False)
class _Task:
    """A goal that is being worked on."""

    goal: Any
    object_id: str
    fixed_frame: str
    wanted: int
    deadline: float  # by time.monotonic
    views: Views
    problem: str = ""  # that ends it
    remark: str = ""
    waiting: deque[tuple[Header, ObjectEstimate]] = field(default_factory=lambda: deque(maxlen=_WAITING))
    told: tuple[int, str] = (0, "")


class LocalizeAction:
    """Serves one goal at a time.

    Args:
        node: whose images tell the views.
    """

    def __init__(self, node: ManagedNode) -> None:
        self._node = node
        self._symmetries: Mapping[str, Symmetry] = {}
        self._transforms: TransformHistory | None = None
        self._task: _Task | None = None
        self._timer: Any = None
        self._lock = threading.Lock()
        self._server = ActionServer(
            node,
            Localize,
            "~/localize",
            execute_callback=self._execute,
            goal_callback=lambda _: GoalResponse.REJECT if self._task else GoalResponse.ACCEPT,
            handle_accepted_callback=self._begin,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )

    def describe(self, symmetries: Mapping[str, Symmetry]) -> None:
        """The objects there are: the symmetry of each, by its frame."""
        self._symmetries = symmetries

    def _begin(self, goal: Any) -> None:
        request = goal.request
        name = request.object_id or (next(iter(self._symmetries)) if len(self._symmetries) == 1 else "")
        symmetry = self._symmetries.get(name)
        task = _Task(
            goal,
            name,
            request.fixed_frame.lstrip("/"),
            request.views or _DEFAULT_VIEWS,
            time.monotonic() + (request.timeout or _DEFAULT_TIMEOUT_S),
            Views(request.apart_deg or _DEFAULT_APART_DEG, symmetry.canonicalise if symmetry else None),
        )
        task.problem = self._wrong_with(request, name)
        if self._transforms is None:
            self._transforms = TransformHistory(self._node)
        self._task = task
        self._timer = self._node.create_timer(_LOOK_S, self._look, clock=STEADY_CLOCK)

    def _wrong_with(self, request: Any, name: str) -> str:
        if self._node.lifecycle_state != "active":
            return f"not active: {self._node.lifecycle_state}"
        if name not in self._symmetries:
            return f"object_id: expected one of {', '.join(self._symmetries)}, got {request.object_id!r}"
        if not request.fixed_frame:
            return "fixed_frame: expected a TF frame in which the object stands still, got nothing"
        if request.views == 1:
            return f"views: expected {_FEWEST} or more, got 1"
        for field_name, low, high in (("apart_deg", 0.0, 90.0), ("timeout", 0.0, 3600.0)):
            if not low <= getattr(request, field_name) <= high:  # also where it is not a number
                return f"{field_name}: expected {low:g} to {high:g}, got {getattr(request, field_name):g}"
        return ""

    def take(self, header: Header, object_id: str, found: ObjectEstimate) -> None:
        """Take in what one image told of one object."""
        task = self._task
        if task is None or task.object_id != object_id:
            return
        with self._lock:
            if found.state is ObjectState.VALID and found.estimate is not None:
                task.waiting.append((header, found))
            else:
                task.remark = f"{found.state}: {found.reason}"
            for _ in range(len(task.waiting)):  # transforms may come later than the pose
                if len(task.views.taken) < task.wanted:
                    self._offer(task, *task.waiting.popleft())

    def _offer(self, task: _Task, header: Header, found: ObjectEstimate) -> None:
        assert self._transforms is not None
        assert found.estimate is not None
        camera = self._transforms.lookup(task.fixed_frame, header.frame_id, nanoseconds(header.stamp))
        if isinstance(camera, Pose):
            view = View(camera, found.estimate, conversions.seconds(header.stamp), found.systematic)
            task.remark = task.views.offer(view)
        else:
            task.remark = f"{task.fixed_frame}: {camera}"
            task.waiting.append((header, found))

    def _look(self) -> None:
        """Tell what there is, and end the goal when it is done, or cannot be."""
        task = self._task
        if task is None:
            return
        with self._lock:
            count, remark = len(task.views.taken), task.remark
        if self._node.lifecycle_state != "active":
            task.problem = task.problem or f"not active: {self._node.lifecycle_state}"
        if task.object_id not in self._symmetries:
            task.problem = task.problem or f"{task.object_id} was removed"
        if task.told != (count, remark):
            task.told = count, remark
            task.goal.publish_feedback(Localize.Feedback(views=min(count, 255), message=remark))
        over = count >= task.wanted or time.monotonic() > task.deadline
        if over or task.problem or task.goal.is_cancel_requested:
            self._node.destroy_timer(self._timer)
            task.goal.execute()

    def _execute(self, goal: Any) -> Localize.Result:
        task, result = self._task, Localize.Result()
        assert task is not None
        self._task = None
        views = task.views.taken
        if goal.is_cancel_requested:
            result.message = f"canceled with {len(views)} of {task.wanted} views"
            goal.canceled()
            return result
        if task.problem or len(views) < _FEWEST:
            hint = f": {task.remark}" if task.remark else ""
            result.message = task.problem or f"{len(views)} of {task.wanted} views, expected {_FEWEST} or more{hint}"
        else:
            self._tell(task, result)
        if result.success:
            goal.succeed()
        else:
            self._node.get_logger().warning(f"localize: {result.message}")
            goal.abort()
        return result

    def _tell(self, task: _Task, result: Localize.Result) -> None:
        views = task.views.taken
        told = localize(views)
        result.used, result.refused = len(told.used), len(told.refused)
        if told.estimate is None:
            result.message = (
                "two views are left and contradict each other: does the object stand still, and is TF right?"
            )
            return
        header = Header(stamp=conversions.stamp_of(views[-1].stamp), frame_id=task.fixed_frame)
        result.success, result.pose = True, conversions.stamped_pose(header, told.estimate)
        result.message = f"{len(told.used)} of {task.wanted} views"
        if told.refused:
            numbers = ", ".join(f"{k + 1} (squared distance {told.distances[k]:.0f})" for k in told.refused)
            result.message += f"; left out as they contradict the others: {numbers}"
        sigmas = [1e3 * math.sqrt(float(v)) for v in told.estimate.covariance.diagonal()[:3]]
        result.message += "; sigmas " + ", ".join(f"{sigma:.1f}" for sigma in sigmas) + " mm"
