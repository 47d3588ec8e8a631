"""The cells of the big table: one thing is made hard at a time, then several at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from synthetic.problems import Case


@dataclass(frozen=True)
class Cell:
    """A row of the table.

    Args:
        group: its heading.
        name: what is special.
        case: the problems.
        determined: whether the points determine one pose: no mirrored one explains them nearly as well, and enough
            points are right.
    """

    group: str
    name: str
    case: Case
    determined: bool = True


USUAL = Case(n=64, outliers=0.3)
FLAT = replace(USUAL, shape="flat")


def _group(group: str, rows: dict[str, Case], undetermined: tuple[str, ...] = ()) -> list[Cell]:
    return [Cell(group, name, case, name not in undetermined) for name, case in rows.items()]


CELLS = [
    *_group(
        "Lenses, 64 points, 30 % outliers",
        {
            name: replace(USUAL, lens=name)
            for name in ("pinhole", "ip", "webcam", "tangential", "oak_d", "rational_4k", "tilted_14", "fisheye")
        },
    ),
    *_group(
        "Noise and resolution",
        {
            "0.3 px": replace(USUAL, sigma=0.3),
            "5 px": replace(USUAL, sigma=5.0),
            "4K, 1 px": replace(USUAL, width=3840),
            "4K, 5 px, ip lens": replace(USUAL, width=3840, lens="ip", sigma=5.0),
            "tele": replace(USUAL, lens="tele"),
            "object 48 px": replace(USUAL, extent=0.1),
            "object fills the image": replace(USUAL, extent=0.75),
        },
    ),
    *_group(
        "Shares of outliers",
        {
            "none": replace(USUAL, outliers=0.0),
            "60 %": replace(USUAL, outliers=0.6),
            "80 %": replace(USUAL, outliers=0.8),
            "90 %": replace(USUAL, outliers=0.9),
            "200 points, 90 %": replace(USUAL, n=200, outliers=0.9),
            "200 points, 95 %": replace(USUAL, n=200, outliers=0.95),
            "1000 points, 60 %": replace(USUAL, n=1000, outliers=0.6),
            "20 points, 80 %": replace(USUAL, n=20, outliers=0.8),
        },
        ("20 points, 80 %",),
    ),
    *_group(
        "Kinds of outliers, 64 points",
        {
            "near, 40 %": replace(USUAL, kind="near", outliers=0.4),
            "clustered, 60 %": replace(USUAL, kind="clustered", outliers=0.6),
            "clustered, 80 %": replace(USUAL, kind="clustered", outliers=0.8),
            "200 points, clustered, 90 %": replace(USUAL, n=200, kind="clustered", outliers=0.9),
            "second instance, 40 %": replace(USUAL, kind="second", outliers=0.4),
            "shuffled, 60 %": replace(USUAL, kind="shuffled", outliers=0.6),
            "clustered, 80 %, oak_d, flat": replace(FLAT, kind="clustered", outliers=0.8, lens="oak_d"),
        },
    ),
    *_group(
        "Flat and line-like objects",
        {
            "flat": FLAT,
            "flat, 191 px": replace(FLAT, outliers=0.0, extent=191 / 480),
            "flat, 89 px, 2 px": replace(FLAT, outliers=0.0, extent=89 / 480, sigma=2.0),
            "flat, 48 px": replace(FLAT, extent=0.1),
            "flat, 60 %": replace(FLAT, outliers=0.6),
            "flat, four points": replace(FLAT, n=4, outliers=0.0),
            "line-like": replace(USUAL, shape="line"),
        },
        ("flat, 89 px, 2 px", "flat, 48 px", "flat, four points"),
    ),
    *_group(
        "Few points",
        {
            "5": Case(n=5),
            "6": Case(n=6),
            "8": Case(n=8),
            "8, oak_d": Case(n=8, lens="oak_d"),
            "5, one outlier": Case(n=5, outliers=1 / 5),
            "6, one outlier": Case(n=6, outliers=1 / 6),
            "7, one outlier": Case(n=7, outliers=1 / 7),
            "8, three near outliers": Case(n=8, kind="near", outliers=3 / 8),
            "12, four outliers": Case(n=12, outliers=1 / 3),
        },
        # five points may have a second pose, six of which one is wrong are five
        ("5", "5, one outlier", "6, one outlier", "8, three near outliers"),
    ),
    *_group(
        "Weights, 64 points, 30 % outliers",
        {
            "half of what is right": replace(USUAL, weights="half"),
            "twice what is right": replace(USUAL, weights="double"),
            "per axis": replace(USUAL, weights="axes", sigma=2.0),
            "full 2x2": replace(USUAL, weights="full", sigma=2.0),
        },
    ),
]

# What network, search and both together are worth; with more than half on it, a second instance is the object.
NETWORK = "PnP-Net, many outliers"
KINDS = {
    "uniform": USUAL,
    "near": replace(USUAL, kind="near"),
    "clustered": replace(USUAL, kind="clustered"),
    "shuffled": replace(USUAL, kind="shuffled"),
    "flat": FLAT,
    "oak_d": replace(USUAL, lens="oak_d"),
}
CELLS += _group(
    NETWORK,
    {
        f"{kind}, {n} points, {share:.0%}": replace(case, n=n, outliers=share)
        for n, share in ((64, 0.8), (64, 0.85), (64, 0.9), (200, 0.9), (200, 0.95))
        for kind, case in KINDS.items()
    },
)

NOISE_POINTS = (5, 6, 8, 20, 32, 64, 200, 1000)
NOISE_IMAGES = {"VGA, 0.3 px": (640, 0.3), "VGA, 1 px": (640, 1.0), "VGA, 5 px": (640, 5.0), "4K, 1 px": (3840, 1.0)}
