"""PnP solvers side by side: time, success, accuracy and consistency of the covariance.

One run prints a table and writes ``out/bench/solvers.json`` (one record a cell) and ``out/bench/solvers.png``. All
solvers see the same problems: points in a cube of 2 m seen from 4 to 8 m away, f = 800 px, 2 px noise, uniform
outliers, one thread. OpenCV and PoseLib are called as their users do, on numpy arrays; ours through ``solve_pnp``, on
tensors; times are of one call for one problem, the median over problems. Success: within 5 deg and 5 % of the
distance. A new solver needs one line in ``SOLVERS``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import poselib
import torch
import warp as wp

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import se3, so3
from pnp_ros.geometry.covariance import nees
from pnp_ros.kernels import lm_launch
from pnp_ros.kernels.lm_problem import LMSettings
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pnp_net import PnPNetStart
from pnp_ros.solvers.robust_loss import Gaussian
from pnp_ros.types import Correspondences, Pose, PoseEstimate
from synthetic.cube import random_problems

matplotlib.use("Agg")
OUT = Path("out/bench")
POINTS = (8, 64, 512)
OUTLIERS = (0.0, 0.3, 0.6, 0.8)
TIMED = 0.5  # seconds in each cell, but at least 20 problems
SIGMA = 2.0
CHI2_90 = 10.645  # 90 % quantile of chi-square with six degrees of freedom
MATRIX = np.array([[800.0, 0.0, 320.0], [0.0, 800.0, 240.0], [0.0, 0.0, 1.0]])
POSELIB_CAMERA = {"model": "PINHOLE", "width": 640, "height": 480, "params": [800.0, 800.0, 320.0, 240.0]}


@dataclass
class Cell:
    """One solver on one kind of problem; errors in degrees and in percent of the distance."""

    solver: str
    n: int
    outliers: float
    batch: int
    device: str
    us: float  # for each problem
    success: float | None = None
    rot_deg_median: float | None = None
    rot_deg_p90: float | None = None
    trans_median: float | None = None
    trans_p90: float | None = None
    anees: float | None = None  # mean over the successes, divided by 6
    coverage90: float | None = None  # of the poses said to be usable


@dataclass
class Problem:
    """One problem in everybody's types; ``init`` is 10 deg and 5 % away from the truth."""

    correspondences: Correspondences
    camera: Camera
    init: Pose
    points: np.ndarray
    pixels: np.ndarray
    rvec: np.ndarray
    tvec: np.ndarray


Result = tuple[np.ndarray, np.ndarray] | PoseEstimate | None
Solver = Callable[[Problem], Result]


def opencv(flag: int, guess: bool = False) -> Solver:
    def solve(p: Problem) -> Result:
        if guess:
            rvec, tvec = p.rvec.copy(), p.tvec.copy()
            ok, rvec, tvec = cv2.solvePnP(p.points, p.pixels, MATRIX, None, rvec, tvec, True, flag)
        else:
            ok, rvec, tvec = cv2.solvePnP(p.points, p.pixels, MATRIX, None, flags=flag)
        return (rvec, tvec) if ok else None

    return solve


def opencv_ransac(iterations: int, flags: int = cv2.SOLVEPNP_ITERATIVE) -> Solver:
    def solve(p: Problem) -> Result:
        ok, rvec, tvec, _ = cv2.solvePnPRansac(
            p.points,
            p.pixels,
            MATRIX,
            None,
            iterationsCount=iterations,
            reprojectionError=3.0 * SIGMA,
            confidence=0.99,
            flags=flags,
        )
        return (rvec, tvec) if ok else None

    return solve


def poselib_default(p: Problem) -> Result:
    options = {"max_reproj_error": 3.0 * SIGMA}
    pose, _ = poselib.estimate_absolute_pose(p.pixels, p.points, POSELIB_CAMERA, options, {})
    return cv2.Rodrigues(pose.R)[0], pose.t


def ours(**options: object) -> Solver:
    return lambda p: solve_pnp(p.correspondences, p.camera, **options)


def ours_tracking(p: Problem) -> Result:
    return solve_pnp(p.correspondences, p.camera, init=p.init)


def ours_gaussian_tracking(p: Problem) -> Result:
    return solve_pnp(p.correspondences, p.camera, init=p.init, loss=Gaussian())


