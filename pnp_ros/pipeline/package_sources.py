"""The sources of correspondences that an object package has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pnp_ros.networks.dense_network import DenseNetwork
from pnp_ros.networks.onnx_runtime import OnnxDenseNetwork
from pnp_ros.objects.object_package import ObjectPackage, ObjectPackageError
from pnp_ros.pipeline.models import Models, load_models
from pnp_ros.rendering.materials import MESH, likely_colours
from pnp_ros.sources.dense import DenseSource
from pnp_ros.sources.feature_table import FeatureTable
from pnp_ros.sources.features import FeatureSource
from pnp_ros.sources.keypoints import KeypointSource
from pnp_ros.sources.source import Source
from pnp_ros.sources.templates import TemplateSource


def package_sources(
    package: ObjectPackage, wanted: Sequence[str], device: torch.device, backend: str = "auto"
) -> list[Source]:
    """Those of the ``wanted`` sources that the package has, in the order in which they are wanted.

    Templates need nothing but the mesh, and seconds for an image: they are for a package that has nothing else.

    Raises:
        ObjectPackageError: if one cannot be used.
    """
    found: list[Source] = []
    for name in wanted:
        if name == "keypoints" and package.weights_path is not None:
            found.append(network_source(package, load_models(package, device, backend), device))
        elif name == "features" and package.features_path is not None:
            found.append(feature_source(package))
    if "templates" in wanted and not found:
        found.append(TemplateSource(package.mesh, package.views))
    return found


def network_source(package: ObjectPackage, models: Models, device: torch.device) -> KeypointSource | DenseSource:
    """The package's correspondences, found by these models.

    An object in its mesh's colours is found by its detector; one without is hard to learn, and is looked for by the
    network all over the image as well.
    """
    extent = torch.from_numpy(package.mesh.extreme_points)
    network = models.network
    windows = None if likely_colours(package.mesh) == (MESH,) else models.windows
    if isinstance(network, DenseNetwork | OnnxDenseNetwork):
        return DenseSource(network, models.detector, extent, device, windows)
    keypoints = torch.from_numpy(np.ascontiguousarray(package.keypoints, np.float32))
    return KeypointSource(network, models.detector, keypoints, extent, device, windows)


def feature_source(package: ObjectPackage) -> FeatureSource:
    """The features of the package's mesh.

    Raises:
        ObjectPackageError: if the package has none, or they cannot be read.
    """
    if package.features_path is None:
        raise ObjectPackageError(f"{package.root}: features: missing; pnp-ros onboard makes them")
    try:
        table = FeatureTable.read(package.features_path)
    except ValueError as error:
        raise ObjectPackageError(str(error)) from error
    return FeatureSource(table, package.diameter, torch.from_numpy(package.mesh.extreme_points))
