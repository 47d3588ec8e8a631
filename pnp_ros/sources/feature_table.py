"""The mesh as a model: local features of rendered views, each with its place on the object.

A view is rendered from each of many directions spread evenly over the sphere (Fibonacci lattice), or over the part of
it that the package's views allow; SIFT features (Lowe, IJCV 2004) are found in it, and the renderer tells which object
point each shows. No training: seconds on a CPU.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry.se3 import look_at
from pnp_ros.io.checkpoints import CheckpointError, read_metadata, read_tensors, serialised
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import MESH_NAME
from pnp_ros.rendering.lighting import Lighting
from pnp_ros.rendering.renderer import Renderer, Rendering
from pnp_ros.settings import bounded, check
from pnp_ros.sources.feature_poses import feature_frames
from pnp_ros.types import Pose

FORMAT_VERSION = 2
_ARRAYS = ("descriptors", "points", "axes", "sizes")
TEXTURED = 30  # features a view: below it the object is hardly found by them
_EVEN = Lighting(sky=(1.0, 1.0, 1.0), ground=(1.0, 1.0, 1.0), lights=(), specular=0.0)  # the texture and nothing else
_MARGIN = 1.15  # a view is this much wider than the object's bounding sphere
_DISTANCE = 4.0  # of the views, in radii of that sphere


@dataclass(frozen=True)
class FeatureTableConfig:
    """How the views are rendered.

    Args:
        views: directions, spread evenly.
        size: side of a view in pixels: about as large as the object appears at its largest.
        per_view: at most so many features of each view, the strongest.
        lowest_elevation: of the camera over the object's x-y plane in degrees; -90 sees all sides.

    Raises:
        ValueError: naming the field and what it expects.
    """

    views: int = bounded(80, 4, 2000)
    size: int = bounded(320, 64, 2048)
    per_view: int = bounded(400, 10, 10000)
    lowest_elevation: float = bounded(-90.0, -90.0, 89.0)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of all views.

    Args:
        descriptors: (F, 128) uint8, SIFT.
        points: (F, 3) float32, metres, object frame.
        axes: (F, 3, 3) float16, object frame: columns are x along the feature's direction, y, and z along the view's
            ray.
        sizes: (F) float32, metres, on the object.
        views: that they were found in.

    Raises:
        ValueError: naming the field and what it expects.
    """

    descriptors: NDArray[np.uint8]
    points: NDArray[np.float32]
    axes: NDArray[np.float16]
    sizes: NDArray[np.float32]
    views: int = 80

    def __post_init__(self) -> None:
        if self.descriptors.ndim != 2 or self.descriptors.shape[1] != 128 or self.descriptors.dtype != np.uint8:
            raise ValueError(
                f"descriptors: expected (F, 128) uint8, got {self.descriptors.shape} {self.descriptors.dtype}"
            )
        for name, shape in (("points", (3,)), ("axes", (3, 3)), ("sizes", ())):
            values = getattr(self, name)
            if values.shape != (len(self.descriptors), *shape) or not np.isfinite(values).all():
                expected = f"({', '.join(map(str, (len(self.descriptors), *shape)))})"
                raise ValueError(f"{name}: expected finite {expected}, got {values.shape} {values.dtype}")

    @property
    def is_textured(self) -> bool:
        """Whether a view has enough features, on average, for the object to be found by them."""
        return len(self.points) >= TEXTURED * self.views

    def serialised(self) -> bytes:
        """The content of ``features.safetensors``."""
        tensors = {name: torch.from_numpy(getattr(self, name)) for name in _ARRAYS}
        return serialised(tensors, {"kind": "sift", "format_version": FORMAT_VERSION, "views": self.views})

    @classmethod
    def read(cls, path: Path) -> FeatureTable:
        """From a file.

        Raises:
            ValueError: if the file is not one of this version; the message names it and the field.
        """
        try:
            metadata, tensors = read_metadata(path), read_tensors(path)
            found = {"kind": metadata.get("kind"), "format_version": metadata.get("format_version")}
            if found != {"kind": "sift", "format_version": FORMAT_VERSION}:
                raise ValueError(f"expected sift features of version {FORMAT_VERSION}, got {found}")
            if different := sorted(set(tensors) ^ set(_ARRAYS)):
                raise ValueError(f"{different[0]}: missing or unknown")
            return cls(**{name: tensors[name].numpy() for name in _ARRAYS}, views=int(metadata["views"]))
        except (CheckpointError, ValueError, KeyError, TypeError) as error:
            mesh = path.with_name(MESH_NAME)
            raise ValueError(f"{path}: {error}; pnp-ros onboard makes it anew of {mesh}, and keeps networks") from error


def table_config(views: Mapping[str, float | int | str | bool]) -> FeatureTableConfig:
    """The views that an object package was made for."""
    lowest = float(views.get("lowest_elevation", -90.0))
    return FeatureTableConfig(lowest_elevation=min(lowest, 89.0))


class Sift:
    """OpenCV's SIFT with its features where they are in the image; ``count`` are kept, the strongest.

    It doubles the image first, and tells every place a quarter of a pixel too far to the right and down.
    """

    def __init__(self, count: int) -> None:
        _keep_freed_memory()
        self._sift = cv2.SIFT.create(count)

    def detectAndCompute(
        self, grey: NDArray[np.uint8], mask: NDArray[np.uint8] | None
    ) -> tuple[Sequence[cv2.KeyPoint], NDArray | None]:
        """As :meth:`cv2.Feature2D.detectAndCompute`."""
        keys, descriptors = self._sift.detectAndCompute(grey, mask)
        for key in keys:
            key.pt = key.pt[0] - 0.25, key.pt[1] - 0.25
        return keys, descriptors


