"""Alignment by texture and contours: basin, accuracy, tracking, verdict, coverage, cost and reversals.

    PYTHONPATH=test python test/benchmark/bench_alignment.py castle video basin verdict coverage cost --problems 40

``castle`` compares with ``cv2.rapid`` in the same run where OpenCV has it (opencv-contrib, in an environment of its
own). Shares are of all images, ADD relative to the diameter. CPU time of one thread; quote ratios from loaded machines.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros import PoseEstimator, load_object, read_images
from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.consistency import conformal_factor
from pnp_ros.evaluation.overlap import normalised_cross_correlation
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.backgrounds import random_background
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.domain_shift import ShiftedScene, strong_shift
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.rendering.simulation import SimulationConfig
from pnp_ros.types import Pose
from synthetic.printed_box import printed_box
from synthetic.scenes import CAMERA, EXACT, Errors, Scene, perturbed, random_pose, scenes

CASTLE = Path(__file__).parents[3] / "shared" / "data" / "castle"
CUBE = CASTLE.parent / "cube"
# its images have pixel centres at half integers, its camera file is read with integer ones: half a pixel of doubt
KNOWN = AlignmentConfig(focal_sigma=0.0, centre_sigma=0.5, size_sigma=0.0, shape_sigma=0.0)
IN_90 = 10.645  # chi-square of six degrees of freedom
WRONG = 30.0  # NEES beyond which a pose is another one than it says


def add(mesh: TriangleMesh, pose: Pose, truth: Pose) -> float:
    points = torch.from_numpy(mesh.extreme_points)
    return float((pose.transform(points) - truth.transform(points)).norm(dim=-1).mean()) / mesh.diameter


def shares(errors: Sequence[float]) -> str:
    values = np.array(errors)
    parts = [f"{100 * np.mean(values < limit):5.1f}" for limit in (0.1, 0.05, 0.02, 0.01)]
    return f"within 10/5/2/1 %: {' '.join(parts)}   median {100 * np.median(values):.2f} %, n = {len(values)}"


def binomial(count: int, total: int) -> str:
    """A share with its 95 % Wilson interval."""
    share, z = count / max(total, 1), 1.96
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total**2)) / (1 + z * z / total)
    return f"{100 * share:.1f} % [{100 * max(middle - half, 0.0):.1f}, {100 * min(middle + half, 1.0):.1f}]"


def start_of(truth: Pose, degrees: float, share: float, seed: int):
    """A start so far off, which says so."""
    pose = perturbed(truth, degrees, share, seed)
    return start_at(pose, max(share * float(truth.translation.norm()), 1e-4), max(np.radians(degrees), 1e-3))


class Castle:
    """The castle's images, camera and poses."""

    def __init__(self) -> None:
        self.mesh, self.camera = (
            load_mesh(CASTLE / "castle.obj"),
            read_camera_info(CASTLE / "camera_info.yaml").camera(),
        )
        frames = json.loads((CASTLE / "poses.json").read_text())["frames"]
        self.truths = [Pose.from_matrix(torch.tensor(frame["T_camera_object"])) for frame in frames]
        self.images = [cv2.imread(str(CASTLE / "color" / frame["file"]))[..., ::-1].copy() for frame in frames]


def castle(problems: int) -> None:
    data = Castle()
    orders = {"forwards": slice(None), "backwards": slice(None, None, -1), "every 2nd": slice(0, None, 2)}
    orders["every 4th"] = slice(0, None, 4)
    for name, order in orders.items():
        truths, images = data.truths[order], data.images[order]
        step = max(float((a.translation - b.translation).norm()) for a, b in itertools.pairwise(truths))
        for tracker in (_ours(data, step), *_rapids(data)):
            errors = [add(data.mesh, pose, truth) for pose, truth in zip(tracker(images, truths[0]), truths)]
            print(f"castle {name:10} {tracker.__name__:15} {shares(errors)}", flush=True)
    aligner = Aligner(data.mesh, KNOWN)
    for degrees, share in ((5.0, 0.03), (10.0, 0.05), (20.0, 0.08)):
        found = []
        for seed, (image, truth) in enumerate(list(zip(data.images, data.truths))[:problems]):
            aligner.forget()
            found.append((aligner.align(image, data.camera, start_of(truth, degrees, share, seed)), truth))
        print(f"castle each image from {degrees:.0f} deg, {share:.0%}: {shares(_errors(data.mesh, found))}")
        report_consistency("  with mesh and focal length taken as exact, centre to 0.5 px", found)


