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

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry.se3 import look_at
from pnp_ros.io.checkpoints import CheckpointError, read_metadata, read_tensors, serialised
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.lighting import Lighting
from pnp_ros.rendering.renderer import Renderer, Rendering
from pnp_ros.settings import bounded, check

FORMAT_VERSION = 1
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
        views: that they were found in.

    Raises:
        ValueError: naming the field and what it expects.
    """

    descriptors: NDArray[np.uint8]
    points: NDArray[np.float32]
    views: int = 80

    def __post_init__(self) -> None:
        if self.descriptors.ndim != 2 or self.descriptors.shape[1] != 128 or self.descriptors.dtype != np.uint8:
            raise ValueError(
                f"descriptors: expected (F, 128) uint8, got {self.descriptors.shape} {self.descriptors.dtype}"
            )
        if self.points.shape != (len(self.descriptors), 3) or not np.isfinite(self.points).all():
            raise ValueError(
                f"points: expected finite ({len(self.descriptors)}, 3), got {self.points.shape} {self.points.dtype}"
            )

    @property
    def is_textured(self) -> bool:
        """Whether a view has enough features, on average, for the object to be found by them."""
        return len(self.points) >= TEXTURED * self.views

    def serialised(self) -> bytes:
        """The content of ``features.safetensors``."""
        tensors = {"descriptors": torch.from_numpy(self.descriptors), "points": torch.from_numpy(self.points)}
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
            if different := sorted(set(tensors) ^ {"descriptors", "points"}):
                raise ValueError(f"{different[0]}: missing or unknown")
            return cls(tensors["descriptors"].numpy(), tensors["points"].float().numpy(), int(metadata["views"]))
        except (CheckpointError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: {error}; pnp-ros onboard makes it anew") from error


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
    descriptors, points = view_features(mesh, config, Sift(config.per_view))
    found = descriptors.astype(np.uint8) if len(descriptors) else np.zeros((0, 128), np.uint8)
    return FeatureTable(found, points, config.views)


def view_features(
    mesh: TriangleMesh, config: FeatureTableConfig, features: Sift | cv2.Feature2D
) -> tuple[NDArray, NDArray[np.float32]]:
    """Descriptors (F, D) of any kind of features in all views, and the object points (F, 3) that they show, metres.

    Raises:
        RendererError: if there is no OpenGL.
    """
    low, high = mesh.bounds.astype(np.float64)
    centre, radius = (low + high) / 2, float(np.linalg.norm(mesh.vertices - (low + high) / 2, axis=1).max())
    focal = config.size / (2.0 * _MARGIN * math.tan(math.asin(1.0 / _DISTANCE)))
    middle = (config.size - 1) / 2
    camera = Camera.pinhole(focal, focal, middle, middle, config.size, config.size)
    with Renderer() as renderer, ThreadPoolExecutor(1) as beside:
        handle, found = renderer.add(mesh), list[Future[tuple[NDArray, NDArray[np.float32]] | None]]()
        for direction in view_directions(config.views, config.lowest_elevation):
            eye = torch.from_numpy(centre + _DISTANCE * radius * direction)
            pose = look_at(eye, torch.from_numpy(centre), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
            view = renderer.render([(handle, pose)], camera, _EVEN)
            wait(found)  # one view at most is held beside the one that is rendered
            found.append(beside.submit(_features_of, view, features))
    pairs = [pair for pair in (each.result() for each in found) if pair is not None]
    if not pairs:
        return np.zeros((0, 0)), np.zeros((0, 3), np.float32)
    descriptors, points = (np.concatenate(each) for each in zip(*pairs))
    return descriptors, points


def _features_of(view: Rendering, features: Sift | cv2.Feature2D) -> tuple[NDArray, NDArray[np.float32]] | None:
    """Descriptors (F, D) of a view and the object points (F, 3) that they show; None without any."""
    mask = (view.mask > 0).astype(np.uint8)
    grey = fill_outside(np.asarray(cv2.cvtColor(view.rgb, cv2.COLOR_RGB2GRAY), np.uint8), mask)
    inner = np.asarray(255 * cv2.erode(mask, np.ones((5, 5), np.uint8)), np.uint8)
    keys, descriptors = features.detectAndCompute(grey, inner)
    if descriptors is None:
        return None
    at = np.array([key.pt for key in keys], np.float32)[:, None]
    there = cv2.remap(view.object_coordinates, at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    return np.asarray(descriptors), np.asarray(there, np.float32)[:, 0]


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
