"""Real matches: ORB features of a video against a model's, and the corners of chessboards.

Neither has a measured truth. For the video, a frame counts as solvable where the solvers' own poses agree: the pose
with the most matches within 4 px among all solvers', if it has 20 or more. For chessboards it is the pose from all 54
corners by OpenCV; the solver gets some of them, and of these some are swapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from compared_solvers import Solver
from pnp_ros.types import Pose
from synthetic.lenses import Array, Lens
from synthetic.problems import Case, Problems

SHARED = Path(__file__).parents[3] / "shared" / "data"
VIDEO_LENS = Lens("cookie_box", 640, 480, (640.0, 640.0), (319.5, 239.5))  # not calibrated; the focal length fits best
EVERY = 5  # th frame
POINTS = 64
AGREE_PX, AGREE = 4.0, 20
FEW, SWAPPED = 20, 8


@dataclass(frozen=True)
class RealSet:
    """Problems from images; ``Problems.rotation`` and the rest are what the set takes for true."""

    name: str
    problems: Problems
    solvable: np.ndarray


def _problems(lens: Lens, sigma: float, pixels: Array, points: Array, pose: tuple[Array, Array]) -> Problems:
    count, n = pixels.shape[:2]
    whitening = np.broadcast_to(np.eye(2) / sigma, (count, n, 2, 2))
    case = Case(n=n, sigma=sigma)
    return Problems(case, lens, pixels, points, whitening, *pose, np.ones((count, n), bool))


def video_matches(folder: Path, ratio: float, every: int = EVERY, seed: int = 0) -> tuple[Array, Array]:
    """Image points (F, N, 2) and object points (F, N, 3) of frames of the cookie box, N of each frame's matches."""
    storage = cv2.FileStorage(str(folder / "cookies_ORB.yml"), cv2.FILE_STORAGE_READ)
    model_points = storage.getNode("points_3d").mat().reshape(-1, 3).astype(np.float64) / 100.0
    descriptors = storage.getNode("descriptors").mat()
    orb, matcher = cv2.ORB_create(2000), cv2.BFMatcher(cv2.NORM_HAMMING)
    generator = np.random.default_rng(seed)
    video = cv2.VideoCapture(str(folder / "box.mp4"))
    pixels, points = [], []
    index = 0
    while video.grab():
        index += 1
        if index % every:
            continue
        _, frame = video.retrieve()
        keypoints, seen = orb.detectAndCompute(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), None)
        pairs = matcher.knnMatch(seen, descriptors, k=2)
        good = [best for best, second in pairs if best.distance < ratio * second.distance]
        if len(good) < POINTS:
            continue
        some = generator.choice(len(good), POINTS, replace=False)
        pixels.append([keypoints[good[i].queryIdx].pt for i in some])
        points.append([model_points[good[i].trainIdx] for i in some])
    return np.array(pixels, np.float64), np.array(points, np.float64)


def video_set(folder: Path, ratio: float, solvers: dict[str, Solver], every: int = EVERY) -> RealSet:
    pixels, points = video_matches(folder, ratio, every)
    count = len(pixels)
    nowhere = (np.broadcast_to(np.eye(3), (count, 3, 3)), np.broadcast_to([0.0, 0.0, 1.0], (count, 3)))
    problems = _problems(VIDEO_LENS, 2.0, pixels, points, nowhere)
    best = np.zeros(count)
    rotation, translation = np.array(nowhere[0]), np.array(nowhere[1])
    for solver in solvers.values():
        pose = solver(problems).pose
        r, t = pose.rotation.double().numpy(), pose.translation.double().numpy()
        seen = points @ np.swapaxes(r, -1, -2) + t[:, None]
        error = np.linalg.norm(VIDEO_LENS.project(seen) - pixels, axis=-1)
        inliers = ((error < AGREE_PX) & (seen[..., 2] > 0.0)).sum(-1)
        better = inliers > best
        best[better], rotation[better], translation[better] = inliers[better], r[better], t[better]
    problems = _problems(VIDEO_LENS, 2.0, pixels, points, (rotation, translation))
    return RealSet(f"cookie box, ratio {ratio}", problems, best >= AGREE)


