"""An object package's networks, built and loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pnp_ros.detection.detector import Detector
from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.io.checkpoints import CheckpointError, read_tensors, under_prefix, with_prefix
from pnp_ros.networks.dense_network import DenseNetwork, DenseNetworkConfig
from pnp_ros.networks.fusion import fused
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.networks.onnx_runtime import BackendError, OnnxDenseNetwork, OnnxKeypointNetwork, for_inference
from pnp_ros.objects.object_package import ObjectPackage, ObjectPackageError
from pnp_ros.pipeline.calibration import CovarianceCalibration
from pnp_ros.sources.windows import Windows

KEYPOINTS, DENSE, DETECTOR = "keypoints", "dense", "detector"  # prefixes in weights.safetensors
CropNetwork = KeypointNetwork | DenseNetwork


@dataclass(frozen=True, eq=False)
class Models:
    """One set of weights, ready for inference.

    Args:
        network: in ``eval()`` mode, or its layers in ONNX Runtime.
        detector: that finds the object in a full image.
        calibration: of the covariance of the poses that come of them.
        windows: the network all over an image, for what the detector does not find; None: not looked for.
    """

    network: KeypointNetwork | OnnxKeypointNetwork | DenseNetwork | OnnxDenseNetwork
    detector: Detector
    calibration: CovarianceCalibration = field(default_factory=CovarianceCalibration)
    windows: Windows | None = None


def weights_of(network: nn.Module, detector_network: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``weights.safetensors``."""
    kind = DENSE if isinstance(network, DenseNetwork) else KEYPOINTS
    return with_prefix(kind, network.state_dict()) | with_prefix(DETECTOR, detector_network.state_dict())


def network_kind(package: ObjectPackage) -> str:
    """``keypoints`` or ``dense``: which network finds the package's correspondences.

    Raises:
        ObjectPackageError: if it says another one.
    """
    kind = package.network.get("kind", KEYPOINTS)
    if kind not in (KEYPOINTS, DENSE):
        raise ObjectPackageError(
            f"{package.root}/object.yaml: network.kind: expected {KEYPOINTS} or {DENSE}, got {kind!r}"
        )
    return str(kind)


def check_models(models: Models, package: ObjectPackage) -> None:
    """Whether other weights are of the package's object.

    Raises:
        ValueError: if they are of another kind than its network, or find another number of keypoints.
    """
    config, kind = models.network.config, network_kind(package)
    if config.kind != kind:
        raise ValueError(f"models: expected a network of the kind {kind}, got {config.kind}")
    count = len(package.keypoints)
    if isinstance(config, KeypointNetworkConfig) and config.num_keypoints != count:
        raise ValueError(f"models: expected {count} keypoints, got {config.num_keypoints}")


def load_networks(package: ObjectPackage) -> tuple[CropNetwork, DetectorNetwork]:
    """The package's networks as they were trained, on the CPU.

    Raises:
        ObjectPackageError: if the package has no weights, or they do not fit its settings.
    """
    if package.weights_path is None:
        raise ObjectPackageError(f"{package.root}: weights: missing; train the object first")
    kind = network_kind(package)
    network: CropNetwork
    try:
        if kind == DENSE:
            network = DenseNetwork(DenseNetworkConfig.from_plain(package.network))
        else:
            network = KeypointNetwork(KeypointNetworkConfig.from_plain(package.network))
    except (ValueError, TypeError) as error:
        raise ObjectPackageError(f"{package.root}/object.yaml: network.{error}") from error
    try:
        detector_network = DetectorNetwork(DetectorConfig.from_plain(package.detector))
    except (ValueError, TypeError) as error:
        raise ObjectPackageError(f"{package.root}/object.yaml: detector.{error}") from error
    try:
        tensors = read_tensors(package.weights_path)
    except CheckpointError as error:
        raise ObjectPackageError(str(error)) from error
    for prefix, module in ((kind, network), (DETECTOR, detector_network)):
        try:
            module.load_state_dict(under_prefix(prefix, tensors))
        except RuntimeError as error:
            raise ObjectPackageError(f"{package.weights_path}: do not fit the {prefix} network: {error}") from error
    return network, detector_network


def load_keypoint_networks(package: ObjectPackage) -> tuple[KeypointNetwork, DetectorNetwork]:
    """The same of a package whose network finds keypoints, for what works with those alone.

    Raises:
        ObjectPackageError: as :func:`load_networks`, and if it is another network.
    """
    network, detector = load_networks(package)
    if not isinstance(network, KeypointNetwork):
        raise ObjectPackageError(
            f"{package.root}: its network is {network_kind(package)}; this works with {KEYPOINTS} alone: "
            "train it with the network keypoints"
        )
    return network, detector


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
    network: CropNetwork,
    detector: DetectorNetwork,
    device: torch.device,
    calibration: CovarianceCalibration | None = None,
    backend: str = "auto",
) -> Models:
    """Copies for inference on ``device``; the networks themselves stay as they are.

    Raises:
        BackendError: if the ``backend`` cannot be used.
    """
    side, frame = network.config.crop_size, detector.config
    plain, plain_detector = (_copied(module, device) for module in (network, detector))
    return Models(
        for_inference(plain, side, side, backend, device),  # type: ignore[arg-type]
        Detector(for_inference(plain_detector, frame.height, frame.width, backend, device), device),  # type: ignore[arg-type]
        calibration or CovarianceCalibration(),
        Windows(plain, device),  # type: ignore[arg-type]
    )


def _copied(network: nn.Module, device: torch.device) -> nn.Module:
    copied: nn.Module = fused(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copied
