import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pnp_ros.detection.detector_network import DetectorConfig, DetectorNetwork
from pnp_ros.networks import onnx_runtime
from pnp_ros.networks.fusion import fused
from pnp_ros.networks.keypoint_network import KeypointNetwork, KeypointNetworkConfig
from pnp_ros.networks.onnx_runtime import BackendError, OnnxNetwork, backend_of, for_inference
from pnp_ros.objects.object_package import ObjectPackage, ObjectPackageError
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.models import load_models

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")


def _keypoints() -> nn.Module:
    torch.manual_seed(0)
    return fused(KeypointNetwork(KeypointNetworkConfig(6, crop_size=64, width=8, sees="edges")))


def _detector() -> nn.Module:
    torch.manual_seed(0)
    return fused(DetectorNetwork(DetectorConfig(96, 64, 4)))


@pytest.mark.parametrize(("make", "height", "width"), [(_keypoints, 64, 64), (_detector, 64, 96)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_maps_are_those_of_torch(
    make: Callable[[], nn.Module], height: int, width: int, layout: torch.memory_format
) -> None:
    network = make()
    exported = for_inference(network, height, width, "onnxruntime", CPU)
    assert (backend_of(network), backend_of(exported)) == ("torch", "onnxruntime CPU")
    for batch in (1, 3):  # neither is the sample's
        images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))
        found, expected = exported(images.contiguous(memory_format=layout)), network(images)
        assert type(found) is type(expected)
        for name, value in vars(expected).items():
            torch.testing.assert_close(getattr(found, name), value, atol=1e-4, rtol=1e-4)


class _ShiftedByTraining(nn.Module):
    """What an exporter's mistake looks like: another function while it is traced."""

    config = None

    def __init__(self) -> None:
        super().__init__()
        self.right = _keypoints()

    def forward(self, images: Tensor) -> object:
        maps = self.right(images)
        return maps if not torch.jit.is_tracing() else type(maps)(maps.heat + 0.01, maps.log_factor, maps.presence)


def test_another_function_than_torch_s_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BackendError, match=r"differs from torch by 0\.01, expected at most 0\.001"):
        for_inference(_ShiftedByTraining(), 64, 64, "onnxruntime", CPU)
    network = _ShiftedByTraining()
    assert for_inference(network, 64, 64, "auto", CPU) is network
    assert "torch is used" in caplog.text


def test_what_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _keypoints()
    with pytest.raises(BackendError, match="expected one of auto, onnxruntime, tensorrt, torch, got 'openvino'"):
        for_inference(network, 64, 64, "openvino", CPU)
    with pytest.raises(BackendError, match="tensorrt runs on a CUDA device, and the device is cpu"):
        for_inference(network, 64, 64, "tensorrt", CPU)
    assert for_inference(network, 64, 64, "auto", torch.device("cuda")) is network
    assert for_inference(network, 64, 64, "torch", CPU) is network
    for missing in ("onnxruntime", "onnx"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            assert for_inference(network, 64, 64, "auto", CPU) is network
            with pytest.raises(BackendError, match=rf"{missing}.*pip install 'pnp-ros\[fast\]'"):
                for_inference(network, 64, 64, "onnxruntime", CPU)


@pytest.mark.parametrize(
    ("tensorrt", "offered", "chosen"),
    [
        (False, ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"], ["CUDA", "CPU"]),
        (
            True,
            ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
            ["Tensorrt", "CUDA", "CPU"],
        ),
        (True, ["TensorrtExecutionProvider", "CPUExecutionProvider"], ["Tensorrt", "CPU"]),
        (False, ["AzureExecutionProvider", "CPUExecutionProvider"], None),
        (True, ["CUDAExecutionProvider", "CPUExecutionProvider"], None),
    ],
)
def test_a_cuda_device_takes_the_providers_that_are_there(
    tensorrt: bool, offered: list[str], chosen: list[str] | None
) -> None:
    device = torch.device("cuda", 1)
    if chosen is None:
        with pytest.raises(BackendError, match=r"no (CUDA|Tensorrt)ExecutionProvider in this build.*onnxruntime-gpu"):
            onnx_runtime._providers(device, tensorrt, offered)
        return
    found = onnx_runtime._providers(device, tensorrt, offered)
    assert [name.removesuffix("ExecutionProvider") for name, _ in found] == chosen
    assert all(options["device_id"] == 1 for name, options in found if not name.startswith("CPU"))


@pytest.mark.filterwarnings("ignore:Specified provider")  # of ONNX Runtime's own
def test_a_provider_that_does_not_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime itself goes on with the CPU where a library of CUDA is missing, and only logs it."""
    network, sample = _keypoints(), torch.rand(1, 3, 64, 64)
    wanted = [("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {})]
    monkeypatch.setattr(onnx_runtime, "_providers", lambda *_: wanted)
    with pytest.raises(BackendError, match="CUDAExecutionProvider does not start; it would take CPUExecutionProvider"):
        OnnxNetwork(network, sample)
    assert for_inference(network, 64, 64, "auto", CPU) is network


def test_an_exporter_that_fails_leaves_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(onnx_runtime, "exported", fail)
    network = _keypoints()
    assert for_inference(network, 64, 64, "auto", CPU) is network
    with pytest.raises(BackendError, match="no such operator"):
        OnnxNetwork(network, torch.rand(1, 3, 64, 64))


def test_the_estimator_takes_the_backend(untrained_package: Callable[..., ObjectPackage], tmp_path: Path) -> None:
    package = untrained_package(tmp_path)
    for backend, expected in (("auto", "onnxruntime CPU"), ("onnxruntime", "onnxruntime CPU"), ("torch", "torch")):
        models = PoseEstimator(package, backend=backend).models
        assert models is not None
        assert backend_of(models.network) == expected
        assert backend_of(load_models(package, CPU, backend).network) == expected  # an adapted version's way
    with pytest.raises(ObjectPackageError, match="backend: expected one of"):
        PoseEstimator(package, backend="openvino")
