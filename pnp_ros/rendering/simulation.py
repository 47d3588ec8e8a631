"""A simulated camera that looks at one moving object, with truth: what the demo and its node play.

The object turns and wanders smoothly; once a cycle something passes in front of it, and once it is taken away.
Everything follows from the seed and the time: the same frame is the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.geometry import se3, so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.studio import Studio, box_of
from pnp_ros.settings import bounded, check, spanned
from pnp_ros.types import Pose

CYCLE_S = 20.0
OCCLUSION_S = (8.0, 11.0)  # of each cycle: an obstacle crosses the object
ABSENCE_S = (15.0, 17.0)  # of each cycle: the object is not there
_OBSTACLE_DEPTH = 0.75  # of the object's distance


@dataclass(frozen=True)
class SimulationConfig:
    """How the object moves and how the camera sees it.

    Args:
        seed: of the path, the colours and the noise.
        elevation: lowest and highest angle in radians from which the camera looks down on the object's x-y plane.
        distance: nearest and farthest distance of the camera, in diameters of the object.
        turn_rate: mean speed of the turn about the object's z axis, rad/s.
        noise: standard deviation of each pixel value, of 255.
        occlusion: largest share of the object that the obstacle hides, roughly.

    Raises:
        ValueError: naming the field.
    """

    seed: int = 0
    elevation: tuple[float, float] = spanned(math.radians(15.0), math.radians(65.0), -math.pi / 2, math.pi / 2)
    distance: tuple[float, float] = spanned(3.5, 6.0, 1.0, 1000.0)
    turn_rate: float = 0.4
    noise: float = bounded(3.0, 0.0, 255.0)
    occlusion: float = bounded(0.3, 0.0, 0.99)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """One image and its truth.

    Args:
        rgb: (H, W, 3) uint8.
        pose: ``T_camera_object``, float64; None while the object is absent.
        visible: share of the object's pixels that are seen, 0 to 1; 0 while it is absent.
        box: of the object's visible pixels; None if there are none.
    """

    rgb: NDArray[np.uint8]
    pose: Pose | None
    visible: float
    box: Box | None


class SimulatedScene:
    """Renders one object's path. To be used by one thread, which owns the renderer's context.

    Args:
        mesh: of the object, metres.
        camera: of any lens model.
        config: how the object moves.
    """

    def __init__(self, mesh: TriangleMesh, camera: Camera, config: SimulationConfig | None = None) -> None:
        self._camera, self._config = camera, config or SimulationConfig()
        self._diameter = mesh.diameter
        self._centre = torch.from_numpy(mesh.bounds.mean(axis=0).astype(np.float64))
        rng = np.random.default_rng(self._config.seed)
        self._studio = Studio(camera, self._config.seed, self._config.noise, rng)
        self._object = self._studio.renderer.add(mesh)
        self._obstacle = self._studio.renderer.add(_box_mesh(self._diameter, rng))

    def frame(self, index: int, rate: float) -> SimulatedFrame:
        """Image number ``index`` of a camera that takes ``rate`` images a second."""
        time = index / rate
        in_cycle = time % CYCLE_S
        absent = ABSENCE_S[0] <= in_cycle < ABSENCE_S[1]
        pose = None if absent else self.pose(time)
        items = [] if pose is None else [(self._object, pose)]
        alone = self._studio.render(items, time)
        shown = alone
        if pose is not None and OCCLUSION_S[0] <= in_cycle < OCCLUSION_S[1]:
            shown = self._studio.render([*items, (self._obstacle, self._obstacle_pose(pose, in_cycle))], time)
        visible = float((shown.mask == 1).sum() / max(int((alone.mask == 1).sum()), 1))
        return SimulatedFrame(self._studio.expose(shown.rgb, index), pose, visible, box_of(shown.mask == 1))

    def pose(self, time: float) -> Pose:
        """The object's pose at a time in seconds, whether or not it is there to be seen."""
        config = self._config
        azimuth = config.turn_rate * time + 0.5 * self._studio.wave(0, 0.11, time) + self._studio.phases[10]
        elevation = between(config.elevation, self._studio.wave(1, 0.07, time))
        distance = self._diameter * between(config.distance, self._studio.wave(2, 0.05, time))
        rotation = seen_from(azimuth, elevation, 0.4 * self._studio.wave(3, 0.09, time))
        return Pose(rotation, self._ray(time) * distance - rotation @ self._centre)

    def _ray(self, time: float) -> torch.Tensor:
        """Unit direction to the object's centre: it wanders over the middle of the image."""
        u = (0.5 + 0.2 * self._studio.wave(4, 0.13, time)) * self._camera.width
        v = (0.5 + 0.15 * self._studio.wave(5, 0.17, time)) * self._camera.height
        return self._camera.to(dtype=torch.float64).unproject(torch.tensor([[u, v]], dtype=torch.float64))[0]

    def _obstacle_pose(self, pose: Pose, in_cycle: float) -> Pose:
        """A bar between camera and object that slides in from the side, and out again."""
        progress = (in_cycle - OCCLUSION_S[0]) / (OCCLUSION_S[1] - OCCLUSION_S[0])
        hidden = math.sin(math.pi * progress) * self._config.occlusion
        centre = pose.transform(self._centre[None])[0]
        # at the object's distance the bar looks 2/3 of a diameter wide to each side: its edge goes from 0.5 inwards
        offset = torch.tensor([self._diameter * (7 / 6 - hidden), 0.0, 0.0], dtype=torch.float64)
        return Pose(torch.eye(3, dtype=torch.float64), _OBSTACLE_DEPTH * (centre + offset))


def seen_from(azimuth: float, elevation: float, roll: float) -> torch.Tensor:
    """(3, 3) rotation of an object whose x-y plane the camera looks down on, angles in radians."""
    eye = torch.tensor(
        [math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation)],
        dtype=torch.float64,
    )
    target = torch.zeros(3, dtype=torch.float64)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    turned = torch.tensor([0.0, 0.0, roll], dtype=torch.float64)
    return so3.exp(turned) @ se3.look_at(eye, target, up).rotation


def between(limits: tuple[float, float], wave: float) -> float:
    """The value between two limits that a wave in [-1, 1] stands for."""
    return limits[0] + (limits[1] - limits[0]) * (0.5 + 0.5 * wave)


def _box_mesh(diameter: float, rng: np.random.Generator) -> TriangleMesh:
    """A bar, one diameter wide and two high, each corner of another colour."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))], np.int32)
    size = np.float32(diameter) * np.array([0.5, 1.0, 0.05], np.float32)
    colors = rng.integers(40, 220, (8, 3), dtype=np.uint8)
    return TriangleMesh(signs * size, faces, vertex_colors=colors)
