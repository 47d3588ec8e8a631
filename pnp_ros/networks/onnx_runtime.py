"""Networks calculated by ONNX Runtime in place of torch, on one thread: no barrier where threads wait for each other.

A network is exported in memory when it is loaded (0.2 s), from the very tensors that torch has: there is no second file
of weights that could be stale or wrong, and adapted versions take the same way. What ONNX Runtime makes of it is
compared with torch before it is used.
"""

from __future__ import annotations

import inspect
import io
import logging
import threading
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from pnp_ros.networks.dense_network import DenseNetwork, DenseNetworkConfig, DensePrediction, best_cells
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig, KeypointPrediction, decode

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "onnxruntime", "torch")
TOLERANCE = 1e-3  # of logits and logarithms; it moves a keypoint by 0.02 px at most. Measured: 1e-5
_OPSET = 17
_SAMPLES = 2
_exporting = threading.Lock()  # torch's exporter keeps its state in globals
_said: set[str] = set()


class BackendError(ValueError):
    """A backend that was asked for cannot be used; the message says why."""


class OnnxNetwork(nn.Module):
    """A network's layers in ONNX Runtime: the same call, the same result type, CPU and inference only.

    Args:
        network: in ``eval()`` mode, on the CPU; its call returns a dataclass of tensors, batch first.
        sample: (B, 3, H, W) images of the size that all later ones have; any B.

    Raises:
        BackendError: if it cannot be exported or loaded, or its values differ from torch's by over :data:`TOLERANCE`.
    """

    config: Any

    def __init__(self, network: nn.Module, sample: Tensor) -> None:
        super().__init__()
        import onnx  # noqa: F401, without which torch exports nothing
        import onnxruntime

        self.config = network.config
        with torch.inference_mode():
            expected = network(sample)
        self._result, names = type(expected), list(vars(expected))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        try:
            model = exported(network, sample, names)
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            found = self(sample)
        except Exception as error:  # both libraries have a dozen kinds of their own
            raise BackendError(f"onnxruntime: {type(network).__name__} cannot be exported: {error}") from error
        self.difference = max(float((vars(found)[n] - vars(expected)[n]).abs().max()) for n in names)
        if not self.difference <= TOLERANCE:
            raise BackendError(
                f"onnxruntime: {type(network).__name__} differs from torch by {self.difference:.2g}, "
                f"expected at most {TOLERANCE:g}"
            )

    def forward(self, images: Tensor) -> Any:
        """(B, 3, H, W) RGB in [0, 1] to the network's maps."""
        found = self._session.run(None, {"images": images.contiguous().numpy()})
        return self._result(*map(torch.from_numpy, found))


class OnnxKeypointNetwork(OnnxNetwork):
    """A :class:`~pnp_ros.networks.keypoint_network.KeypointNetwork` in ONNX Runtime; decoding stays in torch."""

    config: KeypointNetworkConfig

    @torch.inference_mode()
    def predict(self, images: Tensor) -> KeypointPrediction:
        """(B, 3, S, S) RGB in [0, 1] to decoded keypoints."""
        return decode(self(images))


class OnnxDenseNetwork(OnnxNetwork):
    """A :class:`~pnp_ros.networks.dense_network.DenseNetwork` in ONNX Runtime; choosing the cells stays in torch."""

    config: DenseNetworkConfig

    @torch.inference_mode()
    def predict(self, images: Tensor) -> DensePrediction:
        """(B, 3, S, S) RGB in [0, 1] to the best cells."""
        return best_cells(self(images), self.config.count)


_KINDS = {KeypointNetwork: OnnxKeypointNetwork, DenseNetwork: OnnxDenseNetwork}


class _Flat(nn.Module):
    """Graphs have tuples where the networks have dataclasses."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(vars(self.network(images)).values())


def exported(network: nn.Module, sample: Tensor, names: list[str]) -> bytes:
    """The network as an ONNX model whose outputs have these names; see :class:`OnnxNetwork`."""
    content = io.BytesIO()
    # Of torch's two exporters the older: the newer takes seconds and two more packages. Before 2.5 there is no choice.
    choice = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with _exporting, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older one
        torch.onnx.export(
            _Flat(network).eval(),
            (sample,),
            content,  # type: ignore[arg-type, unused-ignore]
            input_names=["images"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in ("images", *names)},
            opset_version=_OPSET,
            **choice,  # type: ignore[arg-type]
        )
    return content.getvalue()


def for_inference(network: nn.Module, height: int, width: int, backend: str, device: torch.device) -> nn.Module:
    """The network itself, or its layers in ONNX Runtime.

    Args:
        network: in ``eval()`` mode, on ``device``.
        height, width: of the images that it will see.
        backend: ``torch``; ``onnxruntime``; or ``auto``, which is ONNX Runtime on a CPU where it is installed and
            agrees with torch, else torch.
        device: of the network; ONNX Runtime is used on the CPU only.

    Raises:
        BackendError: if ``onnxruntime`` is asked for and cannot be used, or there is no such backend.
    """
    if backend not in BACKENDS:
        raise BackendError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "torch" or (backend == "auto" and device.type != "cpu"):
        return network
    if device.type != "cpu":
        raise BackendError(f"backend: onnxruntime runs on the CPU, and the device is {device}: take auto or torch")
    sample = torch.rand(_SAMPLES, 3, height, width, generator=torch.Generator().manual_seed(0))
    try:
        return _KINDS.get(type(network), OnnxNetwork)(network, sample)
    except ImportError as error:
        if backend == "onnxruntime":
            raise BackendError(f"backend: {error.name} is missing: pip install 'pnp-ros[fast]'") from error
    except BackendError as error:
        if backend == "onnxruntime":
            raise BackendError(f"backend: {error}") from error
        if str(error) not in _said:
            _said.add(str(error))
            logger.warning("%s; torch is used", error)
    return network


def backend_of(network: nn.Module) -> str:
    """What calculates a network, in a word."""
    return "onnxruntime" if isinstance(network, OnnxNetwork) else "torch"
