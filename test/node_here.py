"""A node in the process of a test, with parameters as a command line gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter

T = TypeVar("T", bound=Node)


def node_here(kind: Callable[[], T], **values: Any) -> T:
    """A node whose parameters have these values; the caller destroys it."""
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    make_node = partial(Node.__init__, parameter_overrides=overrides)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Node, "__init__", lambda node, name: make_node(node, name))
        return kind()
