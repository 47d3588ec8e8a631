"""What a run leaves: the report, its figures, the poses; and what measures how well they agree with the images."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pnp_ros.cli.pose_log import PoseLog
from pnp_ros.evaluation.evaluator import Evaluation, OverlapMeter
from pnp_ros.evaluation.frame_errors import Column
from pnp_ros.evaluation.frame_sheet import frame_sheet
from pnp_ros.evaluation.frames import FrameSource
from pnp_ros.evaluation.html_report import headline, write_html
from pnp_ros.evaluation.hypotheses import reliability_plots
from pnp_ros.evaluation.plots import plots
from pnp_ros.evaluation.report import measure
from pnp_ros.io.bop import write_bop_results
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import FrameResult
from pnp_ros.rendering.renderer import RendererError


def overlap_meter(package: ObjectPackage, asked_for: bool = False) -> OverlapMeter | None:
    """What tells how well the re-rendered object correlates with the image; None, said on stderr, without OpenGL.

    Raises:
        ValueError: without OpenGL, where it was ``asked_for``.
    """
    try:
        return OverlapMeter(package)
    except RendererError as error:
        if asked_for:
            raise ValueError(f"--overlap: {error}") from error
        print(f"the overlap of pose and image is left out: {error}", file=sys.stderr)
        return None


def overlap_meters(packages: Sequence[ObjectPackage], asked_for: bool = False) -> dict[str, OverlapMeter]:
    """The same of several objects, by name."""
    return {each.name: meter for each in packages if (meter := overlap_meter(each, asked_for)) is not None}


def bop_name(source: FrameSource, package: ObjectPackage) -> str:
    """As BOP names results: method, dataset and split, separated by an underscore and hyphens."""
    name = source.path.resolve().name if source.kind != "bop" else f"{source.path.resolve().parent.name}"
    return f"pnp-ros_{package.name.replace('_', '-')}-{Path(name).stem.replace('_', '-')}.csv"


def write_report(
    out: Path,
    package: ObjectPackage,
    source: FrameSource,
    done: Evaluation,
    first: Mapping[str, Any] | None = None,
    more_plots: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Leave all files in ``out``, and return the summary, with the figures of ``first`` before all others."""
    out.mkdir(parents=True, exist_ok=True)
    measured, errors = measure(done.records, package)
    summary = {**(first or {}), **measured}
    metric = "add" if package.symmetry.is_trivial else "adds"
    origin = {"source": str(source.path), "kind": source.kind, "object": package.name, "diameter_m": package.diameter}
    content = {**origin, "warnings": done.warnings, **summary, "per_frame": _plain(errors, done.records)}
    (out / "report.json").write_text(json.dumps(content, indent=1, allow_nan=False))
    log = PoseLog()
    for index, record in enumerate(done.records):
        log.add(index, record, package.name)
    log.write(out)
    write_bop_results(out / bop_name(source, package), done.results)
    write_html(
        out / "report.html",
        f"{package.name} in {source.path}",
        f"{source.kind}, {len(done.records)} images, object {package.name} ({1000 * package.diameter:.1f} mm)",
        headline(summary),
        summary,
        [*plots(errors, done.records, metric), *reliability_plots(done.records, package), *more_plots],
        frame_sheet(source, package.mesh, done.records, errors, metric) if source.kind != "live" else None,
        done.warnings,
    )
    return summary


def _plain(errors: Mapping[str, Column], records: Sequence[FrameResult]) -> dict[str, list[Any]]:
    columns = {name: [v if math.isfinite(v) else None for v in values.tolist()] for name, values in errors.items()}
    return {"state": [str(record.state) for record in records], **columns}