def chessboard_corners(folder: Path) -> tuple[Lens, Array, Array]:
    """The calibrated lens, image points (V, 54, 2) of both cameras' images, and the board's corners (54, 3)."""
    size = (9, 6)
    board = np.zeros((54, 3))
    board[:, :2] = 0.025 * np.stack(np.meshgrid(np.arange(9), np.arange(6)), axis=-1).reshape(-1, 2)
    pixels = []
    for path in sorted(folder.glob("left[0-9]*.jpg")):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        found, corners = cv2.findChessboardCorners(grey, size)
        if found:
            criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 30, 0.01)
            pixels.append(cv2.cornerSubPix(grey, corners, (5, 5), (-1, -1), criteria).reshape(-1, 2))
    image_points = np.array(pixels, np.float64)
    all_points = [board.astype(np.float32)] * len(pixels)
    as_float32 = [p.astype(np.float32) for p in pixels]
    _, k, d, _, _ = cv2.calibrateCamera(all_points, as_float32, (640, 480), None, None)
    lens = Lens("chessboard", 640, 480, (k[0, 0], k[1, 1]), (k[0, 2], k[1, 2]), tuple(d.ravel().tolist()))
    return lens, image_points, board


def chessboard_set(folder: Path, few: int, swapped: int, repeats: int = 20, seed: int = 0) -> RealSet:
    lens, corners, board = chessboard_corners(folder)
    generator = np.random.default_rng(seed)
    pixels, points, rotations, translations = [], [], [], []
    for image_points in corners:
        flags = cv2.SOLVEPNP_IPPE
        _, rvec, tvec = cv2.solvePnP(board, image_points, lens.matrix, lens.coefficients, flags=flags)
        rvec, tvec = cv2.solvePnPRefineLM(board, image_points, lens.matrix, lens.coefficients, rvec, tvec)
        for _ in range(repeats):
            some = generator.choice(54, few, replace=False)
            order = some.copy()
            order[:swapped] = np.roll(order[:swapped], 1)
            pixels.append(image_points[order])
            points.append(board[some])
            rotations.append(cv2.Rodrigues(rvec)[0])
            translations.append(tvec.ravel())
    pose = (np.array(rotations), np.array(translations))
    problems = _problems(lens, 0.3, np.array(pixels), np.array(points), pose)
    name = f"chessboard, {few} corners, {swapped} swapped"
    return RealSet(name, problems, np.ones(len(pixels), bool))


def run_real(solvers: dict[str, Solver], folder: Path = SHARED) -> tuple[list[str], list[dict]]:
    """Markdown, and the record; a word where the data are not there."""
    if not (folder / "cookie_box").is_dir():
        return ["", f"Left out: no recordings in {folder}."], []
    blind = {name: s for name, s in solvers.items() if name in ("ours", "ours, PnP-Net", "PoseLib", "MAGSAC", "COLMAP")}
    sets = [video_set(folder / "cookie_box", ratio, blind) for ratio in (0.8, 0.9, 0.97)]
    sets += [chessboard_set(folder / "chessboard", few, swapped) for few, swapped in ((6, 0), (FEW, SWAPPED))]
    lines = ["", "| Right, wrong and usable, in % | " + " | ".join(blind) + " |", "|---" * (len(blind) + 1) + "|"]
    record = []
    for real in sets:
        row = [f"{real.name}: {int(real.solvable.sum())} problems"]
        for name, solver in blind.items():
            answers = solver(real.problems)
            right = near(real.problems, answers.pose) & answers.usable & real.solvable
            wrong = ~near(real.problems, answers.pose) & answers.usable & real.solvable
            shares = (float(x.sum() / max(real.solvable.sum(), 1)) for x in (right, wrong))
            record.append({"set": real.name, "solver": name, **dict(zip(("right", "wrong"), shares))})
            row.append(f"{100 * record[-1]['right']:.1f}, {100 * record[-1]['wrong']:.2f}")
        lines.append("| " + " | ".join(row) + " |")
    return lines, record


def near(problems: Problems, pose: Pose) -> np.ndarray:
    """(B) within 5 degrees and 5 % of the distance of what is taken for true."""
    degrees, share, _ = problems.errors(Pose(torch.as_tensor(pose.rotation), torch.as_tensor(pose.translation)))
    return (degrees < 5.0) & (share < 0.05)
