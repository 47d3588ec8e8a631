"""What a mesh alone gives: seconds to onboard it, then the poses of the real cube video against its pseudo-truth.

    PYTHONPATH=test python test/benchmark/bench_mesh.py [--frames 989] [--no-align] [--out out/bench_mesh]

``--package objects/cube`` is one that was trained on the cube, whose networks are measured instead.

The pseudo-truth is of 63 images, made by SIFT on renders and PnP; where one side shows it is itself off by ten degrees
and more, so each of its poses is judged by the correlation of the re-rendered cube, too. Leaves ``cube.json`` and a
sheet of images to be looked at.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmark.cube_judge import CubeJudge, Misses

from pnp_ros.evaluation.evaluator import OverlapMeter, evaluate_one
from pnp_ros.evaluation.frames import Frame, open_source
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay, contact_sheet, write_caption
from pnp_ros.evaluation.pose_error import add
from pnp_ros.evaluation.told import running
from pnp_ros.evaluation.truth import Truth
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.io.images import write_image
from pnp_ros.objects.mesh_files import load_mesh
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.pipeline.result import FrameResult
from pnp_ros.types import Pose

DATA = Path(__file__).parents[3] / "shared" / "data" / "cube"
LIMITS = (0.10, 0.05, 0.02)  # of the diameter
STANDS = 1.5  # pixels, of edges and of prints, up to which the image bears a truth out


def main() -> None:
    """Onboard or load, estimate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=989, help="images of the video")
    parser.add_argument("--package", type=Path, help="of the cube, trained; else it is onboarded")
    parser.add_argument("--no-align", action="store_true", help="each pose as it was solved from the source's points")
    parser.add_argument("--no-tracking", action="store_true", help="search every image anew")
    parser.add_argument("--sheet-every", type=int, default=42, help="images between those of the sheet")
    parser.add_argument("--out", type=Path, default=Path("out/bench_mesh"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    package = onboarded(arguments.out) if arguments.package is None else load_object_package(arguments.package)

    entries = json.loads((DATA / "pseudo_truth.json").read_text())["frames"]
    truths = {e["frame"]: Pose.from_matrix(torch.tensor(e["cTo"], dtype=torch.float64)) for e in entries}
    meter, overlay = OverlapMeter(package), MeshOverlay(package.mesh)
    points = torch.from_numpy(package.mesh.vertices[::3]).double()
    rows, cells, better = [], [], []
    source = open_source(DATA / "cube_video.mp4", camera=DATA / "camera_info.yaml")
    intrinsics = read_camera_info(DATA / "camera_info.yaml").camera().matrix().double().numpy()
    judge, judged = CubeJudge(package.mesh, intrinsics), list[tuple[float, Misses, Misses]]()

    def watch(frame: Frame, record: FrameResult) -> None:
        error, truth = None, truths.get(frame.image_id)
        if record.pose is not None and truth is not None:
            pose = Pose(record.pose.rotation.double(), record.pose.translation.double())
            error = float(add(pose, truth, points)) / package.diameter
            judged.append((error, *judge(frame.rgb, truth.matrix().numpy(), pose.matrix().numpy())))
            better.append((record.ncc or 0.0) > meter(frame, Pose(*(v.float() for v in vars(truth).values()))))
        rows.append(
            {
                "frame": frame.image_id,
                "state": str(record.state),
                "source": record.source,
                "add": error,
                "ncc": record.ncc,
                "explained": record.explained,
                "reason": record.reason,
            }
        )
        if frame.image_id % arguments.sheet_every == 0:
            drawn = frame.rgb
            if record.pose is not None:
                drawn = overlay.draw(drawn, record.pose, frame.camera, GREEN if record.is_valid else ORANGE)
            shown = "" if record.explained is None else f" {record.explained:.0%} explained"
            cells.append(write_caption(drawn, f"{frame.image_id} {record.state} {record.source}{shown}"))

    config = EstimatorConfig(align=not arguments.no_align, track=not arguments.no_tracking)
    begin = time.process_time()
    done = evaluate_one(
        islice(source.frames(), arguments.frames),
        package,
        running(PoseEstimator(package, config)),
        lambda frame: Truth(truths.get(frame.image_id), True) if frame.image_id in truths else Truth(),
        meter,
        watch=watch,
    )
    told = [row for row in rows if row["frame"] in truths]
    valid = [row for row in rows if row["state"] == "valid"]
    recalls = [np.mean([r["state"] == "valid" and r["add"] < limit for r in told]) for limit in LIMITS]
    low = [row["frame"] for row in valid if row["ncc"] < 0.3]
    totals = [1e3 * record.latency["total"] for record in done.records]
    figures = {
        "pseudo_true_images": len(told),
        "recall_10_5_2_percent": [round(float(value), 3) for value in recalls],
        "of_these_the_estimate_correlates_better_than_the_truth": round(float(np.mean(better)), 3) if better else None,
        **judgement(judged),
        "images": len(rows),
        "valid": len(valid),
        "valid_with_correlation_below_0.3": len(low),
        "these": low,
        "followed": sum(row["source"] == "tracking" for row in valid),
        "total_ms_median_p99": [round(float(v), 1) for v in np.percentile(totals, [50, 99])],
        "cpu_s": round(time.process_time() - begin, 1),
    }
    print(json.dumps(figures, indent=1))
    (arguments.out / "cube.json").write_text(json.dumps({**figures, "per_image": rows}, indent=1))
    write_image(arguments.out / "cube.png", contact_sheet(cells))
    print(f"{arguments.out}: cube.json, cube.png")


def onboarded(folder: Path) -> ObjectPackage:
    clock, cpu = time.monotonic(), time.process_time()
    made = onboard(folder / "cube", "cube", load_mesh(DATA / "cube.obj"))
    print(f"onboard: {time.monotonic() - clock:.1f} s, {time.process_time() - cpu:.1f} s CPU; {made.verdict}")
    return made.package


def judgement(judged: Sequence[tuple[float, Misses, Misses]]) -> dict[str, object]:
    """Figures of ADD, the truth's misses and the estimate's, image by image."""
    error = np.array([e for e, _, _ in judged])
    truth, ours = (np.array([[m.edges, m.prints] for m in misses]) for misses in list(zip(*judged))[1:])
    nearer, stands = ours < truth, (truth < STANDS).all(1)
    return {
        "judge_median_pixels_edges_prints": {
            "truth": np.nanmedian(truth, 0).round(2).tolist(),
            "estimate": np.nanmedian(ours, 0).round(2).tolist(),
        },
        "farther_apart_than_10_5_2_percent": [int((error > limit).sum()) for limit in LIMITS],
        "of_these_the_estimate_is_nearer_by_edges": [int(nearer[error > limit, 0].sum()) for limit in LIMITS],
        "of_these_the_estimate_is_nearer_by_prints": [int(nearer[error > limit, 1].sum()) for limit in LIMITS],
        "borne_out_truth_and_estimate": [int(stands.sum()), int((ours < STANDS).all(1).sum())],
        "recall_where_the_truth_is_borne_out": [round(float((error[stands] < limit).mean()), 3) for limit in LIMITS],
        "recall_or_nearer_by_both": [round(float(((error < limit) | nearer.all(1)).mean()), 3) for limit in LIMITS],
    }


if __name__ == "__main__":
    main()
