"""A simulated camera that looks at many moving objects, several instances of each, with truth.

They go round on levels, three on each, turning: the near ones pass in front of the far ones, and none goes through
another. Once a cycle one of them is taken away. Everything follows from the seed and the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.objects.instance_names import instance_names
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.simulation import (
    ABSENCE_S,
    CYCLE_S,
    SimulatedFrame,
    SimulationConfig,
    between,
    seen_from,
)
from pnp_ros.rendering.studio import Studio, box_of
from pnp_ros.types import Pose

_ON_LEVEL = 3
_SPACING, _ACROSS, _DEEP = 1.05, 1.75, 1.25  # diameters: between levels, and half axes of the way round
_ROOM = 0.55  # diameters about a centre that are to be in the image
_COARSE = 4  # pixels of the image a pixel of what tells how much would be seen without the others


@dataclass(frozen=True, eq=False)
class Seen:
    """The truth of one instance in one image.

    Args:
        object_name: of the object that it is an instance of.
        pose: ``T_camera_object``, float64; None while it is absent.
        visible: share of its pixels that are seen, 0 to 1; 0 while it is absent.
        box: of its visible pixels; None if there are none.
    """

    object_name: str
    pose: Pose | None = None
    visible: float = 0.0
    box: Box | None = None


@dataclass(frozen=True, eq=False)
class CrowdFrame:
    """One image and its truth.

    Args:
        rgb: (H, W, 3) uint8.
        seen: by the instance's name.
    """

    rgb: NDArray[np.uint8]
    seen: Mapping[str, Seen]

    @classmethod
    def alone(cls, frame: SimulatedFrame, name: str) -> CrowdFrame:
        """Of a single object."""
        return cls(frame.rgb, {name: Seen(name, frame.pose, frame.visible, frame.box)})


class SimulatedCrowd:
    """Renders the paths of many. To be used by one thread, which owns the renderer's context.

    Args:
        meshes: of the objects, metres, by name. The largest sets how far away they all are.
        instances: of each.
        camera: of any lens model.
        config: how they move; ``distance`` and ``occlusion`` are not asked: all are in the image, and hide each other.
    """

    def __init__(
        self,
        meshes: Mapping[str, TriangleMesh],
        instances: int,
        camera: Camera,
        config: SimulationConfig | None = None,
    ) -> None:
        self._config = config or SimulationConfig()
        rng = np.random.default_rng(self._config.seed)
        self._studio = Studio(camera, self._config.seed, self._config.noise, rng)
        handles = {name: self._studio.renderer.add(mesh) for name, mesh in meshes.items()}
        self._objects = {each: name for name in meshes for each in instance_names(name, instances)}
        self._handles = {each: handles[name] for each, name in self._objects.items()}
        self._centres = {
            name: torch.from_numpy(mesh.bounds.mean(axis=0, dtype=np.float64)) for name, mesh in meshes.items()
        }
        self._diameter = max(mesh.diameter for mesh in meshes.values())
        self._phases = rng.uniform(0.0, 2.0 * math.pi, (len(self._objects), 3))
        width, height = camera.width, camera.height
        self._coarse = camera.crop(0, 0, width, height, width // _COARSE, height // _COARSE)
        self._levels = -(-len(self._objects) // _ON_LEVEL)
        self._distance = self._least_distance(camera)

    def frame(self, index: int, rate: float) -> CrowdFrame:
        """Image number ``index`` of a camera that takes ``rate`` images a second."""
        time = index / rate
        poses = {name: self.pose(name, time) for name in self._objects}
        if ABSENCE_S[0] <= time % CYCLE_S < ABSENCE_S[1]:
            del poses[list(poses)[int(time // CYCLE_S) % len(poses)]]
        shown = self._studio.render([(self._handles[name], pose) for name, pose in poses.items()], time)
        seen = {name: Seen(kind) for name, kind in self._objects.items()}
        for number, (name, pose) in enumerate(poses.items(), 1):
            mask = shown.mask == number
            alone = self._studio.renderer.render([(self._handles[name], pose)], self._coarse).mask > 0
            visible = min(
                1.0, float(mask[_COARSE // 2 :: _COARSE, _COARSE // 2 :: _COARSE].sum() / max(1, alone.sum()))
            )
            seen[name] = Seen(self._objects[name], pose, visible, box_of(mask))
        return CrowdFrame(self._studio.expose(shown.rgb, index), seen)

    def pose(self, name: str, time: float) -> Pose:
        """An instance's pose at a time in seconds, whether or not it is there to be seen."""
        config, index = self._config, list(self._objects).index(name)
        level, place = divmod(index, _ON_LEVEL)
        phases = self._phases[index]
        angle = 2.0 * math.pi * place / _ON_LEVEL + 0.7 * level + (0.6 + 0.1 * level) * time
        height = _SPACING * (level - 0.5 * (self._levels - 1))
        at = [_ACROSS * math.cos(angle), height, self._distance + _DEEP * math.sin(angle)]
        azimuth = config.turn_rate * time + float(phases[0])
        elevation = between(config.elevation, math.sin(0.44 * time + float(phases[1])))
        rotation = seen_from(azimuth, elevation, 0.4 * math.sin(0.57 * time + float(phases[2])))
        centre = self._diameter * torch.tensor(at, dtype=torch.float64)
        return Pose(rotation, centre - rotation @ self._centres[self._objects[name]])

    def _least_distance(self, camera: Camera) -> float:
        """Diameters from which all of them are in the image all the time."""
        corner = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
        x, y, z = camera.to(dtype=torch.float64).unproject(corner)[0].abs().tolist()
        across = (_ACROSS + _ROOM) * z / x
        upright = (0.5 * _SPACING * (self._levels - 1) + _ROOM) * z / y
        return max(across, upright + _DEEP, 2.0 + _DEEP)
