"""What the image's verdict lets pass: the object itself, what is not the object, its reversal, a real video.

PYTHONPATH=test python test/benchmark/bench_verdict.py video verdict mirrors absent reversals --problems 40
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmark.aligned_renders import CASTLE, WRONG, Castle, FirstSight, binomial, objects, run, start_of
from benchmark.parts import chosen
from numpy.typing import NDArray

from pnp_ros import PoseEstimator, load_object, read_images
from pnp_ros.alignment.aligner import Aligner, Alignment, start_at
from pnp_ros.cameras.camera import Camera
from pnp_ros.evaluation.overlap import normalised_cross_correlation
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.backgrounds import random_background
from pnp_ros.rendering.domain_shift import ShiftedScene, strong_shift
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.rendering.simulation import SimulationConfig
from pnp_ros.sources.template_views import drawn_edges
from pnp_ros.types import Pose
from synthetic.cad_parts import bent_sheet, bracket
from synthetic.printed_box import printed_box
from synthetic.scenes import CAMERA, Errors, Scene, perturbed, random_pose, scenes

CUBE = CASTLE.parent / "cube"
_TOLD = 2.0  # pixels from which two edges are told apart


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
        sight = FirstSight(mesh)
        for hidden in (0.0, 0.3, 0.6):
            found = run(sight, list(scenes(mesh, problems, 31, Errors(occlusion=hidden))), 5.0, 0.03)
            valid = [alignment.evidence.supported for alignment, _ in found]
            explained = np.median([alignment.evidence.explained for alignment, _ in found])
            print(f"verdict, {name}, up to {hidden:.0%} hidden: valid {binomial(sum(valid), len(valid))}", end="")
            print(f", explained {explained:.2f}")
        kinds = {"blurred, worn, badly lit": [mesh], "blurred, worn, badly lit mirror image": [mirrored(mesh)]}
        for kind, (other,) in kinds.items():
            found = [pair for seed in range(4) for pair in run(sight, shifted(other, problems // 4, seed), 5.0, 0.03)]
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
            found = run(sight, drawn, 5.0, 0.03)
            valid = [alignment.evidence.supported for alignment, _ in found]
            print(f"verdict, {name}, {kind}: valid {binomial(sum(valid), len(valid))}", flush=True)
            if name == "untextured":
                _told(mesh, meshes[0], drawn, found)


def mirrors(problems: int) -> None:
    """Mirror images of other objects without texture."""
    for name, mesh in {"bracket": bracket(), "bent sheet": bent_sheet(), "castle": Castle().mesh}.items():
        sight = FirstSight(mesh)
        for kind, shown in {"itself": mesh, "mirror image": mirrored(mesh)}.items():
            drawn = list(scenes(shown, problems, 32, Errors()))
            found = run(sight, drawn, 5.0, 0.03)
            valid = [alignment.evidence.supported for alignment, _ in found]
            print(f"mirrors, {name}, {kind}: valid {binomial(sum(valid), len(valid))}", flush=True)
        _told(mesh, shown, drawn, found)


def _told(
    mesh: TriangleMesh, shown: TriangleMesh, drawn: Sequence[Scene], found: Sequence[tuple[Alignment, Pose]]
) -> None:
    """Of the mirror images that an edge tells: how many are valid.

    None does where the object's edges, drawn at the pose found, lie within two pixels of those of the mirror image,
    drawn where the image has it, and the other way round: all but 2 % of them.
    """
    own, other, aligner = Edges(mesh), Edges(shown), Aligner(shown)
    valid: list[bool] = []
    for scene, (alignment, truth) in zip(drawn, found):
        aligner.forget()
        there = aligner.compare(scene.image, scene.camera, start_at(truth, 0.02 * mesh.diameter, 0.05))
        sides = own(alignment.estimate.pose, scene.camera), other(there.estimate.pose, scene.camera)
        if np.quantile(np.concatenate([_beside(*sides), _beside(*sides[::-1])]), 0.98) > _TOLD:
            valid.append(alignment.evidence.supported)
    print(
        f"  an edge tells {len(valid)} of {len(drawn)}; of these valid {binomial(sum(valid), len(valid))}", flush=True
    )


def _beside(lines: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N,) pixels from each edge to the next of the others, both (H, W)."""
    return np.asarray(cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, 5)[lines])


class Edges:
    """Draws the edges of a mesh: outline, bends and steps in depth."""

    def __init__(self, mesh: TriangleMesh) -> None:
        self._mesh, self._normals = RayMesh(mesh), mesh.face_normals
        self._middle = mesh.bounds.mean(0)
        self._radius = float(np.linalg.norm(mesh.vertices - self._middle, axis=1).max())

    def __call__(self, pose: Pose, camera: Camera) -> NDArray[np.bool_]:
        """(H, W) of the camera's image."""
        distance = float(pose.transform(torch.from_numpy(self._middle)[None])[0, 2])
        y, x, *_ = drawn_edges(self._mesh.view(pose, camera), pose, self._normals, distance, self._radius)
        drawn = np.zeros((camera.height, camera.width), np.bool_)
        drawn[y, x] = True
        return drawn


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
        sight = FirstSight(mesh)
        for index, (kind, image) in enumerate(images, first):
            pose = random_pose(mesh.diameter, np.random.default_rng([34, index]))
            found = sight(image, CAMERA, start_of(pose, 15.0, 0.1, index))
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
        "video": video,
        "verdict": verdict,
        "mirrors": mirrors,
        "absent": absent,
        "reversals": reversals,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; default all")
    parser.add_argument("--problems", type=int, default=40, help="images for each figure")
    parser.add_argument("--first", type=int, default=0, help="of absent's images of clutter, to ask them in parts")
    arguments = parser.parse_args()
    for name, part in chosen(parser, parts, arguments.parts, {"video": CUBE, "mirrors": CASTLE}):
        part(arguments.problems, *([arguments.first] if name == "absent" else []))


if __name__ == "__main__":
    main()
