"""A node's parameters: described and bounded, so that ``ros2 param describe`` explains the node, and checked always."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import NameValidationException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_full_topic_name import validate_full_topic_name

from pnp_ros.settings import problem

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
C = TypeVar("C")
_DECLARED_LATER = ("qos_overrides.", "use_sim_time", "start_type_description_service")  # by rclpy


class Parameters:
    """Declares a node's parameters and guards them.

    A value that breaks a bound is refused whenever it is set. One that the node was *started* with leaves the default
    in its place and is a problem that :meth:`check` raises, so that a lifecycle node lives to tell it. What is read
    only when the node configures cannot be set while it is configured (:meth:`lock`).

    Args:
        node: whose parameters these are.
        read_when: when those are read that are not live, in words.
    """

    def __init__(self, node: Node, read_when: str = "when the node starts") -> None:
        self._node, self._read_when = node, read_when
        self._constraints: dict[str, dict[str, Any]] = {}
        self._live: set[str] = set()
        self._configs: dict[str, Callable[..., object]] = {}
        self._problems: dict[str, str] = {}
        self._locked = ""
        node.add_on_set_parameters_callback(self._on_set)

    def declare(
        self,
        name: str,
        default: T,
        description: str,
        *,
        low: float | None = None,
        high: float | None = None,
        choices: Sequence[str] = (),
        check: Callable[[Any], object] | None = None,
        live: bool = False,
    ) -> T:
        """Declare one parameter and return its value. Its type is the default's; a whole number will do for a float.

        Args:
            check: raises ValueError for a value that is wrong in itself.
            live: the node reads it for every image, so it may be set at any time.
        """
        constraints: dict[str, Any] = {"default": default, "check": check}
        descriptor = ParameterDescriptor(description=description)
        if low is not None and high is not None:
            constraints |= {"low": low, "high": high}
            if isinstance(default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
            else:
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        if choices:
            constraints["choices"] = tuple(choices)
        remarks = [f"one of: {', '.join(choices)}"] if choices else []
        if live:
            self._live.add(name)
        else:
            remarks.append(f"read {self._read_when}")
        descriptor.additional_constraints = "; ".join(remarks)
        self._constraints[name] = constraints
        value: Any = self._given()[name].value if name in self._given() else default
        if value is None and isinstance(default, (list, tuple)):  # rclpy knows no type for the [] of a file
            value = [""]
        if wrong := self._problem(name, value):
            self._problems[name], value = wrong, default
        self._node.declare_parameter(name, type(default)(value), descriptor, ignore_override=True)  # type: ignore[call-arg]
        result: T = self._node.get_parameter(name).value
        return result

    def declare_config(self, prefix: str, config_type: Callable[..., object]) -> None:
        """Declare every field of a configuration as ``prefix.field``, described by the class's docstring.

        Args:
            config_type: a dataclass whose fields have plain defaults, bounded by :mod:`pnp_ros.settings`.
        """
        descriptions = _argument_descriptions(config_type)
        for field in dataclasses.fields(config_type):  # type: ignore[arg-type]
            description = descriptions.get(field.name, field.name)
            self.declare(f"{prefix}.{field.name}", field.default, description, **field.metadata)
        self._configs[prefix] = config_type

    def read_config(self, prefix: str, config_type: Callable[..., C]) -> C:
        """The configuration of the parameters that :meth:`declare_config` declared.

        Raises:
            ValueError: from the configuration itself, naming the field.
        """
        fields = dataclasses.fields(config_type)  # type: ignore[arg-type]
        return config_type(**{field.name: self._node.get_parameter(f"{prefix}.{field.name}").value for field in fields})

    def check(self) -> None:
        """Complain of the values that the node was started with.

        Raises:
            ValueError: naming the parameters and what they expect.
        """
        if self._problems:
            raise ValueError("; ".join(f"parameter {name}: {wrong}" for name, wrong in self._problems.items()))

    def settle(self) -> None:
        """Say that all are declared and read: complain of wrong ones, warn of unknown ones, refuse changes.

        Raises:
            ValueError: as :meth:`check`.
        """
        self.check()
        if unknown := self.unknown():
            self._node.get_logger().warning(f"unknown parameters: {', '.join(unknown)}")
        self.lock(f"is read {self._read_when}")

    def lock(self, reason: str) -> None:
        """Refuse from now on to set what is not live; an empty reason ends it."""
        self._locked = reason

    def unknown(self) -> list[str]:
        """The parameters that the node was started with and does not have, each with the nearest that it has."""
        told = []
        for name in sorted(self._given()):
            if not self._node.has_parameter(name) and not name.startswith(_DECLARED_LATER):
                near = difflib.get_close_matches(name, self._constraints, 1)
                told.append(name + (f" (did you mean {near[0]}?)" if near else ""))
        return told

    def _given(self) -> Mapping[str, Parameter]:
        """What command line and files say. rclpy offers it in no other way than by declaring all of it."""
        return self._node._parameter_overrides

    def _problem(self, name: str, value: Any) -> str:
        constraints = self._constraints[name]
        wrong = problem(constraints["default"], value, constraints)
        if not wrong and constraints["check"] is not None:
            try:
                constraints["check"](value)
            except ValueError as error:
                wrong = str(error)
        return wrong

    def _on_set(self, changes: list[Parameter]) -> SetParametersResult:
        if not all(change.name for change in changes):  # rclpy would declare it
            return SetParametersResult(successful=False, reason="parameter: expected a name, got none")
        known = [change for change in changes if change.name in self._constraints]
        if not all(self._node.has_parameter(change.name) for change in known):
            return SetParametersResult(successful=True)  # being declared: checked there
        for change in known:
            wrong = self._problem(change.name, change.value)
            if not wrong and self._locked and change.name not in self._live:
                wrong = self._locked
            if wrong:
                return SetParametersResult(successful=False, reason=f"parameter {change.name}: {wrong}")
        if wrong := self._broken_config(changes):
            return SetParametersResult(successful=False, reason=f"parameter {wrong}")
        for change in changes:
            self._problems.pop(change.name, None)
        return SetParametersResult(successful=True)

    def _broken_config(self, changes: list[Parameter]) -> str:
        """What a configuration says to the new values taken together."""
        values = {change.name: change.value for change in changes}
        for prefix, config_type in self._configs.items():
            names = {f"{prefix}.{field.name}": field.name for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
            if values.keys() & names.keys():
                current = {field: values.get(n, self._node.get_parameter(n).value) for n, field in names.items()}
                try:
                    config_type(**current)
                except ValueError as error:
                    return f"{prefix}.{error}"
        return ""


def check_topics(names: Sequence[str]) -> None:
    """Refuse what cannot be the name of a topic; an empty one stands for none.

    Raises:
        ValueError: saying which, and why.
    """
    for name in filter(None, names):
        try:
            validate_full_topic_name(expand_topic_name(name, "node", "/"))
        except (ValueError, NameValidationException) as error:
            raise ValueError(f"expected names of topics, got {name!r}: {str(error).splitlines()[0]}") from error


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: if there is none.
    """
    import torch  # a recorder has no device, and starts without it

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"expected cpu, cuda, cuda:1, ..., got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"expected cpu, cuda, cuda:1, ..., got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"{name} asked for, but there are {torch.cuda.device_count()} CUDA devices")
    return device


def _argument_descriptions(config_type: Callable) -> dict[str, str]:
    """The entries of the docstring's ``Args`` section: ``a, b: what both are``, continued on deeper lines."""
    section = (inspect.getdoc(config_type) or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", section):
        names, _, text = entry.strip().partition(": ")
        entries |= {name: " ".join(text.split()) for name in names.split(", ")}
    return entries
