"""Rendered images of an object at known poses, in which camera, mesh and light are not quite what one believes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.backgrounds import random_background
from pnp_ros.rendering.lighting import Light, Lighting
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(610.0, 610.0, 322.0, 238.0, 640, 480)


@dataclass(frozen=True)
class Errors:
    """How far the truth is from what is believed: standard deviations, or shares that hold at most.

    Args:
        focal: standard deviation, share of the focal length.
        centre: standard deviation, pixels.
        size: largest error of the mesh's scale, share of it.
        shape: largest smooth displacement of its surface, share of the diameter.
        light: 0 is the default light, 1 any.
        occlusion: largest share of the object's box that something hides.
        noise: standard deviation of the sensor's noise, grey levels.
        blur: largest standard deviation of a Gaussian blur, pixels.
    """

    focal: float = 0.005
    centre: float = 3.0
    size: float = 0.01
    shape: float = 0.01
    light: float = 1.0
    occlusion: float = 0.0
    noise: float = 3.0
    blur: float = 1.0


EXACT = Errors(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """An image (H, W, 3) uint8, the believed camera, the object's true pose, and the share of it that is hidden."""

    image: NDArray[np.uint8]
    camera: Camera
    pose: Pose
    hidden: float


def scenes(
    mesh: TriangleMesh,
    count: int,
    seed: int,
    errors: Errors | None = None,
    pose: Callable[[float], Pose] | None = None,
) -> Iterator[Scene]:
    """Images of an object, each with errors of its own.

    Args:
        mesh: as it is believed to be, metres.
        count: number of images.
        seed: the same seed gives the same images.
        errors: None is :class:`Errors` as it is.
        pose: makes the next true pose, told the diameter; None is any orientation, 2.5 to 5 diameters away.
    """
    errors, rng = errors or Errors(), np.random.default_rng(seed)
    with Renderer() as renderer:
        for _ in range(count):
            at = random_pose(mesh.diameter, rng) if pose is None else pose(mesh.diameter)
            yield _scene(renderer, mesh, errors, rng, at)


def perturbed(pose: Pose, degrees: float, share: float, seed: int) -> Pose:
    """A pose turned by so many degrees and moved by so large a share of its distance, in random directions."""
    rng = np.random.default_rng(seed)
    axis, direction = rng.normal(size=(2, 3))
    axis, direction = axis / np.linalg.norm(axis), direction / np.linalg.norm(direction)
    turn = so3.exp(torch.from_numpy(np.radians(degrees) * axis).float())
    move = torch.from_numpy(share * direction).float() * pose.translation.norm()
    return Pose(turn @ pose.rotation, pose.translation + move)


def _scene(renderer: Renderer, mesh: TriangleMesh, errors: Errors, rng: np.random.Generator, pose: Pose) -> Scene:
    true_camera = replace(
        CAMERA,
        intrinsics=CAMERA.intrinsics
        + torch.tensor(
            [*[610.0 * rng.normal(0.0, errors.focal)] * 2, *rng.normal(0.0, errors.centre, 2)], dtype=torch.float32
        ),
    )
    handle = renderer.add(_bent(mesh, errors, rng))
    background = random_background(CAMERA.width, CAMERA.height, rng)
    drawn = renderer.render([(handle, pose)], true_camera, _light(errors.light, rng), background)
    renderer.remove(handle)
    image, hidden = _occluded(drawn.rgb, drawn.mask > 0, errors.occlusion, rng)
    sigma = rng.uniform(0.0, errors.blur)
    if sigma > 0.2:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
    noisy = image + rng.normal(0.0, errors.noise, image.shape)
    return Scene(noisy.clip(0, 255).astype(np.uint8), CAMERA, pose, hidden)


def random_pose(diameter: float, rng: np.random.Generator) -> Pose:
    """An object of this diameter in view of :data:`CAMERA`, 2.5 to 5 diameters away, turned anyhow."""
    depth = diameter * rng.uniform(2.5, 5.0)
    x, y = rng.uniform(-0.25, 0.25) * depth, rng.uniform(-0.18, 0.18) * depth
    quat = torch.from_numpy(rng.normal(size=4)).float()
    rotation = so3.matrix_from_quat_wxyz(quat / quat.norm())
    return Pose(rotation, torch.tensor([x, y, depth], dtype=torch.float32))


def facing(diameter: float, rng: np.random.Generator) -> Pose:
    """As :func:`random_pose`, with one of the object's axes within ten degrees of pointing at or from the camera."""
    place = random_pose(diameter, rng).translation
    at = place.double().numpy() / np.linalg.norm(place)
    across = np.cross(at, rng.normal(size=3))
    across /= np.linalg.norm(across)
    sides = np.roll(np.stack([across, np.cross(at, across), at], 1), rng.integers(3), axis=1)  # which axis points there
    sides *= (rng.choice((1.0, -1.0)), 1.0, 1.0)
    sides[:, 1] *= np.linalg.det(sides)
    tilt = np.radians(rng.uniform(0.0, 10.0)) * across
    return Pose(so3.exp(torch.from_numpy(tilt)).float() @ torch.from_numpy(sides).float(), place)


def _bent(mesh: TriangleMesh, errors: Errors, rng: np.random.Generator) -> TriangleMesh:
    scale = 1.0 + rng.uniform(-errors.size, errors.size)
    waves = rng.normal(size=(3, 3)) * 2.0 * np.pi / mesh.diameter
    phase, reach = rng.uniform(0.0, 2.0 * np.pi, 3), rng.uniform(0.0, errors.shape, 3) * mesh.diameter / np.sqrt(3.0)
    moved = mesh.vertices * scale + reach * np.sin(mesh.vertices @ waves + phase)
    return replace(mesh, vertices=moved.astype(np.float32))


def _light(strength: float, rng: np.random.Generator) -> Lighting:
    if strength == 0.0:
        return Lighting()
    sky = rng.uniform(0.25, 0.7)
    lamp = rng.normal(size=3)
    lamp[2] = -abs(lamp[2])
    bright = float(rng.uniform(0.2, 0.8) * strength)
    return Lighting(
        sky=(sky, sky, sky),
        ground=(0.5 * sky,) * 3,
        lights=(Light(tuple(lamp), (bright, bright, bright)),),
        specular=float(rng.uniform(0.0, 0.3) * strength),
    )


def _occluded(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], most: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], float]:
    """Something plain or patterned laid over one side of the object."""
    if most == 0.0:
        return image, 0.0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    share, cover = rng.uniform(0.0, most), np.zeros_like(mask)
    side = rng.integers(4)
    if side < 2:
        width = int(share * (right - left))
        cover[
            max(top - 20, 0) : bottom + 20, slice(left, left + width) if side == 0 else slice(right - width, right)
        ] = 1
    else:
        height = int(share * (bottom - top))
        cover[
            slice(top, top + height) if side == 2 else slice(bottom - height, bottom), max(left - 20, 0) : right + 20
        ] = 1
    other = random_background(image.shape[1], image.shape[0], rng)
    return np.where(cover[..., None], other, image), float((cover & mask).sum() / max(mask.sum(), 1))
