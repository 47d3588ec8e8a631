"""How fast the solvers are: one problem at a time as users call them, in batches, on a GPU, and in multiply-adds.

All solvers see the same problems: points in a cube of 2 m seen from 4 to 8 m away, f = 800 px, 2 px noise, uniform
outliers. Times of one call are the median over problems of the best of three, by the clock: from a solver's own input
to its own answer, ours until it is known whether the pose may be used.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
import warp as wp

from compared_solvers import solve_directly, solve_magsac, solve_poselib
from pnp_ros.geometry import so3
from pnp_ros.kernels import lm_launch
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pnp_net import PnPNet
from pnp_ros.solvers.robust_loss import Gaussian
from pnp_ros.types import Correspondences, Pose
from synthetic.cube import random_problems
from synthetic.lenses import Lens
from synthetic.problems import Case, draw

SIGMA = 2.0
PROBLEMS = 100
COLUMNS = ((8, 0.0), (8, 0.3), (64, 0.0), (64, 0.3), (64, 0.6), (64, 0.8), (512, 0.0), (512, 0.6))
BATCHED = (
    ("`loss=Gaussian(), init=pose`", 0.0),
    ("no options", 0.6),
    ("no options", 0.8),
    ("`init=PnPNet()`", 0.8),
)
OPERATIONS = (0.0, 0.3, 0.6, 0.8, 0.9)
SCORE, STEP, P3P, SOLUTIONS = 20, 75, 600, 2  # multiply-adds of a point; of a sample; poses of a sample, mostly
POLISH, JUDGE = 5, 25 + 64 * 8  # steps; multiply-adds of a point: its evidence, and where outliers crowd
VIEW = Lens("pinhole", 640, 480, (800.0, 800.0), (320.0, 240.0))


@dataclass(frozen=True)
class Speed:
    """Microseconds of one problem, and the median rotation error in degrees of the right ones; ``right`` in 0..1."""

    solver: str
    n: int
    outliers: float
    batch: int
    device: str
    us: float
    degrees: float | None = None
    right: float | None = None


@dataclass(frozen=True)
class One:
    """One problem in everybody's types; ``init``, or ``rvec`` and ``tvec``, is 10 deg and 5 % away from the truth."""

    correspondences: Correspondences
    matrices: Correspondences  # with the same weights as 2x2 matrices
    init: Pose
    points: np.ndarray
    pixels: np.ndarray
    rvec: np.ndarray
    tvec: np.ndarray


Answer = Pose | np.ndarray | None  # a matrix (3, 3) or a rotation vector (3, 1)


def _other(solve: Callable) -> Callable[[One], Answer]:
    def run(p: One) -> Answer:
        found = solve(p.pixels, p.points, VIEW, SIGMA)
        return None if found is None else found[0]

    return run


def _iterative(p: One) -> Answer:
    start = p.rvec.copy(), p.tvec.copy()  # it writes its answer there
    method = cv2.SOLVEPNP_ITERATIVE
    return cv2.solvePnP(p.points, p.pixels, VIEW.matrix, VIEW.coefficients, *start, True, method)[1]


def _ours(**options: object) -> Callable[[One], Answer]:
    camera = VIEW.camera()

    def run(p: One) -> Answer:
        estimate = solve_pnp(p.correspondences, camera, **options)
        return estimate.pose if estimate.usable else None

    return run


def _ours_from(loss: Gaussian | None, matrices: bool = False) -> Callable[[One], Answer]:
    camera = VIEW.camera()

    def run(p: One) -> Answer:
        estimate = solve_pnp(p.matrices if matrices else p.correspondences, camera, init=p.init, loss=loss)
        return estimate.pose if estimate.usable else None

    return run


def _rotation(answer: Answer) -> torch.Tensor | None:
    if answer is None:
        return None
    if isinstance(answer, Pose):
        return answer.rotation.double()
    return torch.from_numpy(answer if answer.shape == (3, 3) else cv2.Rodrigues(answer)[0])


# name, solver, largest share of outliers that it makes sense for
SOLVERS: list[tuple[str, Callable[[One], Answer], float]] = [
    ("OpenCV ITERATIVE, from a guess", _iterative, 0.0),
    ("OpenCV SQPNP + LM", _other(solve_directly), 0.0),
    ("OpenCV USAC_MAGSAC", _other(solve_magsac), 1.0),
    ("PoseLib", _other(solve_poselib), 1.0),
    ("`loss=Gaussian(), init=pose`", _ours_from(Gaussian()), 0.0),
    ("the same, 2x2 weights", _ours_from(Gaussian(), matrices=True), 0.0),
    ("`init=pose`", _ours_from(None), 1.0),
    ("no options", _ours(), 1.0),
    ("`init=PnPNet()`", _ours(init=PnPNet()), 1.0),
]


