"""The shadow network and its steps: real crops to learn from, and renders on which it must answer as before."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.example import WINDOW_MARGIN, Example
from pnp_ros.adaptation.learning.distillation import (
    certainty_distillation,
    detector_distillation,
    keypoint_distillation,
)
from pnp_ros.adaptation.learning.objective import EProPnPLoss, RealCrops, images_of, pose_term, real_crops
from pnp_ros.adaptation.supervision import GIVEN, Supervision
from pnp_ros.detection.box import Box
from pnp_ros.detection.detector import Detector
from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork, DetectorPrediction
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig, RawPrediction
from pnp_ros.networks.precision import training_precision
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.models import load_keypoint_networks
from pnp_ros.rendering.camera_effects import apply_camera_effects, uniform
from pnp_ros.rendering.domain_randomisation import RandomisationConfig, with_views
from pnp_ros.rendering.training_samples import TrainingSampler
from pnp_ros.training.losses import detector_loss, keypoint_loss

_POOL, _FIRST_RENDERS, _RENDERS_PER_STEP = 256, 96, 1
_REAL = 3  # one crop in so many is real, the others are renders
_TURN = 0.5  # radians by which a real crop is turned at most; 0 for symmetric objects, whose keypoints might change
_ELSEWHERE = 0.5  # share of the real crops whose object is put before another background
_EFFECTS = 0.35  # of the strength in training: the images are the camera's own already
_KEPT_WEIGHT, _FIRMEST = 5.0, 20.0  # of the answers to renders, and at most; less forgets, more learns slowly
_DETECTOR_EVERY = 3  # steps; the detector learns faster
_DETECTED = 0.97  # share of the images from which on the detector is left as it is
_BESIDE = 8  # one in so many real crops shows the place beside the object
_AVERAGE = 0.97  # decay of the averaged weights, which are what is checked and used
_MAX_GRADIENT_NORM = 2.0
_WARM_UP = 8  # steps


@dataclass(frozen=True)
class StepLosses:
    """Losses of one step, dimensionless: of the poses and of the correspondences."""

    reprojection: float
    correspondence: float


def randomisation(package: ObjectPackage) -> RandomisationConfig:
    """The ranges of the renders that stand beside the real images."""
    network, detector = KeypointNetworkConfig.from_plain(package.network), DetectorConfig.from_plain(package.detector)
    ranges = RandomisationConfig(
        crop_size=network.crop_size,
        crop_margin=network.crop_margin,
        frame_size=(detector.width, detector.height),
        pool=_POOL,
    )
    return replace(with_views(ranges, package.views), colour=package.colour or ranges.colour)


def _part(raw: RawPrediction, first: int, last: int) -> RawPrediction:
    return RawPrediction(raw.heat[first:last], raw.log_factor[first:last], raw.presence[first:last])


class Learner:
    """Trains copies of the networks; for one thread, since it renders.

    The teacher on renders is the package's own networks, whatever was learnt since: small losses cannot add up. Batch
    normalisation keeps its statistics: a robot's images are too alike to give new ones.

    Args:
        package: of the object.
        config: rates and objective.
        device: where it learns.
        supervision: whether the references tell how certain the network may be.
    """

    def __init__(
        self,
        package: ObjectPackage,
        config: AdaptationConfig,
        device: torch.device,
        supervision: Supervision = GIVEN,
    ) -> None:
        self._config, self._device, self._supervision = config, device, supervision
        self._precision = training_precision(device)
        self._object_points = torch.from_numpy(np.ascontiguousarray(package.keypoints, np.float32)).to(device)
        self._sampler = TrainingSampler(
            package.mesh, package.keypoints, package.symmetry, randomisation(package), config.seed, device
        )
        self._sampler.refresh(_FIRST_RENDERS)
        self._known = [
            network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
            for network in load_keypoint_networks(package)
        ]
        self._turn = _TURN if package.symmetry.is_trivial else 0.0
        self._generator = torch.Generator(device).manual_seed(config.seed)
        self._rng = np.random.default_rng(config.seed)
        self._epropnp = EProPnPLoss(config.seed).train()
        self._kept_weight = _KEPT_WEIGHT
        self.steps = 0

    def start(
        self, keypoint_network: KeypointNetwork, detector: DetectorNetwork, examples: list[Example], rate: float = 1.0
    ) -> None:
        """Begin from these weights.

        Args:
            keypoint_network: of the object.
            detector: of the object; it is left as it is where it finds the object in nearly all examples.
            examples: to learn from.
            rate: factor on the learning rate.
        """
        self._keypoints, self._detector = (
            copy.deepcopy(network).to(self._device, memory_format=torch.channels_last).eval().requires_grad_(True)  # type: ignore[call-overload]
            for network in (keypoint_network, detector)
        )
        self._average = [copy.deepcopy(network).requires_grad_(False) for network in (self._keypoints, self._detector)]
        self._rate = rate * self._config.learning_rate
        self._optimizers = [
            torch.optim.AdamW(network.parameters(), lr=self._rate, weight_decay=1e-4)
            for network in (self._keypoints, self._detector)
        ]
        self._detector_learns = self._detected(examples) < _DETECTED
        self.steps = 0

    def _detected(self, examples: list[Example]) -> float:
        """Share of the examples whose object the detector finds first."""
        detector, found = Detector(self._detector, self._device), 0
        for example in examples:
            best = detector.detect(example.frame, 1)
            if best and best[0].score >= EstimatorConfig.detector_threshold:
                found += Box(*example.box.tolist()).holds(best[0].box.centre)
        return found / max(len(examples), 1)

    def step(self, examples: list[Example]) -> StepLosses:
        """One step of the keypoint network, now and then one of the detector as well.

        Args:
            examples: to draw from, at least one.
        """
        self._sampler.refresh(_RENDERS_PER_STEP)
        pose, correspondence = self._keypoint_loss(examples)
        self._descend(0, pose + correspondence)
        if self._detector_learns and self.steps % _DETECTOR_EVERY == 0:
            self._descend(1, self._detector_loss(examples))
        self.steps += 1
        return StepLosses(float(pose.detach()), float(correspondence.detach()))

    def hold_firmer(self) -> None:
        """Let the answers to renders count twice as much from now on: too much was forgotten."""
        self._kept_weight = min(2.0 * self._kept_weight, _FIRMEST)

    def candidate(self, share: float = 1.0) -> tuple[KeypointNetwork, DetectorNetwork]:
        """Networks on the CPU that lie this share of the way from the package's own weights to the averaged ones.

        A part of the way keeps more of what was known and most of what was gained (Wortsman et al., "Robust fine-tuning
        of zero-shot models", 2022).
        """
        networks = [copy.deepcopy(network).cpu() for network in self._average]
        for network, known in zip(networks, self._known):
            own = [parameter.cpu() for parameter in known.parameters()]
            torch._foreach_lerp_(list(network.parameters()), own, 1.0 - share)
        keypoints, detector = networks
        assert isinstance(keypoints, KeypointNetwork)
        assert isinstance(detector, DetectorNetwork)
        return keypoints, detector

    def _keypoint_loss(self, examples: list[Example]) -> tuple[Tensor, Tensor]:
        network = self._keypoints.config
        count = max(1, self._config.batch // _REAL)
        chosen = self._draw(examples, count)
        real = real_crops(
            chosen,
            self._object_points,
            network.crop_size,
            network.crop_margin,
            WINDOW_MARGIN,
            self._turn,
            self._generator,
        )
        renders = self._sampler.crops(self._config.batch - count)
        beside = self._beside(examples, max(1, count // _BESIDE))
        crops = self._surrounded(real, examples)
        images = torch.cat([crops, beside, renders.images]).contiguous(memory_format=torch.channels_last)
        keypoints = torch.cat([real.keypoints, real.keypoints[: len(beside)]])
        present = torch.arange(len(keypoints), device=self._device) < count
        with self._precision.autocast(self._device):
            raw = self._keypoints(images)
            with torch.no_grad():
                known = self._known[0](images[len(keypoints) :])
                certain = None if self._supervision.independent else self._known[0](images[:count])
        correspondence, _ = keypoint_loss(_part(raw, 0, len(keypoints)), keypoints, present)
        kept = keypoint_distillation(_part(raw, len(keypoints), len(images)), known)
        if certain is not None:
            kept = kept + certainty_distillation(_part(raw, 0, count), certain)
        pose = pose_term(self._config.objective, self._epropnp, _part(raw, 0, count), real)
        return pose, correspondence + self._kept_weight * kept

    def _surrounded(self, real: RealCrops, examples: list[Example]) -> Tensor:
        """The real crops (B, 3, S, S), some before other backgrounds, with other things behind and before the object.

        A few images show few surroundings, and seldom the object half hidden (Dwibedi et al., "Cut, paste and learn",
        2017); images of other places by the same camera are backgrounds, too.
        """
        count, coverage = len(real.images), real.coverage
        elsewhere = self._sampler.backgrounds(count)
        beside = self._beside(examples, count // 2)
        elsewhere[: len(beside)] = beside
        moved = uniform(coverage, self._generator, count, 1, 1, 1) < _ELSEWHERE
        layer = torch.cat([coverage * real.images, coverage], dim=1)
        images = self._sampler.surround(layer, real.keypoints.mean(1), torch.where(moved, elsewhere, real.images))
        return apply_camera_effects(images, self._generator, _EFFECTS)

    def _beside(self, examples: list[Example], count: int) -> Tensor:
        """(B, 3, S, S) crops of real images without the object; B is 0 where there are none."""
        found = [example.beside for example in self._draw(examples, count) if example.beside is not None]
        size = self._keypoints.config.crop_size
        if not found:
            return torch.zeros(0, 3, size, size, device=self._device)
        return images_of(found, self._device)

    def _detector_loss(self, examples: list[Example]) -> Tensor:
        count = max(1, self._config.batch // 4)
        chosen = self._draw(examples, count)
        frames = images_of([example.frame for example in chosen], self._device)
        frames = apply_camera_effects(frames, self._generator, 0.3)
        images = torch.cat([frames, self._sampler.frames(count).images]).contiguous(memory_format=torch.channels_last)
        boxes = torch.stack([example.box for example in chosen]).to(self._device)
        with self._precision.autocast(self._device):
            found = self._detector(images)
            with torch.no_grad():
                known = self._known[1](images[count:])
        real, renders = (
            DetectorPrediction(*(getattr(found, name)[part] for name in ("heat", "offset", "log_size")))
            for part in (slice(count), slice(count, None))
        )
        present = torch.ones(count, dtype=torch.bool, device=self._device)
        return detector_loss(real, boxes, present)[0] + self._kept_weight * detector_distillation(renders, known)

    def _schedule(self) -> float:
        """Factor on the learning rate: warm at first, and down to zero before each check."""
        progress = self.steps % self._config.check_steps / self._config.check_steps
        return min(1.0, (self.steps + 1) / _WARM_UP) * 0.5 * (1.0 + math.cos(math.pi * progress))

    def _draw(self, examples: list[Example], count: int) -> list[Example]:
        return [examples[i] for i in self._rng.choice(len(examples), count, replace=count > len(examples))]

    def _descend(self, index: int, loss: Tensor) -> None:
        optimizer = self._optimizers[index]
        network = (self._keypoints, self._detector)[index]
        for group in optimizer.param_groups:
            group["lr"] = self._rate * self._schedule()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
        if not bool(torch.isfinite(norm)):  # a single bad batch must not destroy the weights
            return
        optimizer.step()
        with torch.no_grad():
            decay = min(_AVERAGE, (1.0 + self.steps) / (10.0 + self.steps))
            torch._foreach_lerp_(list(self._average[index].parameters()), list(network.parameters()), 1.0 - decay)
