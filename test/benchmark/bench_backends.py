"""The demo's networks by torch and by ONNX Runtime, in float32 and in int8: accuracy, consistency, time, size, start.

Run as ``python test/benchmark/bench_backends.py --images 400``; quick: ``--images 60``. Held-out renders, each searched
anew, by the networks alone (no alignment, which would hide their errors) on one thread; then a moving object through
the whole estimator, followed and aligned. int8 is static quantisation, calibrated on crops and frames of other renders.
Writes ``out/bench/backends.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pnp_ros.detection.crop import crop_from_box
from pnp_ros.detection.detector import Detector, image_tensor, letter_box
from pnp_ros.evaluation.evaluator import evaluate_one
from pnp_ros.evaluation.frames import Frame
from pnp_ros.evaluation.report import measure
from pnp_ros.evaluation.told import running
from pnp_ros.evaluation.truth import Truth
from pnp_ros.io.resources import resource
from pnp_ros.networks.onnx_runtime import OnnxNetwork, exported
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.config import NETWORKS_ALONE
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import Models, load_models
from pnp_ros.rendering.domain_randomisation import RandomisationConfig
from pnp_ros.rendering.simulation import SimulatedScene, SimulationConfig
from pnp_ros.rendering.validation_frames import ValidationFrame, validation_frames
from pnp_ros.training.validation import SEEN
from pnp_ros.types import Pose

CPU = torch.device("cpu")
OUT = Path("out/bench")
RANGES = RandomisationConfig(elevation=(math.radians(-5.0), math.pi / 2), roll=(-math.pi / 4, math.pi / 4))
CALIBRATION_SEED, CALIBRATION_IMAGES = 77, 100


def quantised(network: nn.Module, samples: Sequence[Tensor]) -> tuple[OnnxNetwork, int]:
    """The network in int8, its ranges calibrated on ``samples`` (1, 3, H, W); also the model's bytes."""
    import onnxruntime
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quant_pre_process,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self._rest, None)
            return None if sample is None else {"images": sample.contiguous().numpy()}

    made = OnnxNetwork(network, samples[0])
    with tempfile.TemporaryDirectory() as folder:
        single, ready, small = (str(Path(folder) / name) for name in ("single.onnx", "ready.onnx", "small.onnx"))
        Path(single).write_bytes(exported(network, samples[0], list(vars(made(samples[0])))))
        quant_pre_process(single, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            small,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
        )
        content = Path(small).read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    made._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return made, len(content)


def calibration_samples(package: ObjectPackage, models: Models) -> tuple[list[Tensor], list[Tensor]]:
    """Crops and whole frames, as the two networks get them."""
    config, frame = models.network.config, models.detector._network.config
    crops, frames = [], []
    for image in validation_frames(package.mesh, RANGES, CALIBRATION_IMAGES, CALIBRATION_SEED):
        frames.append(image_tensor(letter_box(image.rgb, frame.width, frame.height)[0]))
        for found in models.detector.detect(image.rgb, 1):
            crop = crop_from_box(image.rgb, image.camera, found.box, config.crop_size, config.crop_margin)
            crops.append(image_tensor(crop.image))
    return crops, frames


def all_models(package: ObjectPackage) -> dict[str, tuple[Models, int]]:
    """Each backend's networks, and the bytes of their weights."""
    single = load_models(package, CPU, "torch")
    crops, frames = calibration_samples(package, single)
    keypoints, crop_bytes = quantised(single.network, crops)
    detector, frame_bytes = quantised(single.detector._network, frames)
    assert package.weights_path is not None
    size = package.weights_path.stat().st_size
    return {
        "torch": (single, size),
        "onnxruntime": (load_models(package, CPU, "onnxruntime"), size),
        "onnxruntime, int8": (
            Models(keypoints, Detector(detector), single.calibration),  # type: ignore[arg-type]
            crop_bytes + frame_bytes,
        ),
    }


def searched(package: ObjectPackage, models: Models, images: Sequence[ValidationFrame]) -> dict[str, Any]:
    """Held-out renders, by the networks alone."""
    estimator = PoseEstimator(package, NETWORKS_ALONE, backend="torch")
    estimator.use(models)

    def truth_of(frame: Frame) -> Truth:
        image = images[frame.image_id]
        known = image.T_camera_object
        pose = None if known is None else Pose.from_matrix(torch.from_numpy(known).float())
        return Truth(pose, image.visible >= SEEN)

    frames = (Frame(index, index, image.rgb, image.camera) for index, image in enumerate(images))
    return measure(evaluate_one(frames, package, running(estimator), truth_of).records, package)[0]


def followed(package: ObjectPackage, models: Models, count: int) -> dict[str, Any]:
    """A moving object, followed and aligned: what users get."""
    from pnp_ros.cameras.camera import Camera

    camera = Camera.pinhole(600.0, 600.0, 320.0, 240.0, 640, 480)
    scene = SimulatedScene(package.mesh, camera, SimulationConfig(seed=3))
    estimator = PoseEstimator(package, backend="torch")
    estimator.use(models)

    def frames() -> Iterator[Frame]:
        for index in range(count):
            made = scene.frame(index, 15.0)
            truths = () if made.pose is None else (made.pose,)
            yield Frame(index, round(1e9 * index / 15.0), made.rgb, camera, truths=truths)

    return measure(evaluate_one(frames(), package, running(estimator)).records, package)[0]


def milliseconds(call: Callable[[], object], repeats: int = 50) -> float:
    """CPU time of a call, the median."""
    spent = []
    for _ in range(repeats + 5):
        begin = time.process_time()
        call()
        spent.append(time.process_time() - begin)
    return 1e3 * float(np.median(spent[5:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--object", type=Path, default=resource("config/objects/demo"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    package = load_object_package(arguments.object)
    starts = {}
    for backend in ("torch", "onnxruntime", "torch", "onnxruntime"):  # the second time without the imports
        begin = time.process_time()
        load_models(package, CPU, backend)
        starts.setdefault(backend, []).append(round(time.process_time() - begin, 3))
    images = list(validation_frames(package.mesh, RANGES, arguments.images))
    crop, frame = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 240, 320)
    crop, frame = (each.contiguous(memory_format=torch.channels_last) for each in (crop, frame))
    rows = {}
    for name, (models, size) in all_models(package).items():
        alone = searched(package, models, images)
        moving = followed(package, models, arguments.images // 2)
        with torch.inference_mode():
            spent = [
                milliseconds(partial(models.network, crop)),
                milliseconds(partial(models.detector._network, frame)),
            ]
        rows[name] = {
            "start_cpu_s": starts.get(name),
            "keypoints_cpu_ms": round(spent[0], 2),
            "detector_cpu_ms": round(spent[1], 2),
            "megabytes": round(size / 1e6, 1),
            "add_recall_10_5": [round(100 * alone["accuracy"][f"recall_{n}_percent"], 1) for n in (10, 5)],
            "mean_nees": round(alone["consistency"]["mean_nees"], 2),
            "nees_bounds_95": [round(v, 2) for v in alone["consistency"]["mean_nees_bounds_95"]],
            "false_poses": alone["false_poses"],
            "search_total_ms": alone["latency_ms"]["total"],
            "followed_add_recall_5": round(100 * moving["accuracy"]["recall_5_percent"], 1),
            "followed_total_ms": moving["latency_ms"]["total"],
        }
        print(name, json.dumps(rows[name]))
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "backends.json").write_text(json.dumps({"images": arguments.images, **rows}, indent=1))


if __name__ == "__main__":
    main()
