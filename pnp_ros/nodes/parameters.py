"""Declaring parameters with a description and a range, so that ``ros2 param describe`` explains the node."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

T = TypeVar("T")
C = TypeVar("C")


def declare(
    node: Node,
    name: str,
    default: T,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
) -> T:
    """Declare one parameter and return its value. Its type is the default's; it can be set before the node configures.

    Raises:
        ValueError: if the value is not one of ``choices``.
        rclpy.exceptions.InvalidParameterValueException: if it is outside [low, high].
    """
    descriptor = ParameterDescriptor(description=description)
    if choices:
        descriptor.additional_constraints = "one of: " + ", ".join(choices)
    if low is not None and high is not None:
        if isinstance(default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    value = node.declare_parameter(name, default, descriptor).value
    if choices and value not in choices:
        raise ValueError(f"parameter {name}: expected one of {', '.join(choices)}, got {value!r}")
    return value


def declare_config(node: Node, prefix: str, config_type: Callable[..., object]) -> None:
    """Declare every field of a configuration as ``prefix.field``, described by the class's docstring.

    Args:
        config_type: a dataclass whose fields have plain defaults.
    """
    descriptions = _argument_descriptions(config_type)
    for field in dataclasses.fields(config_type):  # type: ignore[arg-type]
        declare(node, f"{prefix}.{field.name}", field.default, descriptions.get(field.name, field.name))


def read_config(node: Node, prefix: str, config_type: Callable[..., C]) -> C:
    """The configuration of the parameters that :func:`declare_config` declared.

    Raises:
        ValueError: from the configuration itself, naming the field.
    """
    fields = dataclasses.fields(config_type)  # type: ignore[arg-type]
    return config_type(**{field.name: node.get_parameter(f"{prefix}.{field.name}").value for field in fields})


def _argument_descriptions(config_type: Callable) -> dict[str, str]:
    """The entries of the docstring's ``Args`` section: ``a, b: what both are``, continued on deeper lines."""
    section = (inspect.getdoc(config_type) or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", section):
        names, _, text = entry.strip().partition(": ")
        entries |= {name: " ".join(text.split()) for name in names.split(", ")}
    return entries
