"""Mesh to object package: render, train the detector and the network that finds correspondences, validate, write."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import itertools
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.evaluation.overlay import contact_sheet
from pnp_ros.io.checkpoints import read_tensors, serialised, under_prefix, write_bytes_atomically
from pnp_ros.io.images import write_image
from pnp_ros.io.resources import resource
from pnp_ros.networks.dense_network import DenseNetwork, DenseNetworkConfig
from pnp_ros.networks.edges import Sees
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.networks.precision import training_precision
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage, load_object_package, write_object_package
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.models import CropNetwork, load_networks, weights_of
from pnp_ros.rendering.domain_randomisation import RandomisationConfig, view_settings
from pnp_ros.rendering.validation_frames import ValidationFrame, validation_frames
from pnp_ros.sources.feature_table import make_feature_table, table_config
from pnp_ros.training.batches import Batch, BatchConfig, BatchSource, Kind
from pnp_ros.training.config import SHIPPED, TrainingConfig
from pnp_ros.training.distributed import Group, process_device
from pnp_ros.training.optimisation import Phase, PhaseConfig, Progress, StepLoss
from pnp_ros.training.pose_losses import PoseLoss
from pnp_ros.training.samples import ObjectSamplerFactory, randomisation
from pnp_ros.training.steps import DenseStep, KeypointStep, detector_step
from pnp_ros.training.validation import FEWEST, Verdict, calibrate, judged, summary, validation_image, verdict

logger = logging.getLogger(__name__)
CHECKPOINT_FOLDER = "training"
START = "config/start.safetensors"  # made by test/benchmark/learn_start.py
SHARED_LAYERS = ("pyramid", "head")  # of a keypoint network, which any object can use
_START_SEES: Sees = "edges"
_FIRST_LAYER = "stem."  # of the pyramid
_EASY_UNTIL = 0.5  # share of the budget of an object that is learnt by its edges
_SHOWN, _ACROSS, _SIDE = 48, 8, 128  # crops of a training that are shown, in a row, pixels
# neither the networks nor what they learn from depend on these: they may change when a training goes on
_FREE = ("minutes", "workers", "device", "detector_share", "validation_share", "validation_frames", "crop_batch")


class Reporter(Protocol):
    """Receives the progress of a training."""

    def begin(self, phase: str, seconds: float) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def begin_images(self, phase: str, count: int) -> None: ...
    def image(self) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True, eq=False)
class TrainedObject:
    """The package and how it did on held-out images."""

    package: ObjectPackage
    validation: dict[str, Any]
    verdict: Verdict


def train_object(
    name: str,
    mesh: TriangleMesh,
    symmetry: Symmetry,
    out: Path,
    config: TrainingConfig,
    reporter: Reporter,
) -> TrainedObject | None:
    """Train the networks of one object within the budget and write its package.

    An interrupted run leaves checkpoints in ``out/training``; the same call goes on from there, and so does one with
    more minutes, also of a run that came to its end. Checkpoints of another mesh, or of settings that change what is
    learnt, are refused.

    Args:
        name: of the object.
        mesh: in metres.
        symmetry: of the object.
        out: folder of the package.
        config: budget and settings.
        reporter: receives the progress.

    Returns:
        The package and its validation; None in all but the first of several processes.

    Raises:
        ValueError: for settings that do not fit the machine, for checkpoints of another run, or one at work there.
    """
    device = process_device(config.device)
    group = Group(device)
    with contextlib.ExitStack() as at_end:
        at_end.callback(group.close)
        if device.type == "cpu":
            torch.set_num_threads(_training_threads(group))
        logger.info("training in %s", training_precision(device))
        torch.manual_seed(config.seed)
        folder = out / CHECKPOINT_FOLDER
        at_end.enter_context(_alone(folder, group))
        _claim(folder, name, mesh, config, group)
        keypoints = select_keypoints(mesh, config.num_keypoints)
        network = new_network(config, mesh)
        ranges = randomisation(config, network.config.crop_size, network.config.crop_margin)
        easy_until = _EASY_UNTIL if config.sees == "edges" else 0.0
        points = torch.from_numpy(keypoints)
        factory = ObjectSamplerFactory(mesh, points, symmetry, ranges, config.device, easy_until)
        run = _Run(factory, config, folder, device, group, reporter)
        start, detector_start = initial_networks(
            network, DetectorNetwork(DetectorConfig(sees=config.sees)), keypoints, config.start_from
        )
        detector = run.phase("detector", detector_start)
        trained = run.phase(config.network, start)
        if not group.is_first:
            return None
        return _finish(name, mesh, symmetry, out, config, trained, detector, factory, reporter)


def new_network(config: TrainingConfig, mesh: TriangleMesh) -> CropNetwork:
    """The network that a run trains, with random weights."""
    if config.network == "dense":
        return DenseNetwork(DenseNetworkConfig(width=config.width, sees=config.sees), torch.from_numpy(mesh.bounds))
    sizes = KeypointNetworkConfig(num_keypoints=config.num_keypoints, width=config.width, sees=config.sees)
    return KeypointNetwork(sizes)


@dataclass(frozen=True, eq=False)
class _Run:
    """The circumstances that both phases share."""

    factory: ObjectSamplerFactory
    config: TrainingConfig
    folder: Path
    device: torch.device
    group: Group
    reporter: Reporter

    def phase(self, name: str, network: nn.Module) -> nn.Module:
        """Train one network, or load it if its budget is spent already."""
        config = self.config
        detector = name == "detector"
        seconds = config.detector_seconds if detector else config.keypoint_seconds
        phase = Phase(
            network,
            detector_step if detector else self._step(),
            PhaseConfig(name, seconds, config.learning_rate),
            self.folder,
            self.device,
            self.group,
        )
        if phase.finished:
            return phase.average
        kind: Kind = "frames" if detector else "dense" if config.network == "dense" else "crops"
        size = config.frame_batch if detector else config.crop_batch
        seed = config.seed + 104729 * (self.group.rank + 1) + 15485863 * phase.steps
        source = BatchConfig(kind, size, config.workers or _worker_count(self.device, self.group), seed)
        if self.group.is_first:
            self.reporter.begin(name, seconds)
        try:
            with BatchSource(self.factory, source) as batches:

                def report(progress: Progress) -> None:
                    batches.tell(phase.progress)
                    self._report(progress)

                return phase.run(batches if detector else self._shown(batches), report)
        finally:
            if self.group.is_first:
                self.reporter.end()

    def _shown(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; the crops of the first ones are left to be looked at, as the network sees them."""
        first = list(itertools.islice(batches, math.ceil(_SHOWN / self.config.crop_batch)))
        if self.group.is_first:
            crops = [crop for batch in first for crop in batch["images"].permute(0, 2, 3, 1).numpy()]
            write_image(self.folder.parent / "appearances.jpg", contact_sheet(crops[:_SHOWN], _ACROSS, _SIDE))
        yield from first
        yield from batches

    def _step(self) -> StepLoss:
        config, points = self.config, self.factory.keypoints.to(self.device)
        dense = config.network == "dense"
        pose_loss = PoseLoss(config.loss, points, config.seed + self.group.rank, dense).to(self.device)
        if dense:
            box = torch.from_numpy(self.factory.mesh.bounds) if config.from_poses else None
            return DenseStep(pose_loss, self.factory.mesh.diameter, config.pose_loss_begin, box)
        return KeypointStep(pose_loss, points, config.pose_loss_begin)

    def _report(self, progress: Progress) -> None:
        if self.group.is_first:
            self.reporter.progress(progress)