# name, solver, largest share of outliers that it makes sense for
SOLVERS: list[tuple[str, Solver, float]] = [
    ("OpenCV ITERATIVE", opencv(cv2.SOLVEPNP_ITERATIVE), 0.3),
    ("OpenCV ITERATIVE, guess", opencv(cv2.SOLVEPNP_ITERATIVE, guess=True), 0.3),
    ("OpenCV EPNP", opencv(cv2.SOLVEPNP_EPNP), 0.3),
    ("OpenCV SQPNP", opencv(cv2.SOLVEPNP_SQPNP), 0.3),
    ("OpenCV RANSAC, 100 it", opencv_ransac(100), 1.0),
    ("OpenCV RANSAC, 1000 it", opencv_ransac(1000), 1.0),
    ("OpenCV USAC_MAGSAC", opencv_ransac(1000, cv2.USAC_MAGSAC), 1.0),
    ("PoseLib", poselib_default, 1.0),
    ("ours, LM, guess", ours_gaussian_tracking, 0.3),
    ("ours, robust LM, guess", ours_tracking, 1.0),
    ("ours, robust, no guess", ours(), 1.0),
    ("ours, PnP-Net + LM", ours(init=PnPNetStart()), 1.0),
]

CONSENSUS = ("OpenCV RANSAC, 100 it", "OpenCV RANSAC, 1000 it", "OpenCV USAC_MAGSAC", "PoseLib")


def make_problems(n: int, outliers: float, count: int) -> tuple[list[Problem], Pose]:
    c, camera, truth = random_problems(count, n, sigma=SIGMA, outliers=outliers, seed=17)
    turn = so3.exp(torch.deg2rad(torch.tensor([2.0, -1.0, 2.0]) / 3.0 * 10.0))
    init = Pose(turn @ truth.rotation, truth.translation * 1.05)
    problems = []
    for i in range(count):
        one = Correspondences(c.image_points[i], c.object_points[i], c.weights[i])
        start = Pose(init.rotation[i].contiguous(), init.translation[i])
        rvec = cv2.Rodrigues(start.rotation.double().numpy())[0]
        tvec = start.translation.double().numpy()[:, None]
        points, pixels = one.object_points.double().numpy(), one.image_points.double().numpy()
        problems.append(Problem(one, camera, start, points, pixels, rvec, tvec))
    return problems, truth


def run_cell(name: str, solve: Solver, problems: list[Problem], truth: Pose, n: int, outliers: float) -> Cell:
    """Solve all problems for accuracy, and the first ones also for time: the best of three, the median of these."""
    rotations, translations, distances, right, times = [], [], [], [], []
    for i, problem in enumerate(problems):
        try:
            result = solve(problem)
            if i < 20 or sum(times) < TIMED:
                times.append(min(_timed(solve, problem) for _ in range(3)))
        except cv2.error:
            result = None
        pose, covariance = _pose(result)
        true = Pose(truth.rotation[i].double(), truth.translation[i].double())
        delta = se3.local(pose, true) if pose is not None else torch.full((6,), math.inf, dtype=torch.float64)
        rotations.append(math.degrees(float(delta[3:].norm())))
        translations.append(100.0 * float(delta[:3].norm() / true.translation.norm()))
        if covariance is not None:
            distances.append(float(nees(delta, covariance)))
            right.append(rotations[-1] < 5.0 and translations[-1] < 5.0)
    success = [r < 5.0 and t < 5.0 for r, t in zip(rotations, translations)]
    return Cell(
        name,
        n,
        outliers,
        1,
        "cpu",
        1e6 * statistics.median(times) if times else math.nan,
        statistics.mean(success),
        *_median_and_p90(rotations),
        *_median_and_p90(translations),
        statistics.mean(d for d, r in zip(distances, right) if r) / 6.0 if any(right) else None,
        statistics.mean(d < CHI2_90 for d in distances) if distances else None,
    )


def _timed(solve: Solver, problem: Problem) -> float:
    start = time.perf_counter()
    solve(problem)
    return time.perf_counter() - start


def _pose(result: Result) -> tuple[Pose | None, torch.Tensor | None]:
    if isinstance(result, PoseEstimate):
        pose = Pose(result.pose.rotation.double(), result.pose.translation.double())
        return (pose, result.covariance.double()) if bool(result.usable) else (None, None)
    if result is None or not np.isfinite(result[1]).all():
        return None, None
    rotation = torch.from_numpy(cv2.Rodrigues(np.asarray(result[0]))[0])
    return Pose(rotation, torch.tensor(result[1], dtype=torch.float64).reshape(3)), None


def _median_and_p90(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(int(0.9 * len(ordered)), len(ordered) - 1)]