def _ours(data: Castle, step: float) -> Callable:
    def aligned(images: list[NDArray], first: Pose) -> list[Pose]:
        aligner, start, poses = Aligner(data.mesh), start_of(first, 5.0, 0.03, 0), []
        for image in images:
            found = aligner.align(image, data.camera, start)
            poses.append(found.estimate.pose)
            start = start_at(found.estimate.pose, max(step, 0.01) / 2, 0.06)
        return poses

    return aligned


def _rapids(data: Castle) -> list[Callable]:
    """Trackers of OpenCV's contrib module, where there is one."""
    if not hasattr(cv2, "rapid"):
        print("cv2.rapid: not in this OpenCV")
        return []
    intrinsics = data.camera.matrix().numpy().astype(np.float64)
    vertices, faces = data.mesh.vertices, data.mesh.faces.astype(np.int32)

    def follow(kind: str) -> Callable:
        def tracked(images: list[NDArray], first: Pose) -> list[Pose]:
            tracker = getattr(cv2.rapid, f"{kind}_create")(vertices, faces)
            start = perturbed(first, 5.0, 0.03, 0)
            rvec = cv2.Rodrigues(start.rotation.numpy().astype(np.float64))[0]
            tvec, poses = start.translation.numpy().astype(np.float64).reshape(3, 1), []
            for image in images:
                until = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, 20, 1e-4)
                try:
                    _, rvec, tvec = tracker.compute(image, 200, 30, intrinsics, rvec, tvec, until)[:3]
                except cv2.error:  # it lost the object and asserts; the last pose stays
                    tracker.clearState()
                rotation = torch.from_numpy(cv2.Rodrigues(rvec)[0]).float()
                poses.append(Pose(rotation, torch.from_numpy(np.asarray(tvec)).float().reshape(3)))
            return poses

        tracked.__name__ = f"cv2 {kind}"
        return tracked

    return [follow(kind) for kind in ("Rapid", "OLSTracker", "GOSTracker")]


def objects() -> dict[str, TriangleMesh]:
    mesh = demo_mesh()
    return {"textured": mesh, "untextured": replace(mesh, uv=None, texture=None)}


def run(aligner: Aligner, drawn: Sequence[Scene], degrees: float, share: float) -> list[tuple[Alignment, Pose]]:
    found = []
    for seed, scene in enumerate(drawn):
        aligner.forget()
        start = start_of(scene.pose, degrees, share, seed)
        found.append((aligner.align(scene.image, scene.camera, start), scene.pose))
    return found


def _errors(mesh: TriangleMesh, found: Sequence[tuple[Alignment, Pose]]) -> list[float]:
    return [add(mesh, alignment.estimate.pose, truth) for alignment, truth in found]


ANGLES, MOVES = (0, 5, 10, 15, 20, 30, 40), (0.0, 0.03, 0.05, 0.1, 0.2)
BASIN = Path(__file__).parents[2] / "out" / "basin.png"


def basin(problems: int) -> None:
    """Success: supported by the image and within 2 % of the diameter. Renders with exact camera and mesh."""
    tables: dict[str, NDArray[np.float64]] = {}
    for name, mesh in objects().items():
        drawn = list(scenes(mesh, problems, 21, EXACT))
        kinds = {"contours": AlignmentConfig(texture=False)}
        if name == "textured":
            kinds = {"texture": AlignmentConfig(contours=False), **kinds}
        kinds["both" if name == "textured" else "contours and shades"] = AlignmentConfig()
        if name == "untextured":
            del kinds["contours"]  # the outline is that of the textured object
        for kind, config in kinds.items():
            aligner = Aligner(mesh, config)
            print(f"basin, {name} object, {kind}: % by degrees (rows) and share of the distance {MOVES}")
            rows = []
            for angle in ANGLES:
                row = []
                for move in MOVES:
                    found = run(aligner, drawn, angle, move)
                    right = [a.evidence.supported and e < 0.02 for (a, _), e in zip(found, _errors(mesh, found))]
                    row.append(100.0 * np.mean(right))
                rows.append(row)
                print(f"  {angle:3} deg {' '.join(f'{v:4.0f}' for v in row)}", flush=True)
            tables[f"{name}: {kind}"] = np.array(rows)
    plot_basin(tables, problems)


