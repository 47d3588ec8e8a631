"""The report as one HTML file: figures, plots and images inside it, nothing to be loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.evaluation.report import figure_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 1360px; margin: 2rem auto; padding: 0 1.5rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
.from { color: #5b6573; margin-top: .2rem }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }
.card { border: 1px solid #dde1e6; border-radius: 8px; padding: .7rem 1rem; min-width: 9rem }
.card b { display: block; font-size: 1.5rem } .card span { color: #5b6573; font-size: .85rem }
.bad { border-color: #c93030 } .bad b { color: #c93030 } .good b { color: #2f9e54 }
.warning { background: #fff6e0; border-left: 4px solid #e08a1e; padding: .4rem .8rem; margin: .4rem 0 }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(560px, 1fr)); gap: 1rem }
.plots figure { margin: 0; border: 1px solid #eef0f2; border-radius: 8px; padding: .5rem }
.plots svg { width: 100%; height: auto } figcaption { font-weight: 600 }
img { max-width: 100% } .groups { columns: 3 22rem; column-gap: 2.5rem }
table { border-collapse: collapse; width: 100%; margin-bottom: 1.4rem; break-inside: avoid }
caption { font-weight: 600; text-align: left; padding-bottom: .2rem } tr { border-bottom: 1px solid #eef0f2 }
td, th { padding: .15rem 0 .15rem .9rem; text-align: right; font-variant-numeric: tabular-nums }
td:first-child { text-align: left; padding-left: 0 } th { font-weight: normal; color: #5b6573 }
"""
_METRICS = {"adds": "ADD-S"}


@dataclass(frozen=True)
class Card:
    """A figure to be seen first; ``good`` colours it, None leaves it plain."""

    name: str
    value: str
    good: bool | None = None


