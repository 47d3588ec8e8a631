"""What varies between training images: viewpoint, camera, light. The ranges, and how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.rendering.backgrounds import Rng
from pnp_ros.rendering.lighting import Light, Lighting, triple
from pnp_ros.rendering.materials import MESH, check_colours
from pnp_ros.settings import bounded, check, spanned

Range = tuple[float, float]


@dataclass(frozen=True)
class RandomisationConfig:
    """The ranges of all that is random.

    Args:
        elevation: angle in radians at which the camera looks down on the object's x-y plane; pi/2 is from above.
        roll: turn of the image about the line of sight in radians.
        distance: from camera to object in diameters of the object.
        image_size: (width, height) in pixels of the whole images that crops are cut from.
        focal_range: focal length as a multiple of ``image_size``'s width.
        crop_size: side of a crop in pixels.
        crop_margin: side of a crop's window as a multiple of the longer side of the object's box.
        crop_scale: factor on the window's side, log-uniform.
        crop_shift: largest shift of the window as a share of its side.
        frame_size: (width, height) in pixels of the detector's images.
        frame_object_size: longer side of the object's box in them, pixels, log-uniform.
        negatives: share of images without the object.
        occlusion: share of images in which something lies in front of the object.
        min_visible: an occluder that leaves less of the object than this is left out.
        effects: strength of colour, blur and noise effects; 1 is made for real cameras, 0 turns them off.
        cache_size: side in pixels of the rendered images that the samples are cut from, a multiple of 16.
        pool: rendered images kept; the oldest are replaced.
        backgrounds: folder with images to mix in, or None.
        colour: of the object, see :mod:`pnp_ros.rendering.materials`.

    Raises:
        ValueError: naming the field and what it expects.
    """

    elevation: Range = spanned(-math.pi / 2, math.pi / 2, -math.pi / 2, math.pi / 2)
    roll: Range = spanned(-math.pi, math.pi, -math.pi, math.pi)
    distance: Range = spanned(2.0, 9.0, 0.6, 100.0)
    image_size: tuple[int, int] = (640, 480)
    focal_range: Range = spanned(0.7, 1.6, 0.2, 10.0)
    crop_size: int = bounded(128, 16, 4096)
    crop_margin: float = bounded(1.25, 1.0, 4.0)
    crop_scale: Range = spanned(0.8, 1.25, 0.2, 5.0)
    crop_shift: float = bounded(0.12, 0.0, 1.0)
    frame_size: tuple[int, int] = (320, 240)
    frame_object_size: Range = spanned(20.0, 200.0, 4.0, 4000.0)
    negatives: float = bounded(0.1, 0.0, 1.0)
    occlusion: float = bounded(0.5, 0.0, 1.0)
    min_visible: float = bounded(0.35, 0.0, 1.0)
    effects: float = bounded(1.0, 0.0, 10.0)
    cache_size: int = bounded(144, 16, 4096)
    pool: int = bounded(1024, 1, 10**7)
    backgrounds: Path | None = None
    colour: tuple[str, ...] = (MESH,)

    def __post_init__(self) -> None:
        check_colours(self.colour)
        check(self)
        if self.cache_size % 16:
            raise ValueError(f"cache_size: expected a multiple of 16, got {self.cache_size}")

    @property
    def roll_jitter(self) -> float:
        """Largest turn of an already rendered image in radians, which makes many views out of few renders."""
        return math.pi if self.roll[1] - self.roll[0] >= 2 * math.pi - 1e-6 else 0.15


_VIEW_SETTINGS = ("lowest_elevation", "largest_roll", "shortest_focal", "longest_focal")


def view_settings(config: RandomisationConfig) -> dict[str, float]:
    """The views of a run as plain values for ``object.yaml``: degrees, and multiples of the image's width."""
    values = (math.degrees(config.elevation[0]), math.degrees(config.roll[1]), *config.focal_range)
    return {name: round(float(value), 4) for name, value in zip(_VIEW_SETTINGS, values)}


