"""Plots as inline SVG: no file beside the report, nothing to be loaded."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, RED, GREEN, GREY = "#2a6fbb", "#e08a1e", "#c93030", "#2f9e54", "#8a8f98"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "pnp_ros",  # the same report is the same bytes
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "axes.axisbelow": True,
}
_WIDTH, _HEIGHT, _ROW = 6.4, 2.6, 1.5  # inches: of a figure, and of each row of one that has several


def svg_of(draw: Callable[[Axes], bool]) -> str | None:
    """Inline SVG of what ``draw`` draws; None if it says that there was nothing to draw."""
    return svg_of_rows(lambda axes: draw(axes[0]), 1)


def svg_of_rows(draw: Callable[[list[Axes]], bool], rows: int) -> str | None:
    """The same with several axes, one below the other, over the same abscissa."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, _HEIGHT if rows == 1 else _ROW * rows), layout="constrained")
        if not draw(list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])):
            return None
        text = io.StringIO()
        figure.savefig(text, format="svg", dpi=110, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def legend(axes: Axes) -> None:
    """Above the axes, where it hides no point."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=4, frameon=False, fontsize=8, markerscale=2)
