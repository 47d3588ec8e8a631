"""PnP solvers side by side: the tables of ``docs/solvers.md``.

Run as ``PYTHONPATH=test python test/benchmark/bench_solvers.py [--problems 2000]``, or ``make bench-solvers
ARGS="--problems 200"`` for a quick look. It prints, and writes to ``out/bench/`` as ``solvers.json``, ``solvers.md``
and ``solvers.png``:

- varied: right poses, and poses that are wrong though the solver stands by them, in every cell of ``solver_cells``;
- noise: how many problems of unrelated points are taken for an object;
- consistency: ANEES and coverage of the covariances;
- real: matches of a real video and corners of real images;
- speed: one problem at a time, in batches, and on a GPU where there is one; multiply-adds.

``--only varied speed`` runs some of these. A new solver needs one line in ``SOLVERS``.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from solver_cells import CELLS, NETWORK, NOISE_IMAGES, NOISE_POINTS, Cell

from compared_solvers import (
    Answers,
    Solver,
    one_by_one,
    ours,
    pycolmap,
    solve_colmap,
    solve_directly,
    solve_magsac,
    solve_poselib,
    turned,
)
from pnp_ros.solvers.classical import Classical
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pnp_net import PnPNet
from synthetic.problems import Case, Problems, draw

OUT = Path("out/bench")
CHI2_90 = 10.645  # 90 % quantile of chi-square with six degrees of freedom
PATIENCE = 6.0  # seconds of CPU time that a solver gets in a cell; of a slow one fewer problems are seen


def _no_options(problems: Problems):
    correspondences, camera = problems.correspondences(), problems.lens.camera()
    return lambda: solve_pnp(correspondences, camera)


def _from_near(problems: Problems):
    correspondences, camera = problems.correspondences(), problems.lens.camera()
    init = turned(problems, 10.0, 0.05)
    return lambda: solve_pnp(correspondences, camera, init=init)


def _from_anywhere(problems: Problems):
    correspondences, camera = problems.correspondences(), problems.lens.camera()
    init = turned(problems, 180.0, 0.2)
    return lambda: solve_pnp(correspondences, camera, init=init)


def _guided(problems: Problems):
    correspondences, camera = problems.correspondences(), problems.lens.camera()
    return lambda: solve_pnp(correspondences, camera, init=PnPNet())


def _network_alone(problems: Problems):
    """As in its paper: the points that the network trusts, and no search for others."""
    correspondences, camera = problems.correspondences(), problems.lens.camera()

    def call():
        trusted = PnPNet().likelihood_of(correspondences, camera) > 0.5
        return solve_pnp(correspondences.scaled(trusted.float()), camera, init=Classical("sqpnp"))

    return call


ALONE = "PnP-Net alone"
OURS: dict[str, Solver] = {
    "ours": ours(_no_options, 2.0 * PATIENCE),
    "ours, PnP-Net": ours(_guided, PATIENCE),
    "ours, 10 deg off": ours(_from_near, PATIENCE),
    "ours, any start": ours(_from_anywhere, PATIENCE),
    ALONE: ours(_network_alone, PATIENCE),
}
OTHERS: dict[str, Solver] = {
    "PoseLib": one_by_one(solve_poselib, PATIENCE),
    "MAGSAC": one_by_one(solve_magsac, PATIENCE),
    "IPPE/SQPnP + LM": one_by_one(solve_directly, PATIENCE),
}
if pycolmap is not None:
    OTHERS["COLMAP"] = one_by_one(solve_colmap, PATIENCE)
SOLVERS = OURS | OTHERS


@dataclass
class Score:
    """One solver in one cell; shares of the problems it has seen."""

    group: str
    cell: str
    determined: bool
    solver: str
    problems: int
    right: float  # and said to be usable
    wrong: float  # though said to be usable
    hidden: float  # of these, those whose alternative is wrong, too
    us: float
    degrees: float  # median rotation error of the right ones
    anees: float | None  # of the right ones, over 6
    coverage: float | None  # 90 % region, of all that is said to be usable


def score(cell: Cell, name: str, problems: Problems, answers: Answers) -> Score:
    seen = len(answers.usable)
    problems = problems.first(seen)
    right = problems.right(answers.pose)
    degrees, _, step = problems.errors(answers.pose)
    good, wrong = answers.usable & right, answers.usable & ~right
    hidden = wrong if answers.alternative is None else wrong & ~problems.right(answers.alternative)
    anees = coverage = None
    if answers.covariance is not None and good.any():
        distance2 = _squared_distance(step, answers.covariance)
        anees = float(distance2[good].mean() / 6.0)
        coverage = float((distance2[answers.usable] < CHI2_90).mean())
    return Score(
        cell.group,
        cell.name,
        cell.determined,
        name,
        seen,
        float(good.mean()),
        float(wrong.mean()),
        float(hidden.mean()),
        1e6 * answers.seconds,
        float(np.median(degrees[good])) if good.any() else math.nan,
        anees,
        coverage,
    )


def _squared_distance(step: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(B) of steps (B, 6), scaled first: metres and radians differ by orders of magnitude."""
    scale = np.sqrt(np.maximum(np.diagonal(covariance, axis1=-2, axis2=-1), 1e-30))
    scaled = covariance / (scale[:, :, None] * scale[:, None, :])
    scaled[~np.isfinite(scaled).all((-2, -1))] = np.eye(6)
    step = step / scale
    return np.einsum("bi,bi->b", step, np.linalg.solve(scaled, step[..., None])[..., 0])