def plot_basin(tables: dict[str, NDArray[np.float64]], problems: int) -> None:
    """Success by how far the start is off, a panel for each kind of alignment, as :data:`BASIN`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.0 * len(tables), 3.4), layout="constrained")
    for panel, (kind, values) in zip(np.ravel(figure.subplots(1, len(tables), sharey=True)), tables.items()):
        panel.imshow(values, vmin=0.0, vmax=100.0, cmap="viridis", aspect="auto", origin="lower")
        for (row, column), value in np.ndenumerate(values):
            panel.text(column, row, f"{value:.0f}", ha="center", va="center", color="black" if value > 55 else "white")
        panel.set_xticks(range(len(MOVES)), [f"{move:.0%}" for move in MOVES])
        panel.set_yticks(range(len(ANGLES)), [f"{angle}°" for angle in ANGLES])
        panel.set_title(kind, fontsize=10)
        panel.set_xlabel("moved, share of the distance")
    figure.axes[0].set_ylabel("turned")
    figure.suptitle(f"% of {problems} starts that end within 2 % of the diameter and are supported", fontsize=10)
    BASIN.parent.mkdir(exist_ok=True)
    FigureCanvasAgg(figure).print_figure(BASIN, dpi=80)
    print(f"basin: {BASIN}")


def mirrored(mesh: TriangleMesh) -> TriangleMesh:
    return replace(mesh, vertices=mesh.vertices * np.float32([1, -1, 1]), faces=mesh.faces[:, ::-1].copy())


def reprinted(mesh: TriangleMesh, seed: int) -> TriangleMesh:
    if mesh.texture is None:
        return mesh
    print_ = random_background(mesh.texture.shape[1], mesh.texture.shape[0], np.random.default_rng(seed))
    return replace(mesh, texture=print_)


def recoloured(mesh: TriangleMesh, order: tuple[int, int, int]) -> TriangleMesh:
    assert mesh.texture is not None
    return replace(mesh, texture=np.ascontiguousarray(mesh.texture[..., list(order)]))


def verdict(problems: int) -> None:
    """How many are valid: of the object itself, also blurred and worn, and of what is not the object."""
    for name, mesh in objects().items():
        aligner = Aligner(mesh)
        for hidden in (0.0, 0.3, 0.6):
            found = run(aligner, list(scenes(mesh, problems, 31, Errors(occlusion=hidden))), 5.0, 0.03)
            valid = [alignment.evidence.supported for alignment, _ in found]
            explained = np.median([alignment.evidence.explained for alignment, _ in found])
            print(f"verdict, {name}, up to {hidden:.0%} hidden: valid {binomial(sum(valid), len(valid))}", end="")
            print(f", explained {explained:.2f}")
        kinds = {"blurred, worn, badly lit": [mesh], "blurred, worn, badly lit mirror image": [mirrored(mesh)]}
        for kind, (other,) in kinds.items():
            found = [pair for seed in range(4) for pair in run(aligner, shifted(other, problems // 4, seed), 5.0, 0.03)]
            valid = [alignment.evidence.supported for alignment, _ in found]
            print(f"verdict, {name}, {kind}: valid {binomial(sum(valid), len(valid))}", flush=True)
        others = {"mirror image": [mirrored(mesh)]}
        if name == "textured":
            others["another print"] = [reprinted(mesh, seed) for seed in range(4)]
            others["the print in other colours"] = [recoloured(mesh, order) for order in ((2, 0, 1), (1, 2, 0))]
        for kind, meshes in others.items():
            drawn = [
                s for k, other in enumerate(meshes) for s in scenes(other, problems // len(meshes), 32 + k, Errors())
            ]
            valid = [alignment.evidence.supported for alignment, _ in run(aligner, drawn, 5.0, 0.03)]
            print(f"verdict, {name}, {kind}: valid {binomial(sum(valid), len(valid))}", flush=True)


def shifted(mesh: TriangleMesh, count: int, seed: int) -> list[Scene]:
    """Images of a strong shift of domain, the believed camera slightly wrong."""
    shift = strong_shift(seed)
    scene = ShiftedScene(mesh, CAMERA, shift, SimulationConfig(seed=300 + seed))
    drawn: list[Scene] = []
    for index in itertools.count(0, 3):
        if len(drawn) == count:
            return drawn
        made = scene.frame(index, 3.0)
        if made.pose is not None and made.visible >= 0.3:
            pose = Pose(made.pose.rotation.float(), made.pose.translation.float())
            drawn.append(Scene(made.rgb, CAMERA, pose, 1.0 - made.visible))
    return drawn


def absent(problems: int, first: int = 0) -> None:
    """How many poses are valid where the object is not: clutter, and real images of other things.

    From ``first`` on, so that many images of clutter can be asked in parts; the real ones come with the first part.
    """
    for name, mesh in objects().items():
        images = itertools.chain(clutter(first, problems), () if first else real(problems))
        tally: dict[str, list[bool]] = {}
        aligner = Aligner(mesh)
        for index, (kind, image) in enumerate(images, first):
            aligner.forget()
            pose = random_pose(mesh.diameter, np.random.default_rng([34, index]))
            found = aligner.align(image, CAMERA, start_of(pose, 15.0, 0.1, index))
            tally.setdefault(kind, []).append(found.evidence.supported)
        for kind, valid in tally.items():
            print(f"absent, {name}, {kind}: {sum(valid)} of {len(valid)} valid, {binomial(sum(valid), len(valid))}")


def clutter(first: int, count: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for index in range(first, first + count):
        yield "clutter", random_background(CAMERA.width, CAMERA.height, np.random.default_rng([33, index]))


def real(count: int, without: str = "") -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Images and videos of shared/data, none of which shows the objects here; ``count`` of each folder."""
    for folder in sorted(path for path in CASTLE.parent.glob("*") if path.is_dir() and path.name != without):
        left = count
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".jpg", ".JPG", ".png", ".mp4")):
            video = cv2.VideoCapture(str(path))
            for index in itertools.count():
                there, image = video.read()
                if not there or left == 0:
                    break
                if index % 10 == 0:
                    left -= 1
                    yield f"real, {folder.name}", cv2.resize(image, (CAMERA.width, CAMERA.height))[..., ::-1].copy()


