"""What an online fine-tuning did, from its recorded status: losses, checks on held-back images, gates, versions."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pnp_ros.evaluation.frames import open_bag
from pnp_ros.evaluation.svg import BLUE, GREEN, GREY, ORANGE, RED, STYLE, svg_of

HISTORY_NAME = "status.jsonl"  # in the folder of an adaptation
_MESSAGE = "pnp_ros/msg/AdaptationStatus"
_WINDOW = 9  # entries that a line of losses is the median of
_SIZE = (7.2, 6.6)  # inches


@dataclass(frozen=True)
class GateResult:
    """One gate of a check, as in the message ``AdaptationGate``."""

    name: str
    active: float
    candidate: float
    bound: float
    passed: bool


@dataclass(frozen=True)
class StatusEntry:
    """One status, as in the message ``AdaptationStatus``; ``step`` counts from the start of the recording."""

    step: int
    active_version: int
    reprojection_loss: float
    correspondence_loss: float
    gates: tuple[GateResult, ...]


def load_history(path: Path) -> list[StatusEntry]:
    """The history that ``pnp-ros adapt`` wrote (a file, or the folder it lies in), or the status messages of a bag.

    Raises:
        ValueError: if it cannot be read; the message names the file, and the line.
    """
    if path.is_dir() and (path / HISTORY_NAME).is_file():
        path = path / HISTORY_NAME
    if path.suffix == ".jsonl":
        return _counted(_lines(path))
    found = history_of_bag(path)
    if not found:
        raise ValueError(f"{path}: holds no {_MESSAGE}")
    return found


def history_of_bag(path: Path) -> list[StatusEntry]:
    """The status messages of a bag; empty if it has none."""
    with open_bag(path) as reader:
        topics = [topic for topic, kind in reader.topics.items() if kind == _MESSAGE]
        messages = (message for _, _, message in reader.messages(topics[0])) if topics else ()
        return _counted(_entry(_fields(message), _fields) for message in messages)


def _fields(message: Any) -> dict[str, Any]:
    return {name: getattr(message, name) for name in vars(message)}


def _lines(path: Path) -> Iterable[StatusEntry]:
    try:
        text = path.read_text()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(text.splitlines(), 1):
        try:
            yield _entry(json.loads(line), dict)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: expected a status of the adaptation ({error!r})") from error


def _entry(fields: dict[str, Any], gate_fields: Callable[[Any], dict[str, Any]]) -> StatusEntry:
    def number(value: Any) -> float:
        return math.nan if value is None else float(value)

    gates = []
    for gate in map(gate_fields, fields["gates"]):
        active, candidate, bound = (number(gate[name]) for name in ("active", "candidate", "bound"))
        gates.append(GateResult(str(gate["name"]), active, candidate, bound, bool(gate["passed"])))
    losses = number(fields["reprojection_loss"]), number(fields["correspondence_loss"])
    return StatusEntry(int(fields["steps"]), int(fields["active_version"]), *losses, tuple(gates))


def _counted(entries: Iterable[StatusEntry]) -> list[StatusEntry]:
    """Steps since the last promotion become steps since the start."""
    found: list[StatusEntry] = []
    before, last = 0, 0
    for entry in entries:
        if entry.step < last:
            before += last
        last = entry.step
        values = entry.active_version, entry.reprojection_loss, entry.correspondence_loss, entry.gates
        found.append(StatusEntry(before + entry.step, *values))
    return found


def adaptation_plots(history: Sequence[StatusEntry]) -> list[tuple[str, str]]:
    """Title and inline SVG of each plot that the history has data for."""
    drawn = []
    for title, draw in _PANELS:
        svg = svg_of(lambda axes, draw=draw: draw(axes, history))  # type: ignore[misc]
        if svg is not None:
            drawn.append((title, svg))
    return drawn


def write_adaptation_image(path: Path, history: Sequence[StatusEntry]) -> None:
    """All plots below each other, in a file of any format that matplotlib writes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        for axes, (title, draw) in zip(figure.subplots(len(_PANELS), 1), _PANELS):
            if not draw(axes, history):
                axes.text(0.5, 0.5, "nothing yet", ha="center", va="center", transform=axes.transAxes, color=GREY)
            axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
            axes.set_xlim(0, 1.02 * max([1, *(entry.step for entry in history)]))
        figure.savefig(path, dpi=120)


