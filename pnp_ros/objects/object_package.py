"""The object package: a folder with everything that estimating the pose of one object needs.

``object.yaml`` describes it, ``mesh.ply`` (and ``texture.png``) is the mesh in metres, ``weights.safetensors`` holds
the networks' weights, ``features.safetensors`` the local features of the mesh: a package has either, both or none.
Every file is listed with its sha256. Nothing in it is ever executed or unpickled.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import MeshError, TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh, save_mesh
from pnp_ros.objects.symmetry import Symmetry, symmetry_from_bop, symmetry_to_bop

Setting = float | int | str | bool
FORMAT_VERSION = 2
_OLDER = 1  # without features; the calibration stood in network
YAML_NAME, MESH_NAME, WEIGHTS_NAME = "object.yaml", "mesh.ply", "weights.safetensors"
FEATURES_NAME = "features.safetensors"
_LONGEST_NAME = 128
_NAME = re.compile(rf"(?!\.+$)[^/\\\x00-\x1f\x7f]{{1,{_LONGEST_NAME}}}")
_REQUIRED = ("format_version", "name", "units", "mesh", "diameter", "keypoints", "files")
_OPTIONAL = (
    "symmetries_discrete",
    "symmetries_continuous",
    "network",
    "detector",
    "calibration",
    "views",
    "colour",
    "weights",
    "features",
)


class ObjectPackageError(ValueError):
    """An object package that cannot be used; the message names the file and the field."""


@dataclass(frozen=True, eq=False)
class ObjectPackage:
    """One object: its geometry, keypoints and symmetries, and the networks that find it.

    Args:
        name: of the object; also of its TF frame.
        root: the folder.
        mesh: in metres.
        diameter: metres.
        keypoints: (K, 3) float32 metres, object frame.
        symmetry: of the object; trivial if it has none.
        network: settings of the keypoint network, plain values, validated by the network's own config.
        detector: settings of the detector, plain values, validated by the detector's own config.
        calibration: of the covariance of the networks' poses, plain values, validated by
            :class:`~pnp_ros.pipeline.calibration.CovarianceCalibration`; empty: not calibrated.
        views: what the object was trained or onboarded for, plain values, see
            :func:`pnp_ros.rendering.domain_randomisation.view_settings`; empty: not known.
        colour: that the networks were trained for, see :mod:`pnp_ros.rendering.materials`; empty: as the mesh says.
        weights_path: safetensors file, its sha256 verified; None before training.
        features_path: the same of the mesh's local features; None where it has none.
    """

    name: str
    root: Path
    mesh: TriangleMesh
    diameter: float
    keypoints: NDArray[np.float32]
    symmetry: Symmetry = field(default_factory=Symmetry)
    network: Mapping[str, Setting] = field(default_factory=dict)
    detector: Mapping[str, Setting] = field(default_factory=dict)
    calibration: Mapping[str, Setting] = field(default_factory=dict)
    views: Mapping[str, Setting] = field(default_factory=dict)
    colour: tuple[str, ...] = ()
    weights_path: Path | None = None
    features_path: Path | None = None


def load_object_package(folder: str | Path) -> ObjectPackage:
    """Load and validate a package.

    Args:
        folder: ``~`` is the user's home: no shell makes it that in ``object:=~/mug`` or in a file of parameters.

    Raises:
        ObjectPackageError: a missing folder, file or field, a value out of range, a file whose sha256 differs, a
            diameter that differs from the mesh's by over 1 %, or keypoints outside the mesh's bounding box.
    """
    root = Path(os.path.expanduser(folder))
    yaml_path = root / YAML_NAME
    try:
        exists = root.is_dir()
    except (OSError, ValueError) as error:  # a name that is too long, a folder that may not be entered
        raise ObjectPackageError(f"{str(root)[:200]}: cannot be read: {error}") from error
    if not exists:
        raise ObjectPackageError(f"{root}: no such object package (expected a folder with {YAML_NAME})")
    fields = _read_yaml(yaml_path)
    for key in _REQUIRED:
        if key not in fields:
            raise ObjectPackageError(f"{yaml_path}: {key}: missing")
    unknown = sorted(set(fields) - set(_REQUIRED) - set(_OPTIONAL))
    if unknown:
        raise ObjectPackageError(f"{yaml_path}: {unknown[0]}: unknown field")
    if fields["format_version"] == _OLDER:
        fields = _from_older(fields)
    elif fields["format_version"] != FORMAT_VERSION:
        raise ObjectPackageError(f"{yaml_path}: format_version: expected {_OLDER} or {FORMAT_VERSION}")
    if not isinstance(fields["name"], str) or not _NAME.fullmatch(fields["name"]):  # it names a TF frame and files
        raise ObjectPackageError(
            f"{yaml_path}: name: expected up to {_LONGEST_NAME} characters without slashes, got {fields['name']!r}"
        )
    if fields["units"] != "m":
        raise ObjectPackageError(f"{yaml_path}: units: expected m, got {fields['units']!r}")
    files = _check_files(yaml_path, fields["files"])
    mesh_path = _listed_file(yaml_path, fields, "mesh", files)
    try:
        mesh = load_mesh(mesh_path)
        symmetry = symmetry_from_bop(fields)
    except MeshError as error:
        raise ObjectPackageError(f"{yaml_path}: mesh: {error}") from error
    except ValueError as error:
        raise ObjectPackageError(f"{yaml_path}: {error}") from error
    keypoints = _check_keypoints(yaml_path, fields["keypoints"], mesh)
    network, detector = (_check_settings(yaml_path, key, fields.get(key)) for key in ("network", "detector"))
    calibration, views = (
        _check_settings(yaml_path, key, fields.get(key), numbers=True) for key in ("calibration", "views")
    )
    if network.get("num_keypoints", len(keypoints)) != len(keypoints):
        raise ObjectPackageError(
            f"{yaml_path}: network.num_keypoints: expected {len(keypoints)}, the number of keypoints"
        )
    return ObjectPackage(
        name=fields["name"],
        root=root,
        mesh=mesh,
        diameter=_check_diameter(yaml_path, fields["diameter"], mesh),
        keypoints=keypoints,
        symmetry=symmetry,
        network=network,
        detector=detector,
        calibration=calibration,
        views=views,
        colour=_check_colour(yaml_path, fields.get("colour")),
        weights_path=_listed_file(yaml_path, fields, "weights", files) if fields.get("weights") else None,
        features_path=_listed_file(yaml_path, fields, "features", files) if fields.get("features") else None,
    )


def write_object_package(
    folder: str | Path,
    *,
    name: str,
    mesh: TriangleMesh,
    keypoints: NDArray[np.float32],
    symmetry: Symmetry | None = None,
    network: Mapping[str, Setting] | None = None,
    detector: Mapping[str, Setting] | None = None,
    calibration: Mapping[str, Setting] | None = None,
    views: Mapping[str, Setting] | None = None,
    colour: Sequence[str] = (),
    weights: bytes | Path | None = None,
    features: bytes | Path | None = None,
) -> ObjectPackage:
    """Write a package, or replace what another write left in the folder; other files there stay.

    Each file is written beside its place, loaded back, and moved there, ``object.yaml`` last.

    Args:
        weights, features: a serialised safetensors file, or the path of one.

    Raises:
        ObjectPackageError: if a value would not pass :func:`load_object_package`.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".writing-") as temporary:
        written = save_mesh(mesh, Path(temporary) / MESH_NAME)
        for name_in_folder, content in ((WEIGHTS_NAME, weights), (FEATURES_NAME, features)):
            if content is not None:
                written.append(Path(temporary) / name_in_folder)
                written[-1].write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        fields = {
            "format_version": FORMAT_VERSION,
            "name": name,
            "units": "m",
            "mesh": MESH_NAME,
            "diameter": float(mesh.diameter),
            "keypoints": [[float(f"{c:.9g}") for c in point] for point in keypoints.tolist()],
            **symmetry_to_bop(symmetry or Symmetry()),
            "network": dict(network or {}),
            "detector": dict(detector or {}),
            "calibration": dict(calibration or {}),
            "views": dict(views or {}),
            **({"colour": list(colour)} if colour else {}),
            **({"weights": WEIGHTS_NAME} if weights is not None else {}),
            **({"features": FEATURES_NAME} if features is not None else {}),
            "files": {path.name: _sha256(path) for path in written},
        }
        yaml_path = Path(temporary) / YAML_NAME
        yaml_path.write_text(_dump_yaml(fields))
        package = load_object_package(temporary)  # nothing is moved unless it would load
        for path in [*written, yaml_path]:
            os.replace(path, root / path.name)
    weights_path, features_path = (path and root / path.name for path in (package.weights_path, package.features_path))
    return replace(package, root=root, weights_path=weights_path, features_path=features_path)


