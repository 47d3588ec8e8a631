"""Object points for the cells of a crop from its pose alone: where their rays meet the ellipsoid in the object's box.

Every point of its ray explains a cell at the true pose, so that these points give that pose, whatever the object's
shape is. After Brachmann and Rother (CVPR 2018, arXiv 1711.10228), who begin at a constant depth. But a plane that
faces the camera hardly tells how it is tilted; an ellipsoid of the object's size tells it as the object does.
"""

from __future__ import annotations

from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.types import Pose

_FLAT = 0.01  # of the longest axis: the least that the others have


def ray_coordinates(camera: Camera, pose: Pose, pixels: Tensor, box: Tensor) -> Tensor:
    """(B, N, 3) metres, object frame; NaN where a ray misses the ellipsoid.

    Args:
        camera: of the crops.
        pose: (B,) true poses, object to camera, outside the ellipsoid.
        pixels: (B, N, 2) that the rays go through.
        box: (2, 3) lowest and highest corner of the object, metres.
    """
    middle, axes = box.double().mean(0), 0.5 * (box[1] - box[0]).double()
    axes = axes.clamp_min(_FLAT * float(axes.max()))
    rotation = pose.rotation.double()
    # In units of the axes, from the middle, it is a ball of radius one.
    eye = (-pose.translation.double()[:, None] @ rotation - middle) / axes
    ray = camera.unproject(pixels).double() @ rotation / axes
    squared, along = ray.square().sum(-1), (ray * eye).sum(-1)
    inside = along.square() - squared * (eye.square().sum(-1) - 1.0)
    distance = (-along - inside.sqrt()) / squared  # NaN beside it
    return (middle + axes * (eye + distance[..., None] * ray)).to(pixels)