def _checks(history: Sequence[StatusEntry]) -> list[StatusEntry]:
    """Where the gates are those of a new check."""
    pairs = itertools.pairwise([StatusEntry(0, 0, math.nan, math.nan, ()), *history])
    return [entry for before, entry in pairs if entry.gates and entry.gates != before.gates]


def _losses(axes: Axes, history: Sequence[StatusEntry]) -> bool:
    drawn = False
    for name, label, colour in (("reprojection_loss", "pose", BLUE), ("correspondence_loss", "keypoints", ORANGE)):
        known = [(e.step, getattr(e, name)) for e in history if math.isfinite(getattr(e, name))]
        if not known:
            continue
        steps, values = np.array(known, np.float64).T
        axes.plot(steps, values, ".", ms=2, color=colour, alpha=0.35)
        half = _WINDOW // 2
        smooth = [np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
        axes.plot(steps, smooth, color=colour, lw=1.5, label=label)
        drawn = True
    if drawn:
        _versions(axes, history)
        axes.set(ylabel="loss", xlabel="steps")
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=2, frameon=False, fontsize=8)
    return drawn


def _held_back(axes: Axes, history: Sequence[StatusEntry]) -> bool:
    """The first gate is the error on held-back images."""
    checks = _checks(history)
    if not checks:
        return False
    steps = np.array([check.step for check in checks])
    first = [check.gates[0] for check in checks]
    active, candidate = (np.array([getattr(g, name) for g in first]) for name in ("active", "candidate"))
    passed = np.array([all(gate.passed for gate in check.gates) for check in checks])
    axes.vlines(steps, active, candidate, color=GREY, lw=1)
    axes.plot(steps, active, "o", ms=6, mfc="white", mec=GREY, ls="none", label="in use")
    for chosen, colour, label in ((passed, GREEN, "promoted"), (~passed, RED, "refused")):
        if chosen.any():
            axes.plot(steps[chosen], candidate[chosen], "o", ms=5, color=colour, ls="none", label=label)
    _versions(axes, history)
    axes.set(ylabel=first[0].name.replace(", ", ",\n", 1), xlabel="steps")
    axes.set_ylim(0, 1.15 * max(1e-6, np.nanmax([*active, *candidate])))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=3, frameon=False, fontsize=8)
    return True


def _gates(axes: Axes, history: Sequence[StatusEntry]) -> bool:
    checks = _checks(history)
    if not checks:
        return False
    names = list(dict.fromkeys(gate.name for check in checks for gate in check.gates))
    for passed, colour, marker in ((True, GREEN, "o"), (False, RED, "X")):
        points = [(c.step, names.index(g.name)) for c in checks for g in c.gates if g.passed is passed]
        if points:
            x, y = zip(*points)
            axes.plot(x, y, marker, ms=6, color=colour, ls="none", label="passed" if passed else "failed")
    _versions(axes, history)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("steps")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=2, frameon=False, fontsize=8)
    return True


def _versions(axes: Axes, history: Sequence[StatusEntry]) -> None:
    """A line where other weights came into use."""
    for before, after in itertools.pairwise(history):
        if after.active_version != before.active_version:
            axes.axvline(after.step, color=GREEN, lw=1, ls=":")
            top = axes.get_xaxis_transform()  # x of the data, y a share of the axes
            axes.text(after.step, 0.98, f" v{after.active_version}", color=GREEN, fontsize=7, va="top", transform=top)


_PANELS: list[tuple[str, Callable[[Axes, Sequence[StatusEntry]], bool]]] = [
    ("Adaptation: losses", _losses),
    ("Adaptation: held back", _held_back),
    ("Adaptation: gates of each check", _gates),
]