def run_varied(count: int, seed: int, match: str, chosen: list[str], jobs: int) -> list[Score]:
    """Every cell in a process of its own, ``jobs`` at a time."""
    cells = [cell for cell in CELLS if match in f"{cell.group} {cell.name}"]
    with _processes(jobs) as pool:
        found = pool.map(run_cell, cells, [count] * len(cells), [seed] * len(cells), [chosen] * len(cells))
        return [one for scores in found for one in scores]


def run_cell(cell: Cell, count: int, seed: int, chosen: list[str]) -> list[Score]:
    scores = []
    start = time.process_time()
    problems = draw(cell.case, count, seed)
    for name in chosen:
        if name == "IPPE/SQPnP + LM" and cell.case.outliers > 0:
            continue
        if name == ALONE and cell.group != NETWORK:
            continue
        scores.append(score(cell, name, problems, SOLVERS[name](problems)))
    print(f"{cell.group}: {cell.name}: {time.process_time() - start:.0f} s", flush=True)
    return scores


def _processes(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _one_thread)


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@dataclass
class Noise:
    """Share of problems of unrelated points that a solver stands by."""

    solver: str
    image: str
    n: int
    problems: int
    accepted: float


def run_noise(count: int, seed: int, jobs: int) -> list[Noise]:
    cells = [(image, n) for image in NOISE_IMAGES for n in NOISE_POINTS]
    with _processes(jobs) as pool:
        found = pool.map(run_noise_cell, cells, [count] * len(cells), [seed] * len(cells))
        return [one for both in found for one in both]


def run_noise_cell(cell: tuple[str, int], count: int, seed: int) -> list[Noise]:
    image, n = cell
    width, sigma = NOISE_IMAGES[image]
    start = time.process_time()
    problems = draw(Case(n=n, width=width, sigma=sigma, noise_only=True), count, seed)
    answers = {name: OURS[name](problems).usable for name in ("ours", "ours, 10 deg off")}
    print(f"Unrelated points: {n}, {image}: {time.process_time() - start:.0f} s", flush=True)
    return [Noise(name, image, n, len(usable), float(usable.mean())) for name, usable in answers.items()]