def _problems(n: int, outliers: float, count: int = PROBLEMS) -> tuple[list[One], Pose]:
    c, _, truth = random_problems(count, n, sigma=SIGMA, outliers=outliers, seed=17)
    turn = so3.exp(torch.deg2rad(torch.tensor([2.0, -1.0, 2.0]) / 3.0 * 10.0))
    init = Pose(turn @ truth.rotation, truth.translation * 1.05)
    problems = []
    for i in range(count):
        one = Correspondences(c.image_points[i], c.object_points[i], c.weights[i])
        start = Pose(init.rotation[i].contiguous(), init.translation[i])
        matrices = Correspondences(one.image_points, one.object_points, torch.diag_embed(one.weights))
        points, pixels = (x.double().numpy() for x in (one.object_points, one.image_points))
        rvec = cv2.Rodrigues(start.rotation.double().numpy())[0]
        tvec = start.translation.double().numpy()[:, None]
        problems.append(One(one, matrices, start, points, pixels, rvec, tvec))
    return problems, truth


def run_single() -> list[Speed]:
    found = []
    for n, outliers in COLUMNS:
        problems, truth = _problems(n, outliers)
        for name, solve, most in SOLVERS:
            if outliers > most:
                continue
            times, errors = [], []
            solve(problems[0])
            for i, problem in enumerate(problems):
                best = math.inf
                for _ in range(3):
                    start = time.perf_counter()
                    answer = solve(problem)
                    best = min(best, time.perf_counter() - start)
                times.append(best)
                rotation = _rotation(answer)
                if rotation is not None:
                    errors.append(math.degrees(float(so3.angle_between(rotation, truth.rotation[i].double()))))
            right = [e for e in errors if e < 5.0]
            degrees = statistics.median(right) if right else None
            found.append(
                Speed(name, n, outliers, 1, "cpu", 1e6 * statistics.median(times), degrees, len(right) / PROBLEMS)
            )
    return found


def run_batches(device: str, sizes: tuple[int, ...]) -> list[Speed]:
    """Time for each problem when many are solved together."""
    found = []
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    for batch in sizes:
        for name, outliers in BATCHED:
            c, camera, truth = random_problems(batch, 64, sigma=SIGMA, outliers=outliers, seed=23)
            c = Correspondences(*(t.to(device) for t in (c.image_points, c.object_points, c.weights)))
            camera = camera.to(device=device)
            turn = so3.exp(torch.tensor([0.1, -0.1, 0.1]))
            start = Pose((turn @ truth.rotation).to(device), (truth.translation * 1.05).to(device))
            init, loss = (None, None) if outliers else (start, Gaussian())
            init = PnPNet() if "PnPNet" in name else init
            solve_pnp(c, camera, init=init, loss=loss)
            times = []
            for _ in range(200 if batch == 1 else 5):
                sync()
                begin = time.perf_counter()
                solve_pnp(c, camera, init=init, loss=loss)
                sync()
                times.append(time.perf_counter() - begin)
            found.append(Speed(name, 64, outliers, batch, device, 1e6 * min(times) / batch))
    return found


def run_sizes() -> tuple[float, float]:
    """Microseconds of a call from a guess without outliers, with 64 points in each, and with 40 to 88 in turn."""
    solve, means = _ours_from(Gaussian()), []
    for sizes in ([64] * 49, list(range(40, 89))):
        problems = [_problems(n, 0.0, 1)[0][0] for n in sizes]
        solve(problems[0])
        times = []
        for _ in range(20):
            start = time.perf_counter()
            for problem in problems:
                solve(problem)
            times.append((time.perf_counter() - start) / len(problems))
        means.append(1e6 * min(times))
    return means[0], means[1]