def report_consistency(name: str, found: Sequence[tuple[Alignment, Pose]]) -> None:
    used = [(a.estimate, truth) for a, truth in found if a.evidence.supported]
    deltas = [(se3.local(truth, e.pose).double(), e.covariance.double()) for e, truth in used]
    nees = np.array([float(covariance.nees(delta, spread)) for delta, spread in deltas])
    sigma = np.array([spread.diagonal().sqrt().numpy() for _, spread in deltas])
    inside = binomial(int((nees < IN_90).sum()), len(nees))
    x, z, turn = 1e3 * np.median(sigma[:, 0]), 1e3 * np.median(sigma[:, 2]), np.degrees(np.median(sigma[:, 3:]))
    size = f"{x:.1f} {z:.1f} mm {turn:.2f} deg"
    factor = conformal_factor(torch.from_numpy(nees))
    print(
        f"{name}: valid {len(used)} of {len(found)}, in the 90 % region {inside}, NEES mean {nees.mean():.1f}", end=""
    )
    print(f" median {np.median(nees):.1f}; sigma of x, z, rotation {size}; conformal factor {factor:.2f}", flush=True)


def coverage(problems: int) -> None:
    """Camera (0.5 %, 3 px), mesh (scale and shape 1 %), light, blur and noise off by more than the starts tell."""
    for name, mesh in objects().items():
        for hidden in (0.0, 0.4):
            found = run(Aligner(mesh), list(scenes(mesh, problems, 41, Errors(occlusion=hidden))), 5.0, 0.03)
            print(f"coverage, {name}, up to {hidden:.0%} hidden: {shares(_errors(mesh, found))}")
            report_consistency("  regions", found)


