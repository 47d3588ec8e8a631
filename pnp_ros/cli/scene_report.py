"""What ``run``, ``evaluate`` and ``demo`` leave of many objects: a report of all, and one of each instance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pnp_ros.cli.pose_log import PoseLog
from pnp_ros.cli.reports import write_report
from pnp_ros.evaluation.evaluator import SceneEvaluation
from pnp_ros.evaluation.frames import FrameSource
from pnp_ros.evaluation.html_report import Card, headline, write_html
from pnp_ros.evaluation.report import figure_text, measure
from pnp_ros.evaluation.svg import BLUE, GREEN, GREY, ORANGE, RED, svg_of
from pnp_ros.evaluation.told import IMAGE
from pnp_ros.objects.instance_names import object_of
from pnp_ros.objects.object_package import ObjectPackage

_COLOURS = (BLUE, GREEN, ORANGE, "#7a4fb5", "#3aa6a0", "#b5764f")


def write_scene_report(
    out: Path,
    packages: Sequence[ObjectPackage],
    source: FrameSource,
    done: SceneEvaluation,
    figures: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Leave ``report.html``, ``report.json``, ``poses.csv`` and ``poses.json`` in ``out``, and a folder an instance.

    Args:
        figures: more of them, by group.

    Returns:
        What ``report.json`` holds.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = [package.name for package in packages]
    by_name = dict(zip(names, packages))
    each = {
        name: write_report(out / name, by_name[object_of(name, names) or ""], source, instance)
        for name, instance in done.instances.items()
    }
    seconds = [next(iter(told.values())).latency.get(IMAGE) for told in done.poses if told]
    times = 1000.0 * np.array([value for value in seconds if value is not None])
    summary: dict[str, Any] = {
        "frames": {"total": len(done.poses)},
        **(figures or {}),
        "identity_swaps": done.swaps,
        "latency_ms": {IMAGE: {"median": float(np.median(times)), "p99": float(np.quantile(times, 0.99))}}
        if len(times)
        else {},
        "objects": {name: measure(done.records(by_name[name], names), by_name[name])[0] for name in names},
        "instances": {name: _row(figures) for name, figures in each.items()},
    }
    origin = {"source": str(source.path), "kind": source.kind, "warnings": done.warnings}
    (out / "report.json").write_text(json.dumps({**origin, **summary}, indent=1, allow_nan=False))
    _write_poses(out, done)
    svg = svg_of(lambda axes: _names_over_time(axes, done))
    write_html(
        out / "report.html",
        f"{', '.join(names)} in {source.path}",
        f"{source.kind}, {len(done.poses)} images, {len(done.instances)} instances, each with a report in its folder",
        _cards(summary),
        {**(figures or {}), "instances": summary["instances"]}
        | {f"{name}: {group}": figures for name in names for group, figures in summary["objects"][name].items()},
        [] if svg is None else [("Which name each instance has", svg)],
        warnings=done.warnings,
    )
    return summary


def scene_table(summary: Mapping[str, Any]) -> str:
    """A line for each instance, and what is to be said of all."""
    rows = [("", *next(iter(summary["instances"].values())))]
    rows += [(name, *map(figure_text, row.values())) for name, row in summary["instances"].items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(r, widths)))
        for r in rows
    ]
    if (swaps := summary["identity_swaps"]) is not None:
        false = {name: figures["false_poses"] for name, figures in summary["objects"].items()}
        lines.append(f"identity swaps: {_each(swaps)}")
        lines.append(f"valid where none is: {_each({n: f['valid_while_not_visible'] for n, f in false.items() if f})}")
    if times := summary["latency_ms"]:
        lines.append(f"an image: {times[IMAGE]['median']:.0f} ms median, {times[IMAGE]['p99']:.0f} p99")
    return "\n".join(line.rstrip() for line in lines)


def _each(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _row(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the table of all instances."""
    row = {"valid": figures["frames"]["valid"]}
    if (accuracy := figures["accuracy"]) is not None:
        row = {"visible": figures["frames"]["visible"], **row}
        row |= {"recall 5 %": accuracy["recall_5_percent"], "recall 10 %": accuracy["recall_10_percent"]}
        row[f"{accuracy['metric']} %"] = accuracy["add_percent" if accuracy["metric"] == "ADD" else "add-s_percent"][
            "median"
        ]
    if (told := figures["consistency"]) is not None:
        row |= {"NEES": told["mean_nees"], "in 90 %": told["coverage"]["0.9"]}
    return row


def _cards(summary: Mapping[str, Any]) -> list[Card]:
    cards = []
    if (swaps := summary["identity_swaps"]) is not None:
        cards.append(Card("identity swaps", str(sum(swaps.values())), not any(swaps.values())))
    for name, figures in summary["objects"].items():
        cards += [Card(f"{name}: {c.name}", c.value, c.good) for c in headline({**figures, "latency_ms": {}})[:2]]
    if times := summary["latency_ms"]:
        cards.append(Card("an image, median (p99)", f"{times[IMAGE]['median']:.1f} ({times[IMAGE]['p99']:.1f}) ms"))
    return cards


def _write_poses(out: Path, done: SceneEvaluation) -> None:
    """One table of what was told, instance after instance."""
    log = PoseLog()
    for name in dict.fromkeys(name for told in done.poses for name in told):
        for index, told in enumerate(done.poses):
            if name in told:
                log.add(index, told[name], name)
    log.write(out)


def _names_over_time(axes: Axes, done: SceneEvaluation) -> bool:
    """A row for each true instance, coloured by the name that it is told under; red where it is missed."""
    if done.swaps is None:
        return False
    told = sorted({r.name for each in done.instances.values() for r in each.records if r.is_valid})
    for row, instance in enumerate(done.instances.values()):
        stamps = np.array([r.stamp or 0.0 for r in instance.records])
        times = stamps - stamps[0]
        for chosen, colour in (
            (np.array([not r.is_visible for r in instance.records]), GREY),
            (np.array([r.is_visible and not r.is_valid for r in instance.records]), RED),
            *(
                (np.array([r.is_valid and r.name == name for r in instance.records]), _COLOURS[k % len(_COLOURS)])
                for k, name in enumerate(told)
            ),
        ):
            axes.plot(times[chosen], np.full(chosen.sum(), row), "|", ms=10, color=colour, rasterized=True)
    axes.set_yticks(range(len(done.instances)), list(done.instances))
    axes.set(xlabel="time, s; red: missed, grey: not to be seen", ylim=(-0.6, len(done.instances) - 0.4))
    return True