def operations_table() -> list[str]:
    """Thousands of multiply-adds of a solve of 64 points, counted from the formulas, as PnP-Net's paper has them.

    A residual with its score takes ``SCORE`` a point, with its derivatives and normal equations ``STEP``; samples are
    those that find three inliers with 99 %, drawn from all points alike or by the network's likelihoods. Ours ends
    with 95 %, as a pose beyond doubt lets it (:mod:`pnp_ros.kernels.search_warp`), refines a sample by ``POLISH``
    steps each time it is the best so far, about ``1 + log(samples)`` times, and asks ``JUDGE`` a point at the end.
    """
    n, channels, outputs, layers = 64, 32, 34, 12
    network = n * (7 * channels + layers * (outputs * channels + 3 * channels) + 3 * (6 * channels + 40) + 4 * channels)
    refinement = 10 * (n * STEP + 160)
    names = ("RANSAC", "RANSAC guided by PnP-Net", "PnP-Net", "LM", "ours, no options", "ours, PnP-Net")
    rows: dict[str, list[str]] = {name: [] for name in names}
    for outliers in OPERATIONS:
        problems = draw(Case(n=n, outliers=outliers), 200)
        found = PnPNet().likelihood_of(problems.correspondences(), problems.lens.camera())
        inlier = torch.from_numpy(problems.inlier)
        trusted = float(((found * inlier).sum(-1) / found.sum(-1)).pow(3).mean())
        share = float(inlier.double().mean()) ** 3
        for name, chance in (("RANSAC", share), ("RANSAC guided by PnP-Net", 0.5 * (share + trusted))):
            samples = max(math.log(0.01) / math.log(max(1.0 - chance, 1e-9)), 1.0)
            search = samples * (P3P + SOLUTIONS * n * SCORE)
            extra = network if "guided" in name else 0
            rows[name].append(f"{(search + extra) / 1e3:,.0f}")
            samples = max(math.log(0.05) / math.log(1.0 - 0.8 * min(chance, 1.0)), 1.0)
            search = samples * (P3P + SOLUTIONS * n * SCORE) + (1.0 + math.log(samples)) * POLISH * (n * STEP + 160)
            mine = "ours, PnP-Net" if extra else "ours, no options"
            rows[mine].append(f"{(search + extra + refinement + n * JUDGE) / 1e3:,.0f}")
        rows["PnP-Net"].append(f"{network / 1e3:,.0f}")
        rows["LM"].append(f"{refinement / 1e3:,.0f}")
    heads = [f"{outliers:.0%}" for outliers in OPERATIONS]
    lines = ["", "| 1000 multiply-adds, 64 points | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    return lines + [f"| {name} | " + " | ".join(values) + " |" for name, values in rows.items()]


def run_speed() -> tuple[list[str], list[dict]]:
    """Markdown tables, and the record."""
    single = run_single()
    batches = run_batches("cpu", (1, 64, 1024))
    lm_launch.initialise()
    if torch.cuda.is_available() and wp.is_cuda_available():
        batches += run_batches("cuda", (1, 1024, 65_536, 1_048_576))
    heads = [f"{n}, {outliers:.0%}" for n, outliers in COLUMNS]
    lines = ["", "| us, median deg | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, _, _ in SOLVERS:
        row = [name]
        for column in COLUMNS:
            mine = [s for s in single if s.solver == name and (s.n, s.outliers) == column]
            row.append(_text(mine[0]) if mine else "-")
        lines.append("| " + " | ".join(row) + " |")
    sizes = list(dict.fromkeys((s.device, s.batch) for s in batches))
    lines += ["", "| 64 points, us a problem | " + " | ".join(f"{d}, batch {b}" for d, b in sizes) + " |"]
    lines.append("|---" * (len(sizes) + 1) + "|")
    for name, outliers in dict.fromkeys((s.solver, s.outliers) for s in batches):
        mine = [s for s in batches if (s.solver, s.outliers) == (name, outliers)]
        lines.append(f"| {name}, {outliers:.0%} outliers | " + " | ".join(f"{s.us:.2f}" for s in mine) + " |")
    same, other = run_sizes()
    lines += [
        "",
        f"`loss=Gaussian(), init=pose`, 64 points in each call {same:.0f} us, 40 to 88 in turn {other:.0f} us.",
    ]
    return lines + operations_table(), [asdict(s) for s in [*single, *batches]]


def _text(s: Speed) -> str:
    us = f"{s.us:.0f}" if s.us < 1000 else f"{s.us / 1000:.1f} k"
    text = us if s.degrees is None else f"{us}, {s.degrees:.2f}"
    return text if (s.right or 0.0) > 0.995 else f"{text}, {100 * (s.right or 0.0):.0f} % right"