def with_views(config: RandomisationConfig, settings: Mapping[str, Any]) -> RandomisationConfig:
    """The ranges with the views of ``object.yaml``; without settings as they are.

    Raises:
        ValueError: naming the field that is unknown, missing, or out of range.
    """
    if not settings:
        return config
    if different := sorted(set(settings) ^ set(_VIEW_SETTINGS)):
        raise ValueError(f"views.{different[0]}: expected the fields {', '.join(_VIEW_SETTINGS)}")
    elevation, roll = (math.radians(settings[name]) for name in _VIEW_SETTINGS[:2])
    focal_range = settings["shortest_focal"], settings["longest_focal"]
    limited = max(elevation, -math.pi / 2), min(roll, math.pi)
    return replace(config, elevation=(limited[0], math.pi / 2), roll=(-limited[1], limited[1]), focal_range=focal_range)


def random_camera(config: RandomisationConfig, rng: Rng) -> Camera:
    """A pinhole camera of ``image_size`` with a random focal length."""
    width, height = config.image_size
    focal = width * log_uniform(config.focal_range, rng)
    return Camera.pinhole(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)


def random_pose(
    config: RandomisationConfig, camera: Camera, center: NDArray[np.float64], diameter: float, rng: Rng
) -> NDArray[np.float64]:
    """(4, 4) ``T_camera_object`` with the object's ``center`` somewhere in the camera's image.

    Args:
        config: the ranges.
        camera: a pinhole camera.
        center: (3) middle of the object in its own frame, metres.
        diameter: of the object, metres.
        rng: source of randomness.
    """
    fx, fy, cx, cy = camera.intrinsics.tolist()
    u, v = rng.uniform(0.12, 0.88, 2) * [camera.width, camera.height]
    ray = np.array([(u - cx) / fx, (v - cy) / fy, 1.0])
    ray /= np.linalg.norm(ray)
    rotation = _onto(ray) @ _rotation_in_view(config, rng)
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = ray * diameter * log_uniform(config.distance, rng) - rotation @ center
    return pose


def _rotation_in_view(config: RandomisationConfig, rng: Rng) -> NDArray[np.float64]:
    """Object rotation for a camera that looks straight at it, uniform on the sphere within the elevations."""
    elevation = math.asin(rng.uniform(math.sin(config.elevation[0]), math.sin(config.elevation[1])))
    azimuth = rng.uniform(0, 2 * math.pi)
    toward = np.array(
        [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
    )
    right = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
    level = np.stack([right, np.cross(-toward, right), -toward])
    c, s = np.cos(angle := rng.uniform(*config.roll)), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ level


def _onto(ray: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) the smallest rotation that turns the optical axis onto a unit ray in front of the camera."""
    x, y, z = ray
    k = 1.0 / (1.0 + z)
    return np.array([[1 - x * x * k, -x * y * k, x], [-x * y * k, 1 - y * y * k, y], [-x, -y, z]])


def random_lighting(rng: Rng) -> Lighting:
    """From a dim room to glaring light; a fully lit white surface gets about 0.7 to 2.5, and saturates above 1."""
    up = np.array([0.0, -1.0, 0.0]) + rng.normal(0, 0.5, 3)
    level = log_uniform((0.7, 2.5), rng)
    fill = rng.uniform(0.25, 1.0)  # share of the light that comes from everywhere
    sky = level * fill * _tint(0.08, rng)
    lights = []
    count = rng.integers(0, 4)
    for share in rng.dirichlet(np.ones(max(count, 1)))[:count]:
        direction = rng.normal(0, 1, 3) + np.array([0.0, -0.7, -0.9])  # most lamps are above and on the camera's side
        color = 1.6 * level * (1 - fill) * share * _tint(0.12, rng)
        lights.append(Light(triple(direction), triple(color)))
    return Lighting(
        sky=triple(sky),
        ground=triple(sky * rng.uniform(0.35, 1.0) * _tint(0.08, rng)),
        up=triple(up / np.linalg.norm(up)),
        lights=tuple(lights),
        specular=float(rng.choice([0.0, rng.uniform(0.0, 0.6)])),
        shininess=log_uniform((4.0, 80.0), rng),
    )


def log_uniform(limits: Range, rng: Rng) -> float:
    """A number whose logarithm is uniform between the limits."""
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))


def _tint(deviation: float, rng: Rng) -> NDArray[np.float64]:
    return np.clip(1.0 + rng.normal(0, deviation, 3), 0.5, 1.5)
