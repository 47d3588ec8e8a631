"""A mesh to an object package that works, in seconds and without training; and what the mesh allows, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pnp_ros.geometry import so3
from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import (
    WEIGHTS_NAME,
    ObjectPackage,
    ObjectPackageError,
    load_object_package,
    write_object_package,
)
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.domain_randomisation import RandomisationConfig, view_settings
from pnp_ros.rendering.validation_frames import ValidationFrame, validation_frames
from pnp_ros.sources.feature_table import make_feature_table, table_config
from pnp_ros.types import Pose

NUM_KEYPOINTS = 16  # for networks that may be trained later
_TRIALS = 20
_NEAR = (2.0, 5.0)  # distances of the trials, in diameters
_RIGHT = 0.05  # of the distance and rad: a pose that is right
_WELL, _SOME = 0.5, 0.2  # shares of the trials, in which the object is small, ill lit and in clutter


@dataclass(frozen=True, eq=False)
class Onboarded:
    """An object package without networks.

    Args:
        package: as it was written.
        features: of all views; 0 where they were left out for want of texture.
        found: share of rendered trial images in which the object was found right by its features alone.
    """

    package: ObjectPackage
    features: int
    found: float

    @property
    def verdict(self) -> str:
        """What the mesh allows, in words."""
        if self.found >= _WELL:
            return "textured: poses from now on"
        if self.found >= _SOME:
            return "some texture: poses from now on where it shows, pnp-ros train for the other sides"
        return (
            "hardly any texture: found by its edges where they stand out, in seconds an image; pnp-ros train finds it "
            "faster, and among other things"
        )


def onboard(
    folder: Path, name: str, mesh: TriangleMesh, symmetry: Symmetry | None = None, lowest_elevation: float = -90.0
) -> Onboarded:
    """Write the package of an object; networks that the folder already has for this mesh stay.

    Args:
        folder: of the package.
        name: of the object.
        mesh: in metres.
        symmetry: of the object.
        lowest_elevation: of the camera over the object's x-y plane in degrees; -90 sees it from all sides.

    Raises:
        ObjectPackageError: if the folder holds networks, of another mesh or of a package that cannot be read.
        RendererError: if there is no OpenGL.
    """
    elevation = (math.radians(max(lowest_elevation, -90.0)), math.pi / 2)
    ranges = RandomisationConfig(elevation=elevation, distance=_NEAR, negatives=0.0, occlusion=0.0)
    trained = _trained(folder, mesh)
    views = dict(trained.views) if trained else view_settings(ranges)
    table = make_feature_table(mesh, table_config(views))
    package = write_object_package(
        folder,
        name=name,
        mesh=mesh,
        keypoints=trained.keypoints if trained else select_keypoints(mesh, NUM_KEYPOINTS),
        symmetry=symmetry or (trained.symmetry if trained else None),
        network=trained.network if trained else None,
        detector=trained.detector if trained else None,
        calibration=trained.calibration if trained else None,
        views=views,
        colour=trained.colour if trained else (),
        weights=trained.weights_path if trained else None,
        features=table.serialised() if table.is_textured else None,
    )
    if not table.is_textured:
        return Onboarded(package, 0, 0.0)
    return Onboarded(package, len(table.points), _found(package, list(validation_frames(mesh, ranges, _TRIALS))))


def _trained(folder: Path, mesh: TriangleMesh) -> ObjectPackage | None:
    """The package that lies in the folder, if it has networks."""
    try:
        package = load_object_package(folder)
    except ObjectPackageError as error:
        if (folder / WEIGHTS_NAME).exists():
            raise ObjectPackageError(f"{error}; {folder} has trained networks: choose another folder") from error
        return None
    if package.weights_path is None:
        return None
    same = package.mesh.vertices.shape == mesh.vertices.shape and np.allclose(
        package.mesh.vertices, mesh.vertices, atol=1e-5 * mesh.diameter
    )
    if not same:
        raise ObjectPackageError(f"{folder}: holds the trained package of another mesh; choose another folder")
    return package


def _found(package: ObjectPackage, images: list[ValidationFrame]) -> float:
    """Share of the images in which features alone find the object right."""
    estimator = PoseEstimator(package, EstimatorConfig(sources=("features",), align=False, track=False))
    right = 0
    for image in images:
        found = estimator.estimate(image.rgb, image.camera)
        if found.state is not ObjectState.VALID or found.estimate is None or image.T_camera_object is None:
            continue
        truth = Pose.from_matrix(torch.from_numpy(image.T_camera_object).float())
        truth = package.symmetry.canonicalise(truth, found.estimate.pose)
        off = float((found.estimate.pose.translation - truth.translation).norm() / truth.translation.norm())
        turned = float(so3.angle_between(found.estimate.pose.rotation, truth.rotation))
        right += off < _RIGHT and turned < _RIGHT
    return right / len(images)