@functools.cache
def _keep_freed_memory() -> None:
    """Have glibc keep 128 MiB that are freed for what is allocated next.

    An image's pyramid is some 70 MB. By default they go back to the system after each image, and the pages of the next
    one are cleared anew, which takes nearly as long as what they are for.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 128 << 20)
        mallopt(mmap_threshold, 32 << 20)


def make_feature_table(mesh: TriangleMesh, config: FeatureTableConfig | None = None) -> FeatureTable:
    """Render the views and collect their features; empty for a mesh without any texture.

    Raises:
        RendererError: if there is no OpenGL.
    """
    config = config or FeatureTableConfig()
    found = view_features(mesh, config, Sift(config.per_view))
    descriptors = found.descriptors.astype(np.uint8) if len(found.points) else np.zeros((0, 128), np.uint8)
    return FeatureTable(descriptors, found.points, found.axes.astype(np.float16), found.sizes, config.views)


class ViewFeatures(NamedTuple):
    """Features of any kind: descriptors (F, D), and the others as :class:`FeatureTable` has them, in float32."""

    descriptors: NDArray
    points: NDArray[np.float32]
    axes: NDArray[np.float32]
    sizes: NDArray[np.float32]


def view_features(mesh: TriangleMesh, config: FeatureTableConfig, features: Sift | cv2.Feature2D) -> ViewFeatures:
    """Features of any kind in all views.

    Raises:
        RendererError: if there is no OpenGL.
    """
    low, high = mesh.bounds.astype(np.float64)
    centre, radius = (low + high) / 2, float(np.linalg.norm(mesh.vertices - (low + high) / 2, axis=1).max())
    focal = config.size / (2.0 * _MARGIN * math.tan(math.asin(1.0 / _DISTANCE)))
    middle = (config.size - 1) / 2
    camera = Camera.pinhole(focal, focal, middle, middle, config.size, config.size)
    with Renderer() as renderer, ThreadPoolExecutor(1) as beside:
        handle, found = renderer.add(mesh), list[Future[ViewFeatures | None]]()
        for direction in view_directions(config.views, config.lowest_elevation):
            eye = torch.from_numpy(centre + _DISTANCE * radius * direction)
            pose = look_at(eye, torch.from_numpy(centre), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
            view = renderer.render([(handle, pose)], camera, _EVEN)
            wait(found)  # one view at most is held beside the one that is rendered
            found.append(beside.submit(_features_of, view, camera, pose, features))
    seen = [each for each in (one.result() for one in found) if each is not None]
    if not seen:
        nothing = np.zeros((0, 3), np.float32)
        return ViewFeatures(np.zeros((0, 0)), nothing, np.zeros((0, 3, 3), np.float32), nothing[:, 0])
    return ViewFeatures(*(np.concatenate(each) for each in zip(*seen)))


def _features_of(view: Rendering, camera: Camera, pose: Pose, features: Sift | cv2.Feature2D) -> ViewFeatures | None:
    """Features of a view of the object at a pose; None without any."""
    mask = (view.mask > 0).astype(np.uint8)
    grey = fill_outside(np.asarray(cv2.cvtColor(view.rgb, cv2.COLOR_RGB2GRAY), np.uint8), mask)
    inner = np.asarray(255 * cv2.erode(mask, np.ones((5, 5), np.uint8)), np.uint8)
    keys, descriptors = features.detectAndCompute(grey, inner)
    if descriptors is None:
        return None
    at, angles, sizes = key_arrays(keys)
    there = cv2.remap(view.object_coordinates, at[:, None, 0], at[:, None, 1], cv2.INTER_LINEAR)
    points = np.asarray(there, np.float32)[:, 0]
    seen, turn = feature_frames(camera, at, angles, sizes), pose.rotation.float().numpy()
    distances = pose.transform(torch.from_numpy(points).to(pose.translation)).norm(dim=-1).float().numpy()
    return ViewFeatures(np.asarray(descriptors), points, turn.T @ seen.axes, seen.widths * distances)


def key_arrays(
    keys: Sequence[cv2.KeyPoint],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Places (N, 2) in pixels, directions (N) in degrees, and sizes (N) in pixels of N features."""
    values = np.array([(*key.pt, key.angle, key.size) for key in keys], np.float32).reshape(-1, 4)
    return values[:, :2], values[:, 2], values[:, 3]


def view_directions(count: int, lowest_elevation: float = -90.0) -> NDArray[np.float64]:
    """(count, 3) unit vectors from object to camera, even over the sphere above an elevation (Fibonacci lattice)."""
    index = np.arange(count) + 0.5
    lowest = math.sin(math.radians(lowest_elevation))
    height = 1.0 - (1.0 - lowest) * index / count
    turn, flat = math.pi * (1.0 + math.sqrt(5.0)) * index, np.sqrt(np.maximum(1.0 - height**2, 0.0))
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)


def fill_outside(grey: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with the object's mean grey around it, so that its outline makes few features of its own."""
    filled = grey.copy()
    filled[mask == 0] = int(grey[mask > 0].mean()) if mask.any() else 0
    return filled