def varied_tables(scores: list[Score]) -> list[str]:
    """Markdown: right and wrong in %, a row for each cell; ``*`` where the points do not determine one pose."""
    names = [name for name in SOLVERS if any(s.solver == name for s in scores)]
    lines = []
    for group in dict.fromkeys(s.group for s in scores):
        lines += ["", f"| {group} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        cells = {s.cell: s.determined for s in scores if s.group == group}
        for cell, determined in cells.items():
            row = [cell if determined else f"{cell} *"]
            for name in names:
                mine = [s for s in scores if (s.group, s.cell, s.solver) == (group, cell, name)]
                row.append(_shares(mine[0]) if mine else "-")
            lines.append("| " + " | ".join(row) + " |")
    return lines


def _shares(s: Score) -> str:
    wrong = f"{100 * s.wrong:.2f}" if s.hidden == s.wrong else f"{100 * s.wrong:.2f} ({100 * s.hidden:.2f})"
    return f"{100 * s.right:.1f}, {wrong}, {_microseconds(s.us)}"


def _microseconds(us: float) -> str:
    return f"{us:.0f} us" if us < 1000 else f"{us / 1000:.1f} ms"


def noise_table(found: list[Noise]) -> list[str]:
    images = list(NOISE_IMAGES)
    lines = ["", "| Points | " + " | ".join(images) + " |", "|---" * (len(images) + 1) + "|"]
    for n in NOISE_POINTS:
        row = [str(n)]
        for image in images:
            both = [x.accepted for x in found if (x.image, x.n) == (image, n)]
            row.append(" / ".join(f"{100 * x:.2f}" for x in both))
        lines.append("| " + " | ".join(row) + " |")
    return lines


def consistency_table(scores: list[Score]) -> list[str]:
    names = [n for n in SOLVERS if any(s.solver == n and s.anees is not None for s in scores)]
    lines = ["", "| Cell | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for key in dict.fromkeys((s.group, s.cell) for s in scores):
        row = [f"{key[0].split(',')[0]}: {key[1]}"]
        for name in names:
            mine = [s for s in scores if (s.group, s.cell, s.solver) == (*key, name) and s.anees is not None]
            row.append(f"{mine[0].anees:.2f}, {100 * (mine[0].coverage or 0):.1f}" if mine else "-")
        lines.append("| " + " | ".join(row) + " |")
    return lines


def verdict(scores: list[Score], noise: list[Noise]) -> list[str]:
    """What the solver promises, and where it falls short."""
    lines = []
    mine = {(s.group, s.cell): s for s in scores if s.solver == "ours"}
    poselib = {(s.group, s.cell): s for s in scores if s.solver == "PoseLib"}
    determined = [s for s in mine.values() if s.determined]
    if determined:
        bad = [f"{s.cell} ({100 * s.wrong:.2f} %)" for s in determined if s.wrong > 0.001]
        lines.append(
            f"- wrong and usable <= 0.1 % in {len(determined) - len(bad)} of {len(determined)} determined cells"
        )
        lines += [f"  - not in: {x}" for x in bad]
    for what, worse in (
        ("wrong and usable no more often than PoseLib is wrong", lambda a, b: a.wrong > b.wrong),
        ("right at least as often as PoseLib", lambda a, b: a.right < b.right),
    ):
        both = [(mine[k], poselib[k]) for k in mine if k in poselib]
        bad = [(a, b) for a, b in both if worse(a, b)]
        if both:
            lines.append(f"- {what}: {len(both) - len(bad)} of {len(both)} cells")
            lines += [
                f"  - not in: {a.group}: {a.cell}: right {100 * a.right:.2f} against {100 * b.right:.2f},"
                f" wrong {100 * a.wrong:.2f} against {100 * b.wrong:.2f}"
                for a, b in bad
            ]
    if noise:
        worst = max(noise, key=lambda x: x.accepted)
        where = f"{worst.solver}, N = {worst.n}, {worst.image}"
        lines.append(f"- pure noise accepted: at most {100 * worst.accepted:.2f} % ({where})")
    return lines


def plot(scores: list[Score], path: Path) -> None:
    """Right and wrong shares of every cell, a panel each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    cells = list(dict.fromkeys((s.group, s.cell) for s in scores))
    names = [n for n in SOLVERS if any(s.solver == n for s in scores)]
    colours = dict(zip(names, ["black", *plt.get_cmap("tab10").colors]))
    figure, axes = plt.subplots(1, 2, figsize=(13, 0.24 * len(cells) + 1.5), sharey=True)
    for name in names:
        for axis, field, floor in ((axes[0], "right", None), (axes[1], "wrong", 1e-2)):
            x, y = [], []
            for row, key in enumerate(cells):
                for s in scores:
                    if (s.group, s.cell, s.solver) == (*key, name):
                        value = 100 * getattr(s, field)
                        x.append(value if floor is None else max(value, floor))
                        y.append(row)
            marker = "o" if name.startswith("ours") else "x"
            axis.plot(x, y, marker, color=colours[name], markersize=5, alpha=0.8, label=name)
    axes[0].set(xlabel="right and usable, %", xlim=(-2, 102))
    axes[1].set(xlabel="wrong and usable, % (0.01: none)", xscale="log", xlim=(0.008, 130))
    axes[1].axvline(0.1, color="grey", linewidth=0.8)
    axes[0].set_yticks(range(len(cells)), [f"{g.split(',')[0]}: {c}" for g, c in cells], fontsize=7)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=7, loc="upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


SECTIONS = ("varied", "noise", "real", "speed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2000, help="problems in each cell (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--match", default="", help="only cells of the varied table whose name has this")
    parser.add_argument("--solvers", nargs="*", choices=list(SOLVERS), default=list(SOLVERS), metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2, help="processes, for shares; times of one process are measured")
    arguments = parser.parse_args()
    _one_thread()
    if pycolmap is None:
        print("COLMAP is left out: pycolmap is not installed (pip install pycolmap)")
    scores: list[Score] = []
    noise: list[Noise] = []
    lines: list[str] = []
    record: dict[str, object] = {"problems": arguments.problems, "seed": arguments.seed}
    if "varied" in arguments.only:
        scores = run_varied(arguments.problems, arguments.seed, arguments.match, arguments.solvers, arguments.jobs)
        lines += ["", "## Right, wrong and usable, in %; CPU time of one problem", *varied_tables(scores)]
        lines += ["", "## Covariance: ANEES / 6, and errors in the 90 % region in %", *consistency_table(scores)]
        record["varied"] = [asdict(s) for s in scores]
    if "noise" in arguments.only:
        noise = run_noise(arguments.problems, arguments.seed, arguments.jobs)
        lines += ["", "## Unrelated points accepted, in %: no options / from a pose", *noise_table(noise)]
        record["noise"] = [asdict(x) for x in noise]
    if "real" in arguments.only:
        from real_solves import run_real

        table, record["real"] = run_real(SOLVERS)
        lines += ["", "## Real matches", *table]
    if "speed" in arguments.only:
        from solver_speed import run_speed

        table, record["speed"] = run_speed()
        lines += ["", "## Speed", *table]
    if scores or noise:
        lines += ["", "## In short", "", *verdict(scores, noise)]
    text = "\n".join(lines)
    print(text)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "solvers.json").write_text(json.dumps(record, indent=1))
    (OUT / "solvers.md").write_text(text + "\n")
    if scores:
        plot(scores, OUT / "solvers.png")
    print(f"\nwritten: {OUT / 'solvers.json'}, {OUT / 'solvers.md'}" + (f", {OUT / 'solvers.png'}" if scores else ""))


if __name__ == "__main__":
    main()