def cost(problems: int) -> None:
    """CPU milliseconds of one thread, images of 640x480, by kind of start."""
    for name, mesh in objects().items():
        aligner, times = Aligner(mesh), {"tracking": [], "beside (5 deg, 3 %)": [], "far (20 deg, 8 %)": []}
        for seed, scene in enumerate(scenes(mesh, problems, 51, EXACT)):
            aligner.forget()
            aligner.align(scene.image, scene.camera, start_of(scene.pose, 1.0, 0.01, seed))
            starts = [start_at(perturbed(scene.pose, 2.0, 0.005, seed), 0.03 * mesh.diameter, 0.05)]
            starts += [start_of(scene.pose, 5.0, 0.03, seed), start_of(scene.pose, 20.0, 0.08, seed)]
            for start, values in zip(starts, times.values()):
                begin = time.process_time()
                aligner.align(scene.image, scene.camera, start)
                values.append(1e3 * (time.process_time() - begin))
        for kind, values in times.items():
            print(
                f"cost, {name}, {kind}: p50 {np.median(values):.1f} ms, p99 {np.quantile(values, 0.99):.1f} ms",
                flush=True,
            )


def boxes() -> dict[str, TriangleMesh]:
    """Printed all over; flat; and printed on the two largest sides alone, the others plain."""
    lid = printed_box(2)
    assert lid.texture is not None
    lid.texture[:, : 4 * 256] = (170, 150, 120)
    return {"printed": printed_box(0), "flat": printed_box(1, (0.12, 0.09, 0.02)), "plain sides": lid}


def head_on(seed: int, most: float = 25.0) -> Callable[[float], Pose]:
    """Makes poses that show the largest side, 0 to 25 degrees from head on, 4 to 9 diameters away."""
    rng = np.random.default_rng(seed)

    def turn(*vector: float) -> torch.Tensor:
        return so3.exp(torch.tensor(vector, dtype=torch.float32))

    def pose(diameter: float) -> Pose:
        depth = diameter * rng.uniform(4.0, 9.0)
        x, y = rng.uniform((-0.2, -0.15), (0.2, 0.15))
        tilt, towards = np.radians(rng.uniform(0.0, most)), rng.uniform(-np.pi, np.pi)
        side, spin = turn(np.pi * rng.integers(2), 0.0, 0.0), turn(0.0, 0.0, rng.uniform(-np.pi, np.pi))
        facing = turn(-np.arctan(y), 0.0, 0.0) @ turn(0.0, np.arctan(x), 0.0)  # the object's place, nearly
        tilted = turn(tilt * np.cos(towards), tilt * np.sin(towards), 0.0)
        return Pose(facing @ tilted @ spin @ side, torch.tensor([x * depth, y * depth, depth]).float())

    return pose


def reversals(problems: int) -> None:
    """Boxes seen nearly head on, where a face fits its reversal, too: how many valid poses are wrong."""
    for seed, (name, mesh) in enumerate(boxes().items()):
        states, nees, spent = list[str](), list[float](), 0.0
        with tempfile.TemporaryDirectory() as folder:
            estimator = PoseEstimator(onboard(Path(folder) / "box", "box", mesh).package)
            for scene in scenes(mesh, problems, 60 + seed, Errors(), head_on(70 + seed)):
                estimator.reset()
                begin = time.process_time()
                found = estimator.estimate(scene.image, scene.camera)
                spent += time.process_time() - begin
                if found.state is not ObjectState.VALID or found.estimate is None:
                    told = "ambiguous" if found.hypotheses else str(found.state)
                    states.append(told)
                    continue
                delta = se3.local(scene.pose, found.estimate.pose).double()
                nees.append(float(covariance.nees(delta, found.estimate.covariance.double())))
                states.append("wrong" if nees[-1] > WRONG else "right")
        tally = ", ".join(f"{kind} {states.count(kind)}" for kind in sorted(set(states)))
        print(f"reversals, {name}: {tally} of {len(states)}; NEES mean {np.mean(nees):.1f}", end="")
        print(f" largest {max(nees):.0f}; {1e3 * spent / len(states):.0f} ms CPU an image", flush=True)