def write_html(
    path: Path,
    title: str,
    origin: str,
    cards: Sequence[Card],
    summary: Mapping[str, Any],
    plots: Sequence[tuple[str, str]] = (),
    sheet: tuple[str, NDArray[np.uint8]] | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Write the file.

    Args:
        path: of the HTML file.
        title: headline.
        origin: what was evaluated, one line.
        cards: shown first.
        summary: all figures, as :func:`~pnp_ros.evaluation.report.summarise` gives them.
        plots: titles and inline SVG.
        sheet: caption and image (H, W, 3) RGB at the end.
        warnings: shown below the headline.
    """
    parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="from">{html.escape(origin)}</p>']
    parts += [f'<p class="warning">{html.escape(warning)}</p>' for warning in warnings]
    parts.append(f'<div class="cards">{"".join(map(_card, cards))}</div>')
    figures = [f"<figure><figcaption>{html.escape(name)}</figcaption>{svg}</figure>" for name, svg in plots]
    parts.append(f'<div class="plots">{"".join(figures)}</div>')
    if sheet is not None:
        parts.append(f'<h2>{html.escape(sheet[0])}</h2><img alt="" src="{_data_url(sheet[1])}">')
    groups = [_group(name, figures) for name, figures in summary.items() if isinstance(figures, Mapping)]
    parts.append(f'<h2>All figures</h2><div class="groups">{"".join(groups)}</div>')
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    path.write_text(f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n')


def _card(card: Card) -> str:
    kind = {None: "card", True: "card good", False: "card bad"}[card.good]
    return f'<div class="{kind}"><b>{html.escape(card.value)}</b><span>{html.escape(card.name)}</span></div>'


def _group(name: str, figures: Mapping[str, Any]) -> str:
    """A table: single figures first, then those that have several values, under the names of these."""
    rows, header = [], ()
    columns = max([len(value) for value in figures.values() if isinstance(value, Mapping)], default=1)
    for key, value in sorted(figures.items(), key=lambda item: isinstance(item[1], Mapping)):
        if isinstance(value, Mapping):
            if tuple(value) != header:
                header = tuple(value)
                rows.append(_row("th", "", header, columns))
            rows.append(_row("td", _words(key), tuple(map(figure_text, value.values())), columns))
        else:
            rows.append(_row("td", _words(key), (figure_text(value),), columns))
    title = _words(name)
    return f"<table><caption>{html.escape(title[:1].upper() + title[1:])}</caption>{''.join(rows)}</table>"


def _row(kind: str, name: str, values: tuple[str, ...], columns: int) -> str:
    """A row; its first value stretches over the columns that it has no values for."""
    span = f' colspan="{columns - len(values) + 1}"' if len(values) < columns else ""
    cells = [f"<{kind}{span if i == 0 else ''}>{html.escape(value)}</{kind}>" for i, value in enumerate(values)]
    return f"<tr><{kind}>{html.escape(name)}</{kind}>{''.join(cells)}</tr>"


def _words(name: str) -> str:
    words = name.replace("_percent", " %").replace("_", " ")
    return re.sub(r"\b(add-s|adds|add|mssd|mspd|anees|nees|auc)\b", lambda m: _METRICS.get(m[0], m[0].upper()), words)


def _data_url(rgb: NDArray[np.uint8]) -> str:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 85))
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def headline(summary: Mapping[str, Any]) -> list[Card]:
    """The cards of a run's summary."""
    frames = summary["frames"]
    cards = [Card("frames valid", f"{frames['valid']} of {frames['total']}")]
    if (accuracy := summary["accuracy"]) is not None:
        cards += _accuracy_cards(accuracy)
    if (false := summary["false_poses"]) is not None:
        absent, wrong = false["valid_while_not_visible"], false["valid_beyond_10_percent"]
        cards.append(
            Card(f"false poses: {absent} without the object, {wrong} off by more than 10 %", *_count(absent + wrong))
        )
    if (told := summary["consistency"]) is not None and told["mean_nees"] is not None:
        low, high = told["mean_nees_bounds_95"]
        name = f"mean NEES, {told['verdict']} (6 is ideal, 95 %: {low:.2f} .. {high:.2f})"
        cards.append(Card(name, f"{told['mean_nees']:.2f}", told["verdict"] == "consistent"))
        shares = " / ".join(f"{100 * share:.0f}" for share in told["coverage"].values())
        cards.append(Card("inside the 50 / 90 / 95 % region", f"{shares} %"))
        reach = told["region_0.9"]
        if reach["translation_mm"] is not None:
            size = f"{reach['translation_mm']:.1f} mm, {reach['rotation_deg']:.1f} deg"
            cards.append(Card("reach of the 90 % region, median", size))
    if (overlap := summary["overlap"]) is not None:
        share = overlap["share_of_valid_poses"]
        cards.append(Card(f"of the valid poses correlate above {overlap['threshold']}", f"{100 * share:.1f} %"))
    if (smooth := summary["smoothness"]) is not None and summary["accuracy"] is None:
        moved, turned = smooth["translation_mm"]["median"], smooth["rotation_deg"]["median"]
        cards.append(Card("median deviation from a constant velocity", f"{moved:.1f} mm, {turned:.1f} deg"))
    total = summary["latency_ms"].get("total")
    if total is not None and total["median"] is not None:
        cards.append(Card("latency, median (p99)", f"{total['median']:.1f} ({total['p99']:.1f}) ms"))
    return cards


def _accuracy_cards(accuracy: Mapping[str, Any]) -> list[Card]:
    cards = [
        Card(f"recall, {accuracy['metric']} below 10 %", f"{100 * accuracy['recall_10_percent']:.1f} %"),
        Card("recall, 5 cm and 5 deg", f"{100 * accuracy['recall_5cm_5deg']:.1f} %"),
    ]
    if (turned := accuracy["rotation_deg"]["median"]) is not None:
        cards.append(Card("median error", f"{turned:.2f} deg, {accuracy['translation_mm']['median']:.1f} mm"))
    return cards


def _count(number: int) -> tuple[str, bool]:
    return str(number), number == 0
