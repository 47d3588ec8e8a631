"""A lifecycle node that no request and no error of its own ends."""

from __future__ import annotations

import logging

from rclpy.action import ActionServer
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from pnp_ros.nodes.parameters import Parameters
from pnp_ros.nodes.ros_compat import STEADY_CLOCK

CONFIGURED = "is read when the node configures, and it is configured: clean it up first"


class _ToRos(logging.Handler):
    """The library's warnings go where the node's go: to the console and to /rosout."""

    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        say = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        say(record.getMessage())


class ManagedNode(LifecycleNode):
    """Says no to a transition that its state does not allow, where rclpy 7 raises and the process ends.

    A subclass overrides the steps (:meth:`configure`, ...); whatever they raise is kept as :attr:`fault`, and the
    transition fails. Parameters that are not live are locked from configuring to cleaning up.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.settings = Parameters(self, "when the node configures")
        self.lifecycle_state, self.fault = "unconfigured", ""
        self._to_ros = _ToRos(self.get_logger())
        logging.getLogger("pnp_ros").addHandler(self._to_ros)

    def autostart(self) -> None:
        """Configure and activate as soon as the node spins, by the steady clock: /clock may stand still."""

        def start() -> None:
            timer.cancel()
            if self.lifecycle_state == "unconfigured" and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                self.trigger_activate()

        timer = self.create_timer(0.0, start, clock=STEADY_CLOCK)

    def configure(self) -> None:
        """Get ready."""

    def activate(self) -> None:
        """Begin to work; lifecycle publishers publish already."""

    def stop(self) -> None:
        """Stop working; also called when nothing was begun."""

    def forget(self) -> None:
        """Undo :meth:`configure`; also called when that failed halfway."""

    def failed(self, error: str) -> None:
        """Told of every fault."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Get ready, or fail with the reason in the log and in the diagnostics."""
        try:
            self.settings.check()
            self.configure()
            result = super().on_configure(state)
        except Exception as error:  # rclpy would swallow it
            self.forget()
            return self._refuse(error)
        self.settings.lock(CONFIGURED)
        self.lifecycle_state, self.fault = "inactive", ""
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work, or fail in the same way and stay inactive."""
        try:
            result = super().on_activate(state)
            self.activate()
        except Exception as error:
            self.stop()
            super().on_deactivate(state)
            return self._refuse(error)
        self.lifecycle_state, self.fault = "active", ""
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working."""
        self.stop()
        self.lifecycle_state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget what was configured."""
        self.forget()
        self.settings.lock("")
        self.lifecycle_state, self.fault = "unconfigured", ""
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop for good."""
        self.stop()
        self.forget()
        self.lifecycle_state = "finalized"
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A step failed that should not: begin again at the beginning."""
        self.forget()
        self.settings.lock("")
        self.lifecycle_state = "unconfigured"
        return super().on_error(state)

    def destroy_node(self) -> None:
        """Stop what publishes before what it publishes on is gone; the graph forgets the node at once."""
        self.stop()
        self.forget()
        logging.getLogger("pnp_ros").removeHandler(self._to_ros)
        for server in [waitable for waitable in self.waitables if isinstance(waitable, ActionServer)]:
            server.destroy()  # rclpy leaves it and the state machine to the garbage, and either holds the node
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def _refuse(self, error: Exception) -> TransitionCallbackReturn:
        self.fault = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        self.failed(self.fault)
        return TransitionCallbackReturn.FAILURE

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        """rclpy's one way into every transition, by service or by call; it raises for what the state does not allow."""
        allowed = {transition[0] for transition in self._state_machine.available_transitions}
        if transition_id not in allowed:
            self.get_logger().warning(f"transition {transition_id} is not possible: {self.lifecycle_state}")
            return TransitionCallbackReturn.FAILURE
        result: TransitionCallbackReturn = super()._LifecycleNodeMixin__change_state(transition_id)  # type: ignore[misc]
        return result