def video(problems: int) -> None:
    """The cube's real video from its mesh alone: how the valid poses, drawn, correlate with the image.

    Over the whole cube, and over the half of it that correlates best, as a mug hides the other one for a while. What
    chance gives there is told by poses 25 degrees off. Twenty-five images a problem; 40 are all of them.
    """
    mesh, camera = load_mesh(CUBE / "cube.obj"), read_camera_info(CUBE / "camera_info.yaml").camera()
    values, rng = [], np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, Renderer() as renderer:
        onboard(Path(folder) / "cube", "cube", mesh)
        estimator, drawn = PoseEstimator(load_object(Path(folder) / "cube")), renderer.add(mesh)
        for stamp, rgb in itertools.islice(read_images(CUBE / "cube_video.mp4"), problems * 25):
            found = estimator.estimate(rgb, camera, stamp)
            if found.state != "valid" or found.estimate is None:
                values.append((np.nan,) * 4)
                continue
            off = perturbed(found.estimate.pose, 25.0, 0.0, int(rng.integers(1 << 30)))
            values.append(
                tuple(v for at in (found.estimate.pose, off) for v in _correlations(renderer, drawn, at, camera, rgb))
            )
    whole, half, _, chance = np.array(values).T
    valid, low = np.isfinite(whole), whole < 0.3
    print(f"video: {valid.sum()} of {len(valid)} valid; drawn, {(whole > 0.6).sum()} correlate above 0.6", end="")
    print(f", {low.sum()} below 0.3", end="")
    if low.any():
        print(
            f", their better half by {np.median(half[low]):.2f} in the median, at least {half[low].min():.2f}", end=""
        )
    print(f"; better half 25 degrees off: 95 % below {np.nanquantile(chance, 0.95):.2f}", flush=True)


def _correlations(
    renderer: Renderer, drawn: int, pose: Pose, camera: Camera, rgb: NDArray[np.uint8]
) -> tuple[float, float]:
    """Of an image with the object drawn at a pose: over all of it, and over the best of 16 halves."""
    view = renderer.render([(drawn, pose)], camera)
    rows, columns = (np.flatnonzero((view.mask > 0).any(axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    seen, mask = rgb[box], (view.mask[box] > 0).astype(np.uint8)
    y, x = np.indices(mask.shape)
    y, x = y - y[mask > 0].mean(), x - x[mask > 0].mean()
    halves = [mask * (x * np.cos(angle) + y * np.sin(angle) > 0) for angle in np.arange(16) * np.pi / 8]
    whole, *parts = (normalised_cross_correlation(seen, view.rgb[box], part) for part in (mask, *halves))
    return whole, max(parts)


def main() -> None:
    parts: dict[str, Callable[..., None]] = {
        "castle": castle,
        "video": video,
        "basin": basin,
        "verdict": verdict,
        "absent": absent,
        "coverage": coverage,
        "cost": cost,
        "reversals": reversals,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; default all")
    parser.add_argument("--problems", type=int, default=40, help="images for each figure")
    parser.add_argument("--first", type=int, default=0, help="of absent's images of clutter, to ask them in parts")
    arguments = parser.parse_args()
    for name in arguments.parts or parts:
        if name not in parts:
            parser.error(f"PART: expected {', '.join(parts)}, got {name!r}")
        if name in ("castle", "video") and not CASTLE.is_dir():
            print(f"{name}: skipped, no {CASTLE.parent}")
            continue
        parts[name](arguments.problems, *([arguments.first] if name == "absent" else []))


if __name__ == "__main__":
    main()
