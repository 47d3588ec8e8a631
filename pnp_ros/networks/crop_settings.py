"""What the settings of all networks that look at crops have in common: the crop, and how ``object.yaml`` holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


def values_from_plain(config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a network's configuration in ``object.yaml``; ValueError names one that is none of them."""
    if (kind := values.get("kind", "keypoints")) != config.kind:
        raise ValueError(f"kind: expected {config.kind}, got {kind!r}")
    rest = {name: value for name, value in values.items() if name != "kind"}
    if unknown := sorted(set(rest) - {field.name for field in dataclasses.fields(config)}):
        raise ValueError(f"{unknown[0]}: unknown field of the {kind} network")
    return rest


def plain_values(config: Any) -> dict[str, Any]:
    """The fields of a network's configuration for ``object.yaml``, the kind among them."""
    return {"kind": config.kind} | dataclasses.asdict(config)


def check_crop(crop_size: int, width: int, crop_margin: float) -> None:
    """What networks that look at crops have in common; ValueError names the field and what it expects."""
    check_integer("crop_size", crop_size, 64, 1024)
    check_integer("width", width, 4, 512)
    if crop_size % 32:
        raise ValueError(f"crop_size: expected a multiple of 32, got {crop_size}")
    if not 1.0 <= crop_margin <= 4.0:
        raise ValueError(f"crop_margin: expected a number from 1 to 4, got {crop_margin!r}")


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """ValueError names the field and its limits."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name}: expected an integer from {low} to {high}, got {value!r}")
