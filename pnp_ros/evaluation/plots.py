"""The report's plots, each as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from scipy.stats import chi2

from pnp_ros.evaluation import consistency
from pnp_ros.evaluation.frame_errors import Column, recall_over
from pnp_ros.evaluation.overlap import MATCH
from pnp_ros.evaluation.pose_plot import pose_plots
from pnp_ros.evaluation.smoothness import second_differences
from pnp_ros.evaluation.svg import BLUE, GREEN, GREY, ORANGE, RED, legend, svg_of
from pnp_ros.pipeline.result import FrameResult, ObjectState

_STATE_COLOURS = {
    ObjectState.VALID: GREEN,
    ObjectState.UNCERTAIN: ORANGE,
    ObjectState.LOST: GREY,
    ObjectState.DROPPED: RED,
}
_IN_SPACE = {"add": "ADD", "adds": "ADD-S", "mssd": "MSSD"}
_IN_IMAGE = {"reprojection": "mean of the points", "mspd": "MSPD, the farthest point"}
_SPACE, _PX = ("threshold, % of the diameter", 20.0), ("threshold, px", 10.0)  # label and end of the axis
_WINDOW = 25  # poses that the running mean of NEES is over
_MANY = 1500  # points above which they are drawn as pixels within the SVG


def plots(errors: Mapping[str, Column], records: Sequence[FrameResult], metric: str) -> list[tuple[str, str]]:
    """Title and SVG of each plot that the records have data for.

    Args:
        errors: of :func:`~pnp_ros.evaluation.frame_errors.frame_errors`.
        records: of the same frames.
        metric: ``add`` or ``adds``.
    """
    name = "ADD-S" if metric == "adds" else "ADD"
    candidates: list[tuple[str, Callable[[Axes], bool]]] = [
        ("State over time", lambda axes: _states(axes, errors, records)),
        (f"{name} over time", lambda axes: _over_time(axes, errors, 100.0 * errors[metric], f"{name}, % of diameter")),
        ("Recall over time", lambda axes: _recall(axes, errors, "time", metric, "time, s")),
        ("Recall over distance", lambda axes: _recall(axes, errors, "distance", metric, "distance, m")),
        ("Recall over the threshold, in space", lambda axes: _recall_curves(axes, errors, _IN_SPACE, 100.0, _SPACE)),
        ("Recall over the threshold, in the image", lambda axes: _recall_curves(axes, errors, _IN_IMAGE, 1.0, _PX)),
        ("Reprojection error over time", lambda axes: _over_time(axes, errors, errors["reprojection"], "px")),
        ("NEES over time", lambda axes: _nees(axes, errors)),
        ("Coverage", lambda axes: _coverage(axes, errors)),
        ("Overlap over time", lambda axes: _overlap(axes, errors)),
        ("Smoothness", lambda axes: _smoothness(axes, records)),
        ("Latency by stage", lambda axes: _latency(axes, records)),
    ]
    drawn = []
    for title, draw in candidates:
        svg = svg_of(draw)
        if svg is not None:
            drawn.append((title, svg))
    return drawn[:1] + pose_plots(records, errors["time"]) + drawn[1:]


def _logarithmic(axis: XAxis | YAxis) -> None:
    (axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale)("log")
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def _points(axes: Axes, x: Column, y: Column, colour: str, label: str) -> None:
    axes.plot(x, y, ".", ms=3, color=colour, label=label, rasterized=len(x) > _MANY)


def _states(axes: Axes, errors: Mapping[str, Column], records: Sequence[FrameResult]) -> bool:
    rows = [(str(s), np.array([r.state is s for r in records]), colour) for s, colour in _STATE_COLOURS.items()]
    rows = [row for row in [*rows, ("false", errors["false"] > 0, RED)] if row[1].any()]
    names = [name for name, _, _ in rows]
    for height, (_, chosen, colour) in enumerate(rows):
        axes.plot(errors["time"][chosen], np.full(chosen.sum(), height), "|", ms=14, color=colour, rasterized=True)
    if (errors["visible"] > 0).any() and not (errors["visible"] > 0).all():
        absent = errors["visible"] == 0
        axes.plot(errors["time"][absent], np.full(absent.sum(), -0.7), "|", ms=6, color="black", rasterized=True)
        axes.set_yticks([-0.7, *range(len(names))], ["(not visible)", *names])
    else:
        axes.set_yticks(range(len(names)), names)
    axes.set_ylim(axes.get_yticks()[0] - 0.5, len(names) - 0.4)
    axes.set_xlabel("time, s")
    return True


def _over_time(axes: Axes, errors: Mapping[str, Column], values: Column, label: str, log: bool = True) -> bool:
    known = np.isfinite(values)
    if not known.any():
        return False
    valid = errors["valid"] > 0
    for chosen, colour, name in ((known & valid, BLUE, "valid"), (known & ~valid, ORANGE, "not valid")):
        if chosen.any():
            _points(axes, errors["time"][chosen], values[chosen], colour, name)
    if log and (values[known] > 0).any():
        _logarithmic(axes.yaxis)
    axes.set(xlabel="time, s", ylabel=label)
    legend(axes)
    return True


def _overlap(axes: Axes, errors: Mapping[str, Column]) -> bool:
    axes.axhline(MATCH, color=GREY, ls=":", lw=1)
    return _over_time(axes, errors, errors["ncc"], "correlation", log=False)


def _recall(axes: Axes, errors: Mapping[str, Column], axis: str, metric: str, label: str) -> bool:
    found = recall_over(errors, axis, metric)
    if found is None or not np.isfinite(errors[metric]).any():
        return False
    axes.stairs(100.0 * found.recall, found.edges, fill=True, color=BLUE, alpha=0.75)
    for left, right, count in zip(found.edges, found.edges[1:], found.frames):
        axes.text((left + right) / 2, 2, str(count), ha="center", color="black", fontsize=7)
    axes.set(xlabel=f"{label}   (number: frames)", ylabel="recall at 10 %, %", ylim=(0, 105))
    return True


def _recall_curves(
    axes: Axes, errors: Mapping[str, Column], curves: Mapping[str, str], scale: float, axis: tuple[str, float]
) -> bool:
    """Share of the visible frames with a valid pose below each threshold, and the area under it."""
    visible = errors["visible"] > 0
    label, limit = axis
    drawn = False
    for (column, name), colour in zip(curves.items(), (BLUE, GREEN, ORANGE)):
        if not visible.any() or not np.isfinite(errors[column]).any():
            continue
        values = np.where(errors["valid"] > 0, np.nan_to_num(errors[column], nan=np.inf), np.inf)[visible]
        ordered = np.sort(scale * values)
        end = max(float(ordered[np.isfinite(ordered)].max(initial=0.0)), limit)
        steps = np.r_[0.0, ordered[np.isfinite(ordered)], end]
        share = 100.0 * np.minimum(np.arange(len(steps)), len(steps) - 2) / len(ordered)
        axes.step(steps, share, where="post", color=colour, label=name)
        drawn = True
    if not drawn:
        return False
    for threshold in (0.25 * limit, 0.5 * limit):
        axes.axvline(threshold, color=GREY, ls=":", lw=1)
    axes.set(xlabel=label, ylabel="recall, %", xlim=(0, limit), ylim=(0, 105))
    legend(axes)
    return True


def _nees(axes: Axes, errors: Mapping[str, Column]) -> bool:
    chosen = np.isfinite(errors["nees"]) & (errors["valid"] > 0)
    if not chosen.any():
        return False
    time, nees = errors["time"][chosen], errors["nees"][chosen]
    low, high = consistency.nees_bounds(0.95)
    axes.axhspan(low, high, color=GREEN, alpha=0.15, lw=0, label="95 % of consistent estimates")
    axes.axhline(consistency.DEGREES_OF_FREEDOM, color=GREEN, lw=1)
    _points(axes, time, np.maximum(nees, 1e-3), BLUE, "NEES")
    window = min(_WINDOW, len(nees))
    if window > 1:
        mean = np.convolve(nees, np.ones(window) / window, mode="valid")
        axes.plot(time[window - 1 :], mean, color=RED, lw=1, label=f"mean of {window}, dashed: its 95 %")
        for bound in consistency.anees_bounds(window):
            axes.axhline(bound, color=RED, lw=0.8, ls="--")
    _logarithmic(axes.yaxis)
    axes.set(xlabel="time, s", ylabel="NEES, 6 degrees of freedom")
    legend(axes)
    return True


def _coverage(axes: Axes, errors: Mapping[str, Column]) -> bool:
    nees = errors["nees"][np.isfinite(errors["nees"]) & (errors["valid"] > 0)]
    if not len(nees):
        return False
    level = np.sort(chi2.cdf(nees, consistency.DEGREES_OF_FREEDOM))
    axes.plot([0, 100], [0, 100], color=GREEN, lw=1, label="consistent")
    share = 100.0 * np.arange(1, len(level) + 1) / len(level)
    axes.step(100.0 * level, share, where="post", color=BLUE, label="estimates")
    for wanted in (50, 90, 95):
        axes.axvline(wanted, color=GREY, ls=":", lw=1)
    inside = " / ".join(f"{100.0 * np.mean(100.0 * level <= wanted):.0f}" for wanted in (50, 90, 95))
    axes.text(99, 5, f"inside 50 / 90 / 95 %: {inside} %", ha="right", backgroundcolor="white", fontsize=8)
    axes.set(xlabel="confidence region, %", ylabel="truths inside, %", xlim=(0, 100), ylim=(0, 110))
    legend(axes)
    return True


def _smoothness(axes: Axes, records: Sequence[FrameResult]) -> bool:
    differences, _ = second_differences(records)
    if len(differences) < 2:
        return False
    translation = 1000.0 * differences[:, :3].norm(dim=-1).numpy()
    rotation = differences[:, 3:].norm(dim=-1).rad2deg().numpy()
    share = 100.0 * np.arange(1, len(translation) + 1) / len(translation)
    axes.step(np.sort(translation), share, where="post", color=BLUE, label="translation, mm")
    axes.step(np.sort(rotation), share, where="post", color=ORANGE, label="rotation, deg")
    _logarithmic(axes.xaxis)
    axes.set(xlabel="deviation from constant velocity", ylabel="share of poses below, %", ylim=(0, 105))
    legend(axes)
    return True


def _latency(axes: Axes, records: Sequence[FrameResult]) -> bool:
    stages = list(dict.fromkeys(stage for r in records for stage in r.latency))
    if not stages:
        return False
    times: list[Any] = [[1000.0 * r.latency[stage] for r in records if stage in r.latency] for stage in stages]
    axes.boxplot(times[::-1], orientation="horizontal", whis=(1, 99), showfliers=False, widths=0.6)
    axes.set_yticks(range(1, len(stages) + 1), [stage.replace("_", " ") for stage in stages[::-1]])
    axes.set_xlabel("ms (line: median, box: quartiles, whiskers: 1st and 99th percentile)")
    return True
