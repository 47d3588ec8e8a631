"""pnp_ros: the pose of a known object from a camera image, with an honest covariance.

What most programs need is here, flat. Importing the package is free: each name is loaded when it is first used.

>>> from pnp_ros import Camera, Correspondences, solve_pnp
>>> corners = [(x, y, z) for x in (0, 0.2) for y in (0, 0.1) for z in (0, 0.05)]  # of a box, metres
>>> seen = [[320, 240], [311, 226], [308, 332], [300, 314]]  # pixels
>>> seen += [[507, 253], [491, 239], [490, 342], [475, 324]]
>>> camera = Camera.pinhole(fx=1000, fy=1000, cx=320, cy=240, width=640, height=480)
>>> found = solve_pnp(Correspondences.from_sigma(seen, corners, sigma=0.5), camera)
>>> [round(x, 2) + 0.0 for x in found.pose.translation.tolist()]  # T_camera_object, metres
[0.0, 0.0, 1.0]
>>> [round(x, 4) for x in found.covariance.diagonal().sqrt().tolist()[:3]]  # its standard deviations, metres
[0.0004, 0.0004, 0.0027]

``Pose``, ``PoseEstimate`` and ``Correspondences`` hold torch tensors with any number of leading batch dimensions.
"""

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

# From the repository root this source tree hides the installed package, which holds the generated messages.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"

_PLACES = {  # name: module, or module and the name there
    "Camera": "cameras.camera",
    "CameraInfo": "io.camera_info",
    "Cauchy": "solvers.robust_loss",
    "Classical": "solvers.classical",
    "Correspondences": "types",
    "EstimatorConfig": "pipeline.config",
    "Gaussian": "solvers.robust_loss",
    "GemanMcClure": "solvers.robust_loss",
    "Huber": "solvers.robust_loss",
    "Implicit": "solvers.bpnp",
    "LevenbergMarquardt": "solvers.levenberg_marquardt",
    "ObjectEstimate": "pipeline.result",
    "ObjectState": "pipeline.result",
    "PnPNet": "solvers.pnp_net",
    "Pose": "types",
    "PoseEstimate": "types",
    "PoseEstimator": "pipeline.estimator",
    "PoseFilter": "filtering.pose_filter",
    "Scene": "pipeline.scene",
    "Search": "solvers.search",
    "SolveStatus": "types",
    "load_object": "objects.object_package:load_object_package",
    "read_camera_info": "io.camera_info",
    "read_images": "io.images",
    "solve_pnp": "solvers.pnp",
}
__all__ = [
    "Camera",
    "CameraInfo",
    "Cauchy",
    "Classical",
    "Correspondences",
    "EstimatorConfig",
    "Gaussian",
    "GemanMcClure",
    "Huber",
    "Implicit",
    "LevenbergMarquardt",
    "ObjectEstimate",
    "ObjectState",
    "PnPNet",
    "Pose",
    "PoseEstimate",
    "PoseEstimator",
    "PoseFilter",
    "Scene",
    "Search",
    "SolveStatus",
    "load_object",
    "read_camera_info",
    "read_images",
    "solve_pnp",
]

if TYPE_CHECKING:  # for type checkers and editors; the names below are loaded by __getattr__
    from pnp_ros.cameras.camera import Camera
    from pnp_ros.filtering.pose_filter import PoseFilter
    from pnp_ros.io.camera_info import CameraInfo, read_camera_info
    from pnp_ros.io.images import read_images
    from pnp_ros.objects.object_package import load_object_package as load_object
    from pnp_ros.pipeline.config import EstimatorConfig
    from pnp_ros.pipeline.estimator import PoseEstimator
    from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
    from pnp_ros.pipeline.scene import Scene
    from pnp_ros.solvers.bpnp import Implicit
    from pnp_ros.solvers.classical import Classical
    from pnp_ros.solvers.levenberg_marquardt import LevenbergMarquardt
    from pnp_ros.solvers.pnp import solve_pnp
    from pnp_ros.solvers.pnp_net import PnPNet
    from pnp_ros.solvers.robust_loss import Cauchy, Gaussian, GemanMcClure, Huber
    from pnp_ros.solvers.search import Search
    from pnp_ros.types import Correspondences, Pose, PoseEstimate, SolveStatus


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, there = _PLACES[name].partition(":")
    value = getattr(import_module(f"{__name__}.{module}"), there or name)
    globals()[name] = value  # next time without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
