"""An object package's networks, built and loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pnp_ros.detection.detector import Detector
from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.io.checkpoints import CheckpointError, read_tensors, under_prefix, with_prefix
from pnp_ros.networks.fusion import fused
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.networks.onnx_runtime import BackendError, OnnxKeypointNetwork, for_inference
from pnp_ros.objects.object_package import ObjectPackage, ObjectPackageError
from pnp_ros.pipeline.calibration import CovarianceCalibration

KEYPOINTS, DETECTOR = "keypoints", "detector"  # prefixes in weights.safetensors


@dataclass(frozen=True, eq=False)
class Models:
    """One set of weights, ready for inference.

    Args:
        network: in ``eval()`` mode, or its layers in ONNX Runtime.
        detector: that finds the object in a full image.
        calibration: of the covariance of the poses that come of them.
    """

    network: KeypointNetwork | OnnxKeypointNetwork
    detector: Detector
    calibration: CovarianceCalibration = field(default_factory=CovarianceCalibration)


def weights_of(keypoint_network: nn.Module, detector_network: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``weights.safetensors``."""
    return with_prefix(KEYPOINTS, keypoint_network.state_dict()) | with_prefix(DETECTOR, detector_network.state_dict())


def load_networks(package: ObjectPackage) -> tuple[KeypointNetwork, DetectorNetwork]:
    """The package's networks as they were trained, on the CPU.

    Raises:
        ObjectPackageError: if the package has no weights, or they do not fit its settings.
    """
    if package.weights_path is None:
        raise ObjectPackageError(f"{package.root}: weights: missing; train the object first")
    try:
        keypoint_config = KeypointNetworkConfig.from_plain(package.network)
    except (ValueError, TypeError) as error:
        raise ObjectPackageError(f"{package.root}/object.yaml: network.{error}") from error
    try:
        detector_config = DetectorConfig.from_plain(package.detector)
    except (ValueError, TypeError) as error:
        raise ObjectPackageError(f"{package.root}/object.yaml: detector.{error}") from error
    try:
        tensors = read_tensors(package.weights_path)
    except CheckpointError as error:
        raise ObjectPackageError(str(error)) from error
    keypoint_network, detector_network = KeypointNetwork(keypoint_config), DetectorNetwork(detector_config)
    for prefix, network in ((KEYPOINTS, keypoint_network), (DETECTOR, detector_network)):
        try:
            network.load_state_dict(under_prefix(prefix, tensors))
        except RuntimeError as error:
            raise ObjectPackageError(f"{package.weights_path}: do not fit the {prefix} network: {error}") from error
    return keypoint_network, detector_network


def calibration_of(package: ObjectPackage) -> CovarianceCalibration:
    """The calibration of the package's networks.

    Raises:
        ObjectPackageError: naming the field that is wrong.
    """
    try:
        return CovarianceCalibration.from_plain(package.calibration)
    except (ValueError, TypeError) as error:
        raise ObjectPackageError(f"{package.root}/object.yaml: calibration.{error}") from error


def load_models(package: ObjectPackage, device: torch.device, backend: str = "auto") -> Models:
    """The package's networks on ``device``, in ``eval()`` mode, ready for inference.

    Args:
        backend: what calculates them, see :func:`pnp_ros.networks.onnx_runtime.for_inference`.

    Raises:
        ObjectPackageError: if the package has no weights, they do not fit its settings, or the backend cannot be used.
    """
    try:
        return prepared(*load_networks(package), device, calibration_of(package), backend)
    except BackendError as error:
        raise ObjectPackageError(f"{package.root}: {error}") from error


def prepared(
    keypoint_network: KeypointNetwork,
    detector: DetectorNetwork,
    device: torch.device,
    calibration: CovarianceCalibration | None = None,
    backend: str = "auto",
) -> Models:
    """Copies for inference on ``device``; the networks themselves stay as they are.

    Raises:
        BackendError: if the ``backend`` cannot be used.
    """
    side, frame = keypoint_network.config.crop_size, detector.config
    fast_keypoints, fast_detector = (
        for_inference(_copied(network, device), height, width, backend, device)
        for network, height, width in ((keypoint_network, side, side), (detector, frame.height, frame.width))
    )
    return Models(fast_keypoints, Detector(fast_detector, device), calibration or CovarianceCalibration())  # type: ignore[arg-type]


def _copied(network: nn.Module, device: torch.device) -> nn.Module:
    copied: nn.Module = fused(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copied
