"""Networks calculated by ONNX Runtime in place of torch, on one thread: no barrier where threads wait for each other.

On a CUDA device its CUDA or TensorRT provider calculates, where it has one and is asked for it.

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

BACKENDS = ("auto", "onnxruntime", "tensorrt", "torch")
TOLERANCE = 1e-3  # of logits and logarithms; it moves a keypoint by 0.02 px at most. Measured: 1e-5
_OPSET = 17
_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_SAMPLES = 2
_exporting = threading.Lock()  # torch's exporter keeps its state in globals
_said: set[str] = set()


class BackendError(ValueError):
    """A backend that was asked for cannot be used; the message says why."""


class OnnxNetwork(nn.Module):
    """A network's layers in ONNX Runtime: the same call, the same result type, inference only.

    Args:
        network: in ``eval()`` mode; its call returns a dataclass of tensors, batch first.
        sample: (B, 3, H, W) images of the size that all later ones have, on the network's device; any B.
        tensorrt: TensorRT calculates, on a CUDA device; it builds an engine first, which takes minutes.

    Raises:
        BackendError: if ONNX Runtime does not work with the device, the network cannot be exported or loaded, or its
            values differ from torch's by over :data:`TOLERANCE`.
    """

    config: Any

    def __init__(self, network: nn.Module, sample: Tensor, tensorrt: bool = False) -> None:
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
        wanted = _providers(sample.device, tensorrt, onnxruntime.get_available_providers())
        try:
            model = exported(network, sample, names)
            self._session = onnxruntime.InferenceSession(model, options, providers=wanted)
            self.provider = str(self._session.get_providers()[0])
            found = self(sample)
        except Exception as error:  # both libraries have a dozen kinds of their own
            raise BackendError(f"onnxruntime: {type(network).__name__} cannot be exported: {error}") from error
        if self.provider != wanted[0][0]:  # it goes on with another one where a library is missing, and only logs it
            raise BackendError(f"onnxruntime: {wanted[0][0]} does not start; it would take {self.provider}")
        self.difference = max(float((vars(found)[n] - vars(expected)[n]).abs().max()) for n in names)
        if not self.difference <= TOLERANCE:
            raise BackendError(
                f"onnxruntime: {type(network).__name__} differs from torch by {self.difference:.2g}, "
                f"expected at most {TOLERANCE:g}"
            )

    def forward(self, images: Tensor) -> Any:
        """(B, 3, H, W) RGB in [0, 1] to the network's maps, on the images' device."""
        found = self._session.run(None, {"images": images.contiguous().cpu().numpy()})
        return self._result(*(torch.from_numpy(each).to(images.device) for each in found))


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


def _providers(device: torch.device, tensorrt: bool, available: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """What calculates on a device, and what takes over the layers that the first does not know.

    Raises:
        BackendError: if the first is not among those that this build of ONNX Runtime offers.
    """
    wanted: list[tuple[str, dict[str, Any]]] = [(_CPU, {})]
    if device.type == "cuda":
        gpu = {"device_id": device.index or 0}
        wanted = [(_CUDA, gpu | {"use_tf32": 0}), *wanted]  # TF32 would differ from torch by over the tolerance
        if tensorrt:
            wanted = [(_TENSORRT, gpu), *wanted]
    elif tensorrt:
        raise BackendError(f"tensorrt runs on a CUDA device, and the device is {device}")
    if wanted[0][0] not in available:
        raise BackendError(
            f"onnxruntime: no {wanted[0][0]} in this build, which has {', '.join(available)}; with CUDA: "
            "pip install onnxruntime-gpu in place of onnxruntime"
        )
    return [each for each in wanted if each[0] in available]


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
        backend: ``torch``; ``onnxruntime``, on a CUDA device with its CUDA provider; ``tensorrt``, ONNX Runtime with
            its TensorRT provider; or ``auto``: ONNX Runtime on a CPU where it is installed and agrees with torch, else
            torch.
        device: of the network.

    Raises:
        BackendError: if what is asked for cannot be used, or there is no such backend.
    """
    if backend not in BACKENDS:
        raise BackendError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "torch" or (backend == "auto" and device.type != "cpu"):
        return network
    sample = torch.rand(_SAMPLES, 3, height, width, generator=torch.Generator().manual_seed(0)).to(device)
    try:
        return _KINDS.get(type(network), OnnxNetwork)(network, sample, backend == "tensorrt")
    except ImportError as error:
        if backend != "auto":
            raise BackendError(f"backend: {error.name} is missing: pip install 'pnp-ros[fast]'") from error
    except BackendError as error:
        if backend != "auto":
            raise BackendError(f"backend: {error}") from error
        if str(error) not in _said:
            _said.add(str(error))
            logger.warning("%s; torch is used", error)
    return network


def backend_of(network: nn.Module) -> str:
    """What calculates a network, in a word or two: ``torch``, ``onnxruntime CPU``, ``onnxruntime CUDA``, ..."""
    if not isinstance(network, OnnxNetwork):
        return "torch"
    return f"onnxruntime {network.provider.removesuffix('ExecutionProvider')}"
