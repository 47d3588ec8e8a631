"""One object and one stream of images with truth, that all tests of the adaptation look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pnp_ros.adaptation.config import AdaptationConfig
from pnp_ros.adaptation.examples.example import Example
from pnp_ros.adaptation.examples.intake import Intake
from pnp_ros.adaptation.observation import Observation
from pnp_ros.cameras.camera import Camera
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.domain_shift import DomainShift, ShiftedScene
from pnp_ros.rendering.simulation import SimulatedFrame, SimulationConfig
from pnp_ros.types import Pose

Observe = Callable[..., Observation]
Examples = list[Example]


@pytest.fixture(scope="session")
def demo() -> ObjectPackage:
    """The demo's object with its weights."""
    return load_object_package(Path(resource("config/objects/demo")))


@pytest.fixture(scope="session")
def camera() -> Camera:
    """As the robot believes it to be."""
    return Camera.pinhole(600.0, 600.0, 320.0, 240.0, 640, 480)


@pytest.fixture(scope="session")
def frames(demo: ObjectPackage, camera: Camera) -> list[SimulatedFrame]:
    """Fourteen images, half a second apart, all of which show the object, by a camera of another colour."""
    torch.set_num_threads(1)
    shift = DomainShift(exposure=1.3, blur=0.8, colour_cast=(1.1, 0.9, 0.9), wear=0.5)
    scene = ShiftedScene(demo.mesh, camera, shift, SimulationConfig(seed=3))
    return [scene.frame(index, 2.0) for index in range(14)]


@pytest.fixture(scope="session")
def observe(camera: Camera, frames: list[SimulatedFrame]) -> Observe:
    """An observation of image ``index``; its true pose is the reference unless another is given."""

    def observed(index: int, reference: Pose | None = None, estimate: Pose | None = None) -> Observation:
        frame = frames[index]
        state = ObjectState.LOST if estimate is None else ObjectState.VALID
        image = index, 5_000_000_000 + 500_000_000 * index, frame.rgb, camera
        return Observation(*image, state=state, estimate=estimate, reference=reference or frame.pose)

    return observed


@pytest.fixture(scope="session")
def examples(demo: ObjectPackage, observe: Observe) -> Examples:
    """What is kept of the first eight images."""
    intake, kept = Intake(demo, AdaptationConfig()), []
    for index in range(8):
        examined = intake.examine(observe(index))
        assert isinstance(examined, Example), examined
        kept.append(examined)
    return kept
