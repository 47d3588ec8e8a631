"""What a command needs beyond the package itself, and one line with the cure where it is absent."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

_EXTRAS = {
    "moderngl": "train",
    "collada": "train",
    "lxml": "train",
    "networkx": "train",
    "fast_simplification": "train",
    "cascadio": "cad",
    "xacrodoc": "cad",
    "rerun": "view",
}
_DISTRIBUTIONS = {"cv2": "opencv-python-headless", "warp": "warp-lang", "yaml": "pyyaml", "PIL": "pillow"}
_NO_ROS = "this needs ROS 2: source its setup file, or pip install 'pnp-ros[ros]'"


class MissingRequirement(ValueError):
    """Something is not installed; the message is one line that says how to install it."""


def load(module: str) -> ModuleType:
    """Import a module.

    Raises:
        MissingRequirement: if a package that it imports is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingRequirement(cure(error.name or str(error))) from error


def cure(module: str) -> str:
    """One line: how to install what brings the absent ``module``."""
    package = module.partition(".")[0]
    if package == "pnp_ros":
        return f"{module} is not built here: colcon build the package and source its setup file"
    if package == "rclpy" or package.endswith("_msgs") or package.endswith("_interfaces"):
        return _NO_ROS
    wanted = f"'pnp-ros[{_EXTRAS[package]}]'" if package in _EXTRAS else _DISTRIBUTIONS.get(package, package)
    return f"the Python package {package} is missing: {sys.executable} -m pip install {wanted} (see docs/install.md)"


def has_ros() -> bool:
    """Whether nodes can be started here."""
    return importlib.util.find_spec("rclpy") is not None


def need_ros() -> None:
    """Raises :class:`MissingRequirement` where nodes cannot be started."""
    if not has_ros():
        raise MissingRequirement(_NO_ROS)


def need_renderer() -> None:
    """Raises :class:`MissingRequirement` where nothing can be rendered: no moderngl, or no OpenGL."""
    from pnp_ros.rendering.renderer import Renderer, RendererError

    if importlib.util.find_spec("moderngl") is None:
        raise MissingRequirement(cure("moderngl"))
    try:
        with Renderer():
            pass
    except RendererError as error:
        raise MissingRequirement(str(error)) from error


def check_device(name: str) -> None:
    """Whether torch can work on ``--device NAME``.

    Raises:
        ValueError: if not, with what can be done.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device: expected cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cpu":
        return
    if not torch.cuda.is_available():
        built = "finds no NVIDIA GPU or driver" if torch.version.cuda else "is a build without CUDA"
        raise ValueError(f"--device {name}: torch {torch.__version__} {built} here; use --device cpu")
    if (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs, counted from 0")


def use_threads(count: int) -> None:
    """torch's threads on the CPU, for ``--threads COUNT``: its own default, one a core, waits for the slowest of them.

    Raises:
        ValueError: if there is to be none.
    """
    import torch

    if count < 1:
        raise ValueError(f"--threads: expected at least 1, got {count}")
    torch.set_num_threads(count)