def initial_networks(
    network: CropNetwork,
    detector: DetectorNetwork,
    keypoints: np.ndarray,
    start_from: Path | Literal["shipped"] | None,
) -> tuple[CropNetwork, DetectorNetwork]:
    """The networks with the weights of a trained package, if one is given, or the layers that are shipped.

    Of another object all layers are taken but the last of the network that finds correspondences, of another kind of
    network the layers that both have.

    Raises:
        ValueError: if that package has networks of another size, or that see something else.
    """
    if start_from is None:
        return network, detector
    if start_from == SHIPPED:
        logger.info("the layers that come with pnp_ros are the start: they know another object")
        take_shared_layers(network, read_tensors(resource(START)), _START_SEES)
        return network, detector
    package = load_object_package(start_from)
    trained_network, trained_detector = load_networks(package)
    if network.config.sees != trained_network.config.sees:
        raise ValueError(
            f"start_from: the networks of {start_from} see {trained_network.config.sees}, expected "
            f"{network.config.sees}"
        )
    pairs: list[tuple[nn.Module, nn.Module]] = [(network, trained_network), (detector, trained_detector)]
    if type(network) is not type(trained_network):
        pairs[0] = network.pyramid, trained_network.pyramid
    elif package.keypoints.shape != keypoints.shape or not np.allclose(package.keypoints, keypoints, atol=1e-6):
        logger.info("%s is of another object: all layers are taken from it but the last", start_from)
        pairs[:1] = [(getattr(network, name), getattr(trained_network, name)) for name in SHARED_LAYERS]
    for module, trained in pairs:
        try:
            module.load_state_dict(trained.state_dict())
        except RuntimeError as error:
            raise ValueError(f"start_from: the networks of {start_from} have another size: {error}") from error
    return network, detector


