"""A camera and an object that differ from those a network was trained for, in known ways: to measure adaptation with.

The robot still believes in the nominal camera and mesh; :class:`ShiftedScene` shows what it really gets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.simulation import SimulatedFrame, SimulatedScene, SimulationConfig
from pnp_ros.settings import bounded, check

_COARSE = 48  # cells along a worn texture: patches of dirt
_FADED = 0.45  # share of its colour that the most worn place keeps


@dataclass(frozen=True)
class DomainShift:
    """What differs. The defaults are no shift.

    Args:
        exposure: factor on the pixel values; above 1 the bright parts saturate.
        gamma: exponent of the camera's response.
        blur: standard deviation in pixels of a soft lens.
        colour_cast: factors on R, G, B.
        noise: standard deviation of each pixel value, of 255.
        focal_error: relative error of the focal length that the robot believes in.
        centre_error: error of the principal point that it believes in, pixels.
        wear: 0 to 1, how much of the surface has faded and stained.

    Raises:
        ValueError: naming the field.
    """

    exposure: float = bounded(1.0, 0.01, 100.0)
    gamma: float = bounded(1.0, 0.01, 100.0)
    blur: float = bounded(0.0, 0.0, 100.0)
    colour_cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = bounded(3.0, 0.0, 255.0)
    focal_error: float = bounded(0.0, -0.4, 0.4)
    centre_error: tuple[float, float] = (0.0, 0.0)
    wear: float = bounded(0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        check(self)

    def true_camera(self, believed: Camera) -> Camera:
        """The camera that takes the images when the robot believes in ``believed``."""
        factor = 1.0 / (1.0 + self.focal_error)
        fx, fy, cx, cy = believed.intrinsics.tolist()
        actual = [fx * factor, fy * factor, cx - self.centre_error[0], cy - self.centre_error[1]]
        return replace(believed, intrinsics=believed.intrinsics.new_tensor(actual))

    def worn(self, mesh: TriangleMesh, seed: int) -> TriangleMesh:
        """The mesh as use has left it: colours fade to grey in patches, and stains cover some."""
        if self.wear == 0.0:
            return mesh
        rng = np.random.default_rng(seed)
        if mesh.texture is not None:
            height, width = mesh.texture.shape[:2]
            patches = _patches(height, width, rng)
            return replace(mesh, texture=self._faded(mesh.texture, patches, rng))
        if mesh.vertex_colors is not None:
            shares = rng.uniform(0.0, 1.0, (len(mesh.vertex_colors), 1))
            return replace(mesh, vertex_colors=self._faded(mesh.vertex_colors, shares[..., 0], rng))
        return mesh

    def _faded(self, colours: NDArray[np.uint8], patches: NDArray, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Colours (..., 3) after wear, where ``patches`` (...) in [0, 1] says how much each place has suffered."""
        share = (self.wear * patches * (1.0 - _FADED))[..., None]
        dirt = rng.uniform(60.0, 140.0, 3)
        stained = (patches > 1.0 - 0.35 * self.wear)[..., None]
        faded = colours * (1.0 - share) + 150.0 * share
        worn = np.where(stained, 0.4 * faded + 0.6 * dirt, faded)
        return np.asarray(worn.round().clip(0, 255), np.uint8)

    def image(self, rgb: NDArray[np.uint8], index: int = 0) -> NDArray[np.uint8]:
        """What the camera makes of (H, W, 3) uint8 RGB; ``index`` numbers the images, each with noise of its own."""
        values: NDArray = rgb.astype(np.float32) / 255.0
        if self.blur > 0.0:
            values = cv2.GaussianBlur(values, (0, 0), self.blur)
        values = np.clip(values * np.array(self.colour_cast, np.float32) * self.exposure, 0.0, 1.0) ** self.gamma
        values = 255.0 * values
        if self.noise > 0.0:
            values += np.random.default_rng([index, 77]).normal(0.0, self.noise, rgb.shape).astype(np.float32)
        return np.clip(values, 0.0, 255.0).round().astype(np.uint8)


def _patches(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(height, width) smooth, evenly distributed values in [0, 1]."""
    coarse = rng.uniform(0.0, 1.0, (max(2, _COARSE * height // width), _COARSE)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = np.quantile(smooth, [0.01, 0.99])
    return np.asarray(np.clip((smooth - low) / (high - low), 0.0, 1.0), np.float32)


class ShiftedScene:
    """A :class:`~pnp_ros.rendering.simulation.SimulatedScene` seen by the shifted camera.

    Args:
        mesh: as the robot knows it.
        camera: as the robot believes it to be.
        shift: what is different in truth.
        config: how the object moves.
        wear_seed: of the places that are worn; the same for all scenes with one object.
    """

    def __init__(
        self,
        mesh: TriangleMesh,
        camera: Camera,
        shift: DomainShift,
        config: SimulationConfig | None = None,
        wear_seed: int = 0,
    ) -> None:
        config = replace(config or SimulationConfig(), noise=0.0)
        self._shift = shift
        self._scene = SimulatedScene(shift.worn(mesh, wear_seed), shift.true_camera(camera), config)

    def frame(self, index: int, rate: float) -> SimulatedFrame:
        """Image number ``index`` of a camera that takes ``rate`` images a second; the pose is the true one."""
        made = self._scene.frame(index, rate)
        return replace(made, rgb=self._shift.image(made.rgb, index))


def strong_shift(seed: int) -> DomainShift:
    """A shift of everything at once, as strong as a bad day on a robot: exposure, blur, cast, calibration, wear."""
    rng = np.random.default_rng([seed, 4242])
    darker = bool(rng.random() < 0.5)
    cast = rng.uniform(0.7, 1.25, 3)
    cast /= cast.mean()  # brightness is the exposure's alone
    angle = rng.uniform(0.0, 2.0 * math.pi)
    return DomainShift(
        exposure=float(rng.uniform(0.45, 0.6) if darker else rng.uniform(1.5, 1.9)),
        gamma=float(rng.uniform(0.8, 1.25)),
        blur=float(rng.uniform(1.4, 2.0)),
        colour_cast=(float(cast[0]), float(cast[1]), float(cast[2])),
        noise=float(rng.uniform(5.0, 8.0)),
        focal_error=float(rng.choice([-1.0, 1.0]) * rng.uniform(0.006, 0.012)),
        centre_error=(3.0 * math.cos(angle), 3.0 * math.sin(angle)),
        wear=float(rng.uniform(0.8, 1.0)),
    )
