"""Training and inference of the demo's object on lesser processors, simulated by switching instructions off.

Run as ``python test/benchmark/bench_instructions.py`` (two minutes of CPU); ``--seconds 2`` for a quick look. Each
row is a process of its own on one thread, and all times are CPU times, so that other work does not count. Training is
all that a trained image costs: its share of a render (one in six), its composition, forward, backward and the
optimiser's step; of crops seen as colours and as edges, each in the batches that ``pnp-ros train`` gives them.
Inference is what runs where an object is searched for: detector and one crop. Only torch and the renderer are held
back; the solver's kernels and OpenCV are not. Writes ``out/bench/instructions.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

import numpy as np
import torch

from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.io.resources import resource
from pnp_ros.networks.edges import SEES
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.networks.precision import training_precision
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.models import load_models
from pnp_ros.training.batches import Batch, Kind
from pnp_ros.training.config import TrainingConfig
from pnp_ros.training.distributed import Group
from pnp_ros.training.optimisation import Phase, PhaseConfig, StepLoss
from pnp_ros.training.pose_losses import PoseLoss
from pnp_ros.training.samples import ObjectSampler, ObjectSamplerFactory, randomisation
from pnp_ros.training.steps import KeypointStep, detector_step

CPU = torch.device("cpu")
MACHINES = {  # what is switched off: matrix products, torch's own loops, the renderer's vectors
    "as it is": {},
    "AVX-512 alone": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "LP_NATIVE_VECTOR_WIDTH": "256"},
    "SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "LP_NATIVE_VECTOR_WIDTH": "128"},
}
RENDERED = 6  # samples made of one render
REPEATS = 7


def per_second(work: Callable[[], object]) -> float:
    """How often it is done in a second of CPU, the median of some after a first."""
    times = []
    for _ in range(REPEATS + 1):
        begin = process_time()
        work()
        times.append(process_time() - begin)
    return 1.0 / float(np.median(times[1:]))


def trained(network: torch.nn.Module, step: StepLoss, batches: Iterator[Batch], seconds: float) -> float:
    """Images a CPU second that a training goes through, all that they cost included."""
    seen = 0

    def counted() -> Iterator[Batch]:
        nonlocal seen
        for batch in batches:
            seen += len(batch["images"])
            yield batch

    with tempfile.TemporaryDirectory() as folder:
        phase = Phase(network, step, PhaseConfig("phase", seconds), Path(folder), CPU, Group(CPU), process_time)
        stream = counted()
        next(stream)
        begin, seen = process_time(), 0
        phase.run(stream, lambda progress: None)
    return seen / (process_time() - begin)


def batches(sampler: ObjectSampler, kind: Kind, size: int) -> Iterator[Batch]:
    """As a worker makes them that is never ahead."""
    while True:
        sampler.refresh(size // RENDERED)
        yield sampler.batch(kind, size)


def measure(package: ObjectPackage, seconds: float) -> dict[str, object]:
    """One machine's row."""
    torch.set_num_threads(1)
    config, points = TrainingConfig(), torch.from_numpy(np.ascontiguousarray(package.keypoints, np.float32))
    networks = {sees: KeypointNetwork(KeypointNetworkConfig(num_keypoints=len(points), sees=sees)) for sees in SEES}
    network = networks["colours"]
    ranges = randomisation(config, network.config.crop_size, network.config.crop_margin)
    sampler = ObjectSampler(ObjectSamplerFactory(package.mesh, points, package.symmetry, ranges), seed=1)
    precision = training_precision(CPU)
    step = KeypointStep(PoseLoss(config.loss, points), points, config.pose_loss_begin)
    crops = {
        f"training, crops by their {sees}": trained(
            network, step, batches(sampler, "crops", config.crop_batch), seconds
        )
        for sees, network in networks.items()
    }
    detector = DetectorNetwork(DetectorConfig())
    frames = trained(detector, detector_step, batches(sampler, "frames", config.frame_batch), seconds)
    composed = config.crop_batch * per_second(lambda: next(batches(sampler, "crops", config.crop_batch)))
    models = load_models(package, CPU, backend="torch")
    image = np.zeros((480, 640, 3), np.uint8)
    crop = torch.rand(1, 3, network.config.crop_size, network.config.crop_size)
    with torch.inference_mode():
        found = per_second(lambda: models.detector.detect(image, 1)), per_second(lambda: models.network(crop))
    return {
        "precision": str(precision),
        **crops,
        "training, frames": frames,
        "rendered and composed, crops": composed,
        "inference, detector": found[0],
        "inference, crop": found[1],
    }


def main() -> None:
    """Measure every machine in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of CPU for each network's training")
    parser.add_argument("--object", type=Path, default=None, help="package; the demo's object without it")
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=list(MACHINES))
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        package = load_object_package(arguments.object or resource("config/objects/demo"))
        print(json.dumps(measure(package, arguments.seconds)))
        return
    rows = {}
    for name in arguments.machines:
        command = [sys.executable, __file__, "--measure", "--seconds", str(arguments.seconds)]
        command += ["--object", str(arguments.object)] if arguments.object else []
        done = subprocess.run(command, env=os.environ | MACHINES[name], stdout=subprocess.PIPE, check=True, text=True)
        rows[name] = json.loads(done.stdout.splitlines()[-1])
        shown = [f"{key} {value:.1f}" if isinstance(value, float) else str(value) for key, value in rows[name].items()]
        print(f"{name}: {'; '.join(shown)}", flush=True)
    out = Path("out/bench/instructions.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
