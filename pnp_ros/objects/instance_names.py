"""How the instances of an object are named: ``mug`` where there is one, ``mug_0``, ``mug_1``, ... where there may be
several."""

from __future__ import annotations

import re
from collections.abc import Collection


def instance_names(name: str, count: int) -> list[str]:
    """The names of ``count`` instances of an object."""
    return [name] if count == 1 else [f"{name}_{index}" for index in range(count)]


def object_of(instance: str, names: Collection[str]) -> str | None:
    """Which of the objects of these names an instance is of; None if of none."""
    stem = re.sub(r"_\d+$", "", instance)
    return next((name for name in (instance, stem) if name in names), None)
