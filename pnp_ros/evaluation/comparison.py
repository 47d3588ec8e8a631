"""Two reports side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from pnp_ros.evaluation.report import figure_text

_LEFT_OUT = {"per_frame", "warnings", "source", "kind", "object", "diameter_m"}
_METRICS = (
    ("add", "ADD"),
    ("rotation", "rotation"),
    ("translation", "translation"),
    ("nees", "NEES"),
    ("ncc", "overlap"),
)


@dataclass(frozen=True)
class Row:
    """One figure of both reports; None where one has none."""

    name: str
    a: Any
    b: Any

    @property
    def change(self) -> float | None:
        """b - a of numbers."""
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (self.a, self.b))
        return float(self.b - self.a) if numbers else None


def compare(a: Path, b: Path) -> list[Row]:
    """The figures of two reports (``report.json``, or the folders they lie in), and frame against frame.

    Raises:
        ValueError: if one cannot be read, or they are of different objects.
    """
    one, other = _read(a), _read(b)
    if one.get("object") != other.get("object"):
        raise ValueError(f"expected reports of one object, got {one.get('object')} and {other.get('object')}")
    left, right = _flat(one), _flat(other)
    rows = [Row(name, left.get(name), right.get(name)) for name in dict.fromkeys([*left, *right])]
    return rows + _paired(one.get("per_frame", {}), other.get("per_frame", {}))


def _read(path: Path) -> dict[str, Any]:
    file = path / "report.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read as a report ({error})") from error
    if not isinstance(content, dict) or "frames" not in content:
        raise ValueError(f"{file}: expected a report of pnp-ros evaluate")
    return content


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in content.items():
        if not prefix and name in _LEFT_OUT:
            continue
        label = f"{prefix}{name}".replace("_", " ")
        found.update(_flat(value, f"{label} / ") if isinstance(value, Mapping) else {label: value})
    return found


def _paired(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Row]:
    """In how many of the frames that both judge each has the smaller error (the larger overlap), and whether that may
    be chance.

    The sign test takes frames as independent; those of one video are less than that.
    """
    rows = []
    for key, name in _METRICS:
        if key not in one or key not in other or len(one[key]) != len(other[key]):
            continue
        left, right = (np.array(values[key], np.float64) for values in (one, other))
        both = np.isfinite(left) & np.isfinite(right)
        better = "larger" if key == "ncc" else "smaller"
        sign = -1.0 if key == "ncc" else 1.0
        advantage = sign * (right[both] - left[both])
        better_a, better_b = int((advantage > 0).sum()), int((advantage < 0).sum())
        if better_a + better_b:
            rows.append(Row(f"paired / {name} / frames with the {better} value", better_a, better_b))
            chance = binomtest(better_b, better_a + better_b).pvalue
            rows.append(Row(f"paired / {name} / p of the sign test", None, float(chance)))
    return rows


def comparison_table(rows: list[Row]) -> str:
    """Aligned lines: name, A, B, B - A."""
    cells = [("", "A", "B", "B - A")]
    cells += [(row.name, figure_text(row.a), figure_text(row.b), _signed(row.change)) for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(4)]
    lines = [f"{n:<{widths[0]}}  {a:>{widths[1]}}  {b:>{widths[2]}}  {c:>{widths[3]}}" for n, a, b, c in cells]
    return "\n".join(line.rstrip() for line in lines)


def _signed(value: float | None) -> str:
    return "" if value is None else "0" if value == 0 else f"{value:+.4g}"
