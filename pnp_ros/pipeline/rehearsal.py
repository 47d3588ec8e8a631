"""Before the first image each object is found in a drawing of it, so that no image waits for what is made once."""

from __future__ import annotations

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import box_from_pose
from pnp_ros.geometry.se3 import look_at
from pnp_ros.pipeline.scene import Scene
from pnp_ros.rendering.ray_view import RayMesh

_CAMERA = Camera.pinhole(640.0, 640.0, 320.0, 240.0, 640, 480)
_ASIDE = (1.5, 2.0, 1.7)  # diameters: from where each object is drawn, with three of its sides in view


def rehearse(scene: Scene) -> None:
    """Find each object of a scene that has seen no image; it has seen none afterwards, either.

    Compiling the estimator's kernels takes half a minute, once on each machine; loading them and what else is made
    once, a fifth of a second.
    """
    for estimator in scene.estimators.values():
        mesh = estimator.package.mesh
        centre = torch.from_numpy(mesh.bounds.mean(axis=0))
        pose = look_at(centre + mesh.diameter * torch.tensor(_ASIDE), centre, torch.tensor((0.0, 0.0, 1.0)))
        drawn = RayMesh(mesh).view(pose, _CAMERA, with_grey=True).grey
        image = np.repeat(np.asarray(drawn, np.uint8)[..., None], 3, axis=2)
        roi = box_from_pose(_CAMERA, pose, torch.from_numpy(mesh.extreme_points))
        estimator.estimate(image, _CAMERA, 0.0, roi)
    scene.reset()