def take_shared_layers(network: CropNetwork, layers: Mapping[str, Tensor], sees: Sees) -> None:
    """Give a keypoint network those layers of another one that any object can use.

    The first one, which knows what that network ``sees``, is left as it is where this one sees something else.
    """
    for name in SHARED_LAYERS:
        known = under_prefix(name, layers)
        if network.config.sees != sees:
            known = {layer: tensor for layer, tensor in known.items() if not layer.startswith(_FIRST_LAYER)}
        module = getattr(network, name)
        module.load_state_dict(module.state_dict() | known)


def _training_threads(group: Group) -> int:
    """One core in two trains, the others render: their work per image is about the same."""
    return max(1, (os.cpu_count() or 1) // (2 * group.size))


def _worker_count(device: torch.device, group: Group) -> int:
    cores = max(1, (os.cpu_count() or 1) // group.size)
    return max(1, cores - 1 if device.type == "cuda" else cores - _training_threads(group))


@contextlib.contextmanager
def _alone(folder: Path, group: Group) -> Iterator[None]:
    """No second training writes into the folder; the lock ends with the process, however that ends."""
    if not group.is_first:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{folder}: another training is at work here; let it end, or choose another folder"
            ) from error
        yield


def _claim(folder: Path, name: str, mesh: TriangleMesh, config: TrainingConfig, group: Group) -> None:
    """Mark the checkpoints as those of this object and these settings, or refuse those of others."""
    if not group.is_first:
        return
    digest = hashlib.sha256(mesh.vertices.tobytes() + mesh.faces.tobytes()).hexdigest()
    settings = {k: str(v) for k, v in sorted(vars(config).items()) if k not in _FREE}
    description = {"name": name, "mesh": digest, **settings}
    path = folder / "run.json"
    if path.is_file():
        usual = {k: str(v) for k, v in vars(TrainingConfig()).items()}  # a setting that an older run did not know
        before = usual | {"loss": "heatmap"} | json.loads(path.read_text())
        if differing := [key for key in description if before.get(key) != description[key]]:
            changes = ", ".join(f"{key} was {before.get(key)}, now {description[key]}" for key in differing)
            raise ValueError(
                f"{folder}: holds checkpoints of other settings ({changes}); "
                "repeat the former settings to go on, or remove the folder to start from the beginning"
            )
        logger.info("going on from the checkpoints in %s", folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, json.dumps(description, indent=1).encode())


def _finish(
    name: str,
    mesh: TriangleMesh,
    symmetry: Symmetry,
    out: Path,
    config: TrainingConfig,
    network: nn.Module,
    detector: nn.Module,
    factory: ObjectSamplerFactory,
    reporter: Reporter,
) -> TrainedObject:
    """Validate the networks, and write the package once: with its calibration and the features of the mesh."""
    assert isinstance(network, KeypointNetwork | DenseNetwork)
    assert isinstance(detector, DetectorNetwork)
    views = view_settings(factory.randomisation)
    write = functools.partial(
        write_object_package,
        name=name,
        mesh=mesh,
        keypoints=factory.keypoints.numpy(),
        symmetry=symmetry,
        network=network.config.to_plain(),
        detector=detector.config.to_plain(),
        views=views,
        colour=config.colour,
        weights=serialised(weights_of(network, detector)),
    )
    quarter = 15.0 * config.minutes * config.validation_share  # seconds
    held_out = _held_out(mesh, factory.randomisation, config, reporter)
    reporter.begin_images("validation", len(held_out))
    with tempfile.TemporaryDirectory(dir=out / CHECKPOINT_FOLDER) as folder:
        learnt = calibrate(write(Path(folder)), held_out[::2], seen=reporter.image, until=time.monotonic() + quarter)
    table = make_feature_table(mesh, table_config(views))
    features = table.serialised() if table.is_textured else None
    package = write(out, calibration=learnt.to_plain(), features=features)
    records = judged(package, held_out[1::2], seen=reporter.image, until=time.monotonic() + quarter)
    reporter.end()
    figures = summary(package, records)
    write_image(out / "validation.jpg", validation_image(package, held_out[1::2][: len(records)], records))
    write_bytes_atomically(out / "validation.json", json.dumps(figures, indent=1).encode())
    return TrainedObject(package, figures, verdict(figures, config.minutes))


def _held_out(
    mesh: TriangleMesh, ranges: RandomisationConfig, config: TrainingConfig, reporter: Reporter
) -> list[ValidationFrame]:
    """As many held-out images as are wanted and fit into half of the time for validation, yet enough to tell."""
    deadline = time.monotonic() + 30.0 * config.minutes * config.validation_share
    held_out: list[ValidationFrame] = []
    reporter.begin_images("held-out", config.validation_frames)
    for image in validation_frames(mesh, ranges, config.validation_frames, unseen=True):
        held_out.append(image)
        reporter.image()
        if time.monotonic() > deadline and len(held_out) >= 2 * FEWEST:
            break
    reporter.end()
    return held_out
