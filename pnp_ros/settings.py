"""Configurations whose fields know their bounds: checked when they are built, and shown as ranges of parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeGuard


def bounded(default: float, low: float, high: float) -> Any:
    """A dataclass field for a number in [low, high]; a whole one if the default is."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def spanned(lowest: float, highest: float, low: float, high: float) -> Any:
    """A dataclass field for a range (lowest, highest) within [low, high]."""
    return dataclasses.field(default=(lowest, highest), metadata={"low": low, "high": high})


def chosen(default: str | tuple[str, ...], choices: Sequence[str]) -> Any:
    """A dataclass field for one of several words, or for some of them."""
    return dataclasses.field(default=default, metadata={"choices": tuple(choices)})


def problem(default: object, value: object, constraints: Any) -> str:
    """What is wrong with a value, in words; empty if nothing is.

    Args:
        default: whose type is asked for; a whole number will do for a float.
        constraints: mapping with ``low`` and ``high``, or ``choices``, or neither.
    """
    if isinstance(default, tuple) and "low" in constraints:
        low, high = constraints["low"], constraints["high"]
        if not _is_range(value) or not low <= value[0] <= value[1] <= high:
            return f"expected {low:.4g} <= lowest <= highest <= {high:.4g}, got {value!r}"
        return ""
    if isinstance(default, (tuple, list)):
        choices = constraints.get("choices")
        if not isinstance(value, (tuple, list)) or not all(isinstance(item, str) for item in value):
            return f"expected texts, got {value!r}"
        if choices and (strange := [item for item in value if item not in choices]):
            return f"expected some of {', '.join(choices)}, got {strange[0]!r}"
        return ""
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        names = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}
        return f"expected {names.get(type(default), type(default).__name__)}, got {value!r}"
    if "low" in constraints and not constraints["low"] <= value <= constraints["high"]:
        return f"expected {constraints['low']:g} to {constraints['high']:g}, got {value!r}"
    if "choices" in constraints and value not in constraints["choices"]:
        return f"expected one of {', '.join(constraints['choices'])}, got {value!r}"
    return ""


def _is_range(value: object) -> TypeGuard[Sequence[float]]:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value)


def check(config: Any) -> None:
    """Check every field of a dataclass instance against its default's type and its bounds.

    Left to the class itself are fields that may be None, and those without bounds that have no default or a tuple's.

    Raises:
        ValueError: naming the field and what it expects.
    """
    for field in dataclasses.fields(config):
        if not field.metadata and (field.default in (None, dataclasses.MISSING) or isinstance(field.default, tuple)):
            continue
        if wrong := problem(field.default, getattr(config, field.name), field.metadata):
            raise ValueError(f"{field.name}: {wrong}")