def run_batches(device: str, sizes: tuple[int, ...]) -> list[Cell]:
    """Time for each problem when many are solved together, and of a recorded launch for one (``lm_launch``)."""
    cells = []
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    for batch in sizes:
        for name, outliers, options in (
            ("ours, LM, guess", 0.0, {"loss": Gaussian()}),
            ("ours, robust, no guess", 0.6, {}),
        ):
            c, camera, truth = random_problems(batch, 64, sigma=SIGMA, outliers=outliers, seed=23)
            c = Correspondences(*(t.to(device) for t in (c.image_points, c.object_points, c.weights)))
            camera = camera.to(device=device)
            if "loss" in options:
                turn = so3.exp(torch.tensor([0.1, -0.1, 0.1]))
                options["init"] = Pose((turn @ truth.rotation).to(device), (truth.translation * 1.05).to(device))
            solve_pnp(c, camera, **options)
            times = []
            for _ in range(200 if batch == 1 else 5):
                sync()
                start = time.perf_counter()
                solve_pnp(c, camera, **options)
                sync()
                times.append(time.perf_counter() - start)
            cells.append(Cell(name, 64, outliers, batch, device, 1e6 * min(times) / batch))
    return cells


def run_recorded() -> Cell:
    """The recorded launch alone, for a caller that brings buffers of its own: N = 64, B = 1, from a guess."""
    problems, _ = make_problems(64, 0.0, 50)
    settings = LMSettings()
    times = []
    for p in problems:
        c, camera, init = p.correspondences, p.camera, p.init
        shapes = ((3, 3), (3,), (6, 6), (64,), ())
        outputs = [torch.empty(shape) for shape in shapes] + [torch.empty((), dtype=torch.int8)]
        inputs = [c.image_points, c.object_points, c.weights, init.rotation, init.translation]
        buffers = [*inputs, camera.intrinsics, camera.distortion, *outputs]
        launch = lm_launch.launches.get(torch.device("cpu"), 1, 64, camera.model, False, 0, None)
        best = math.inf
        for _ in range(20):
            start = time.perf_counter()
            launch(buffers, settings, camera.width * camera.height)
            best = min(best, time.perf_counter() - start)
        times.append(best)
    return Cell("ours, LM, guess, recorded", 64, 0.0, 1, "cpu", 1e6 * statistics.median(times))