def _from_older(fields: dict) -> dict:
    """The fields of version 1, whose calibration stood in the network's settings, as version 2 has them."""
    network = fields.get("network")
    if not isinstance(network, dict):
        return fields
    names = {"covariance_scale": "scale", "covariance_growth": "growth"}
    calibration = {new: network[old] for old, new in names.items() if old in network}
    return fields | {
        "network": {name: value for name, value in network.items() if name not in names},
        "calibration": calibration,
    }


def _read_yaml(path: Path) -> dict:
    import yaml

    if not path.is_file():
        raise ObjectPackageError(f"{path}: no such file: not an object package")
    try:
        text = path.read_text()
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ObjectPackageError(f"{path}: aliases are not supported")  # a few of them can stand for gigabytes
        fields = yaml.safe_load(text)
    except ObjectPackageError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ObjectPackageError(f"{path}: cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise ObjectPackageError(f"{path}: expected a mapping of fields")
    for name in _unusable_numbers(fields, ""):
        raise ObjectPackageError(f"{path}: {name}: expected finite numbers of ordinary size")
    return fields


def _unusable_numbers(value: object, place: str) -> Iterator[str]:
    """Where numbers stand that are not finite, or too large for a float."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _unusable_numbers(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _unusable_numbers(item, place)
    elif isinstance(value, (int, float)) and not abs(value) <= sys.float_info.max:
        yield place


def _dump_yaml(fields: dict) -> str:
    import yaml

    return yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=100)


def _check_files(yaml_path: Path, files: object) -> dict[str, Path]:
    if not isinstance(files, dict) or not files:
        raise ObjectPackageError(f"{yaml_path}: files: expected a mapping of file names to sha256")
    found = {}
    for name, expected in files.items():
        if not isinstance(name, str) or Path(name).name != name:
            raise ObjectPackageError(f"{yaml_path}: files: expected plain file names, got {name!r}")
        path = yaml_path.parent / name
        if not path.is_file():
            raise ObjectPackageError(f"{path}: missing, though {YAML_NAME} lists it under files")
        if _sha256(path) != expected:
            raise ObjectPackageError(f"{path}: sha256 differs from files.{name} in {YAML_NAME}: corrupted or replaced")
        found[name] = path
    return found


def _listed_file(yaml_path: Path, fields: dict, key: str, files: dict[str, Path]) -> Path:
    if not isinstance(fields[key], str) or fields[key] not in files:
        raise ObjectPackageError(f"{yaml_path}: {key}: expected one of the names under files, got {fields[key]!r}")
    return files[fields[key]]


def _check_diameter(path: Path, value: object, mesh: TriangleMesh) -> float:
    if not isinstance(value, (int, float)) or not abs(value - mesh.diameter) <= 0.01 * mesh.diameter:
        raise ObjectPackageError(
            f"{path}: diameter: expected the mesh's, {mesh.diameter:.6g} m, within 1 %, got {value}"
        )
    return float(value)


def _check_keypoints(path: Path, value: object, mesh: TriangleMesh) -> NDArray[np.float32]:
    try:
        keypoints = np.array(value, dtype=np.float32).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise ObjectPackageError(f"{path}: keypoints: expected a list of [x, y, z] in metres") from error
    if len(keypoints) < 4 or not np.isfinite(keypoints).all():
        raise ObjectPackageError(f"{path}: keypoints: expected at least 4 points with finite coordinates")
    slack = 0.01 * mesh.diameter
    outside = ((keypoints < mesh.bounds[0] - slack) | (keypoints > mesh.bounds[1] + slack)).any(axis=1)
    if outside.any():
        raise ObjectPackageError(
            f"{path}: keypoints: point {int(outside.argmax())} lies outside the mesh's bounding box"
        )
    return keypoints


def _check_colour(path: Path, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(colour, str) for colour in value):
        raise ObjectPackageError(f"{path}: colour: expected a list of mesh, any or '#rrggbb', got {value!r}")
    return tuple(value)


def _check_settings(path: Path, key: str, value: object, numbers: bool = False) -> dict[str, Setting]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ObjectPackageError(f"{path}: {key}: expected a mapping of settings")
    for name, setting in value.items():
        if not isinstance(name, str) or not isinstance(setting, (int, float, str, bool)):
            raise ObjectPackageError(f"{path}: {key}.{name}: expected a number, a text or true/false, got {setting!r}")
        if numbers and isinstance(setting, (str, bool)):
            raise ObjectPackageError(f"{path}: {key}.{name}: expected a number, got {setting!r}")
    return value


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