def run_consistency(count: int) -> list[Cell]:
    """Over many random problems: Gaussian noise against ANEES's chi-square band, outliers against coverage."""
    cells = []
    for n in (6, 8, 64, 512):
        cells.append(_consistency(n, 0.0, count, Gaussian()))
    for n, outliers in ((8, 0.3), (64, 0.3), (64, 0.6), (64, 0.8), (512, 0.3), (512, 0.6), (512, 0.8)):
        cells.append(_consistency(n, outliers, count if outliers < 0.8 else count // 10, None))
    return cells


def _consistency(n: int, outliers: float, count: int, loss: Gaussian | None) -> Cell:
    c, camera, truth = random_problems(count, n, sigma=SIGMA, outliers=outliers, seed=29)
    start = time.perf_counter()
    estimate = solve_pnp(c, camera, loss=loss)
    elapsed = time.perf_counter() - start
    delta = se3.local(estimate.pose, truth).double()
    degrees = delta[:, 3:].norm(dim=-1).rad2deg()
    percent = 100.0 * delta[:, :3].norm(dim=-1) / truth.translation.norm(dim=-1)
    right = (degrees < 5.0) & (percent < 5.0) & estimate.usable
    d2 = nees(delta, estimate.covariance.double())
    counted = right if outliers else estimate.usable  # one wrong pose of a robust solve would make up the mean
    return Cell(
        "ours, LM, no guess" if loss else "ours, robust, no guess",
        n,
        outliers,
        count,
        "cpu",
        1e6 * elapsed / count,
        float(right.double().mean()),
        *_median_and_p90(degrees.tolist()),
        *_median_and_p90(percent.tolist()),
        float(d2[counted].mean()) / 6.0,
        float((d2[estimate.usable] < CHI2_90).double().mean()),
    )


def print_cells(title: str, cells: list[Cell]) -> None:
    print(f"\n{title}")
    columns = "us  success  rot med  rot p90  tr med %  tr p90 %  ANEES/6  cover 90 %"
    print(f"{'solver':27s} {'N':>4s} {'outl':>5s} {'B':>6s} {'device':>6s} {columns:>77s}")
    for c in cells:
        values = [c.success, c.rot_deg_median, c.rot_deg_p90, c.trans_median, c.trans_p90, c.anees, c.coverage90]
        text = "".join(f"{'-' if v is None or math.isinf(v) else f'{v:.3f}':>9s}" for v in values)
        print(f"{c.solver:27s} {c.n:4d} {c.outliers:5.0%} {c.batch:6d} {c.device:>6s} {c.us:9.2f} {text}")


def plot(cells: list[Cell], path: Path) -> None:
    """Time and median rotation error over the share of outliers, at 64 points."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(13, 4.8))
    ours, others = iter(("black", "tab:blue", "tab:red", "tab:green")), iter(plt.get_cmap("Set2").colors)
    for name in dict.fromkeys(c.solver for c in cells):
        mine = [c for c in cells if c.solver == name and c.n == 64]
        x = [100 * c.outliers for c in mine]
        style: dict[str, object] = {"marker": "s", "markersize": 4, "linestyle": "--", "label": name}
        if name.startswith("ours"):
            style.update(color=next(ours), marker="o", linestyle="-", linewidth=2)
        else:
            style["color"] = next(others)
        axes[0].semilogy(x, [c.us for c in mine], **style)
        error = [c.rot_deg_median if (c.success or 0) > 0.5 else math.nan for c in mine]
        axes[1].plot(x, error, **style)
    axes[0].set(xlabel="outliers, %", ylabel="time, µs", title="64 points, one problem, one CPU core")
    axes[1].set(xlabel="outliers, %", ylabel="median rotation error, deg", title="where more than half succeed")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1.0))
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def headlines(cells: list[Cell], recorded: Cell, consistency: list[Cell], band: float) -> list[str]:
    """What the solvers promise, all from this run."""

    def at(name: str, outliers: float) -> Cell:
        return next(c for c in cells if (c.solver, c.n, c.outliers) == (name, 64, outliers))

    iterative, robust = at("OpenCV ITERATIVE, guess", 0.0).us, at("ours, robust, no guess", 0.6).us
    gaussian = [c for c in consistency if c.outliers == 0]
    others = [c for c in consistency if c.outliers in (0.3, 0.6)]
    lines = [
        f"LM from a guess, N=64: {iterative / at('ours, LM, guess', 0.0).us:.1f} x as fast as OpenCV ITERATIVE through"
        f" solve_pnp, {iterative / recorded.us:.1f} x as a recorded launch (covariance included)",
        f"robust without a guess, N=64, 60 % outliers: {at('PoseLib', 0.6).us / robust:.1f} x as fast as PoseLib,"
        f" {at('OpenCV USAC_MAGSAC', 0.6).us / robust:.0f} x as USAC_MAGSAC",
        f"Gaussian noise: ANEES/6 in its band for N = {', '.join(str(c.n) for c in gaussian if _within(c, band))}"
        f" of {', '.join(str(c.n) for c in gaussian)}",
        f"30 and 60 % outliers: {min(c.coverage90 or 0 for c in others):.1%} to"
        f" {max(c.coverage90 or 0 for c in others):.1%} of the errors in their 90 % region",
    ]
    for outliers in OUTLIERS:
        best = min(at(name, outliers).rot_deg_median or math.inf for name in CONSENSUS)
        net = at("ours, PnP-Net + LM", outliers)
        lines.append(
            f"PnP-Net + LM, N=64, {outliers:.0%}: {(net.rot_deg_median or math.inf) / best:.2f} of the lowest median"
            f" rotation error of {len(CONSENSUS)} consensus methods, success {net.success:.0%}, {net.us:.0f} us"
        )
    return lines


def _within(cell: Cell, band: float) -> bool:
    return cell.anees is not None and abs(cell.anees - 1.0) <= band


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=300, help="problems in each cell")
    parser.add_argument("--consistency", type=int, default=10_000, help="problems for the covariance's consistency")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cells = []
    for n in POINTS:
        for outliers in OUTLIERS:
            problems, truth = make_problems(n, outliers, arguments.problems)
            for name, solve, most in SOLVERS:
                if outliers <= most:
                    cells.append(run_cell(name, solve, problems, truth, n, outliers))
            print(f"N={n}, {outliers:.0%} outliers: done", flush=True)
    recorded = run_recorded()
    batches = [recorded, *run_batches("cpu", (1, 64, 1024))]
    lm_launch.initialise()
    if torch.cuda.is_available() and wp.is_cuda_available():
        batches += run_batches("cuda", (1, 1024, 65_536, 1_048_576))
    consistency = run_consistency(arguments.consistency)

    print_cells("One problem at a time", cells)
    print_cells("Batches", batches)
    band = 1.96 * math.sqrt(12.0 / arguments.consistency) / 6.0
    print_cells(f"Consistency; Gaussian noise: ANEES/6 within 1 +- {band:.4f} (95 %)", consistency)
    print("\n" + "\n".join(headlines(cells, recorded, consistency, band)))
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "solvers.json").write_text(json.dumps([asdict(c) for c in [*cells, *batches, *consistency]], indent=1))
    plot(cells, OUT / "solvers.png")
    print(f"\nwritten: {OUT / 'solvers.json'}, {OUT / 'solvers.png'}")


if __name__ == "__main__":
    main()
