"""Object packages: what is written comes back, and every way of being wrong is named."""

import contextlib
import os

import numpy as np
import pytest
import trimesh
import yaml

from pnp_ros.objects.keypoints import select_keypoints
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import (
    ObjectPackageError,
    load_object_package,
    write_object_package,
)
from pnp_ros.objects.symmetry import ContinuousSymmetry, Symmetry


@pytest.fixture
def mesh() -> TriangleMesh:
    rng = np.random.default_rng(0)
    box = trimesh.creation.box(extents=(0.1, 0.06, 0.04))
    return TriangleMesh(box.vertices, box.faces, rng.random((8, 2)), rng.integers(0, 256, (8, 8, 3), np.uint8))


@pytest.fixture
def folder(tmp_path, mesh):
    write_object_package(
        tmp_path / "mug",
        name="mug",
        mesh=mesh,
        keypoints=select_keypoints(mesh, 8),
        symmetry=Symmetry(continuous=(ContinuousSymmetry((0.0, 0.0, 1.0)),)),
        network={"crop_size": 128, "sigma_scale": 1.25, "backbone": "small"},
        weights=b"not really weights",
    )
    return tmp_path / "mug"


def edit(folder, **changes):
    path = folder / "object.yaml"
    fields = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        if value is None:
            del fields[key]
        else:
            fields[key] = value
    path.write_text(yaml.safe_dump(fields))


def test_round_trip(folder, mesh):
    package = load_object_package(folder)
    assert package.name == "mug"
    assert package.diameter == pytest.approx(mesh.diameter)
    np.testing.assert_array_equal(package.keypoints, select_keypoints(mesh, 8))
    np.testing.assert_array_equal(package.mesh.vertices[package.mesh.faces], mesh.vertices[mesh.faces])
    np.testing.assert_array_equal(package.mesh.texture, mesh.texture)
    assert package.symmetry.continuous == (ContinuousSymmetry((0.0, 0.0, 1.0)),)
    assert package.network == {"crop_size": 128, "sigma_scale": 1.25, "backbone": "small"}
    assert package.detector == {}
    assert package.weights_path.read_bytes() == b"not really weights"
    assert sorted(path.name for path in folder.iterdir()) == [
        "mesh.ply",
        "object.yaml",
        "texture.png",
        "weights.safetensors",
    ]


def test_a_package_in_a_folder_with_a_hash(mesh, tmp_path):
    folder = tmp_path / "C#" / "box"
    write_object_package(folder, name="box", mesh=mesh, keypoints=select_keypoints(mesh, 9))
    assert load_object_package(folder).mesh.texture is not None


def test_writing_again_replaces_and_keeps_other_files(folder, mesh, tmp_path):
    (folder / "validation.png").write_bytes(b"image")
    (tmp_path / "new").write_bytes(b"better weights")
    package = write_object_package(
        folder, name="mug", mesh=mesh, keypoints=select_keypoints(mesh, 16), weights=tmp_path / "new"
    )
    assert len(package.keypoints) == 16
    assert package.weights_path.read_bytes() == b"better weights"
    assert (folder / "validation.png").exists()


def test_a_package_that_would_not_load_is_not_written(folder, mesh):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ObjectPackageError, match="keypoints: point 3 lies outside"):
        write_object_package(
            folder, name="mug", mesh=mesh, keypoints=np.eye(4, 3, k=-1) * 0.01 + np.diag([0, 0, 0, 1])[:, 1:]
        )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["weights.safetensors", "mesh.ply", "texture.png"])
def test_corrupted_and_missing_files_are_named(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ObjectPackageError, match=rf"{name}: sha256 differs"):
        load_object_package(folder)
    (folder / name).unlink()
    with pytest.raises(ObjectPackageError, match=rf"{name}: missing"):
        load_object_package(folder)


def test_missing_packages_are_named(tmp_path):
    with pytest.raises(ObjectPackageError, match="nothing: no such object package"):
        load_object_package(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ObjectPackageError, match=r"object.yaml: no such file"):
        load_object_package(tmp_path / "empty")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "name: missing"),
        ({"name": ""}, "name: expected"),
        ({"units": "mm"}, "units: expected m"),
        ({"format_version": 99}, "format_version"),
        ({"diameter": 0.2}, "diameter: expected the mesh's, 0.123288 m"),
        ({"diameter": "big"}, "diameter"),
        ({"diameter": float("nan")}, "diameter"),
        ({"keypoints": [[0, 0, 0]]}, "keypoints: expected at least 4"),
        ({"keypoints": [[0, 0]]}, "keypoints: expected a list"),
        ({"keypoints": "none"}, "keypoints: expected a list"),
        ({"keypoints": [[0, 0, 0], [0, 0, 0.01], [0, 0.01, 0], [0, float("nan"), 0]]}, "keypoints: .*finite"),
        ({"keypoints": [[0, 0, 0], [0, 0, 0.01], [0, 0.01, 0], [0, 0, 1]]}, "keypoints: point 3 lies outside"),
        ({"network": [1]}, "network: expected a mapping"),
        ({"network": {"layers": [1, 2]}}, "network.layers"),
        ({"network": {"num_keypoints": 9}}, "network.num_keypoints: expected 8"),
        ({"detector": {"threshold": float("inf")}}, "detector.threshold"),
        ({"symmetries_discrete": [[0.0] * 16]}, "symmetries_discrete"),
        ({"mesh": "other.ply"}, "mesh: expected one of the names under files"),
        ({"weights": "other"}, "weights: expected one of the names under files"),
        ({"files": {"../secret": "0"}}, "files: expected plain file names"),
        ({"files": {}}, "files: expected a mapping"),
        ({"wieghts": "x"}, "wieghts: unknown field"),
    ],
)
def test_wrong_fields_are_named(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ObjectPackageError, match=rf"object.yaml: {message}"):
        load_object_package(folder)


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "!!python/object/apply:os.system ['true']"])
def test_yaml_that_is_no_mapping_is_refused(folder, text):
    (folder / "object.yaml").write_text(text)
    with pytest.raises(ObjectPackageError, match=r"object.yaml"):
        load_object_package(folder)


WRONG = [
    None,
    True,
    0,
    -1,
    10**400,
    float("nan"),
    "",
    "x" * 300,
    "a/b",
    "..",
    [],
    [1],
    {},
    {"a": 1},
    [[1, 2, 3]],
    [None],
]


def _places(fields, place=()):
    for key in fields if isinstance(fields, dict) else range(len(fields[:1])):
        yield (*place, key)
        if isinstance(fields[key], (dict, list)):
            yield from _places(fields[key], (*place, key))


def test_no_edit_of_a_field_ends_in_another_error(folder):
    path = folder / "object.yaml"
    text = path.read_text()
    for place in _places(yaml.safe_load(text)):
        for value in WRONG:
            fields = yaml.safe_load(text)
            within = fields
            for key in place[:-1]:
                within = within[key]
            within[place[-1]] = value
            path.write_text(yaml.safe_dump(fields))
            with contextlib.suppress(ObjectPackageError):
                load_object_package(folder)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "a: " + "9" * 5000,
        "when: 2020-99-99",
        "a: &a [1, 1]\nb: &b [*a, *a]\nname: *b",
        "name: &self [*self]",
        "\x00",
    ],
)
def test_text_that_is_no_description_is_refused(folder, text):
    (folder / "object.yaml").write_text(text)
    with pytest.raises(ObjectPackageError, match=r"object\.yaml"):
        load_object_package(folder)


def test_a_folder_that_cannot_be_looked_into_is_refused(tmp_path):
    with pytest.raises(ObjectPackageError, match="cannot be read"):
        load_object_package(tmp_path / ("x" * 300))
    os.mkfifo(tmp_path / "object.yaml")
    with pytest.raises(ObjectPackageError, match="not an object package"):
        load_object_package(tmp_path)


@pytest.mark.parametrize("name", ["left/mug", "..", "mug\nfatal", "m" * 200])
def test_a_name_that_is_no_frame_is_refused(folder, name):
    edit(folder, name=name)
    with pytest.raises(ObjectPackageError, match="name: expected"):
        load_object_package(folder)


def test_version_1_kept_the_calibration_in_the_network(tmp_path, mesh):
    written = write_object_package(
        tmp_path,
        name="thing",
        mesh=mesh,
        keypoints=select_keypoints(mesh, 8),
        calibration={"scale": 2.5, "growth": 0.5},
    )
    fields = yaml.safe_load((tmp_path / "object.yaml").read_text())
    assert (fields["format_version"], fields.pop("calibration")) == (2, {"scale": 2.5, "growth": 0.5})
    fields |= {"format_version": 1, "network": {"width": 8, "covariance_scale": 2.5, "covariance_growth": 0.5}}
    (tmp_path / "object.yaml").write_text(yaml.safe_dump(fields))
    older = load_object_package(tmp_path)
    assert (older.calibration, older.network) == (written.calibration, {"width": 8})


def test_features_stand_beside_or_in_place_of_weights(tmp_path, mesh):
    package = write_object_package(
        tmp_path, name="thing", mesh=mesh, keypoints=select_keypoints(mesh, 8), features=b"features"
    )
    assert (package.weights_path, package.features_path) == (None, tmp_path / "features.safetensors")
    (tmp_path / "features.safetensors").write_bytes(b"others")
    with pytest.raises(ObjectPackageError, match=r"features.safetensors: sha256"):
        load_object_package(tmp_path)


def test_the_colours_of_a_training_are_kept(tmp_path, mesh):
    package = write_object_package(
        tmp_path, name="thing", mesh=mesh, keypoints=select_keypoints(mesh, 8), colour=("any", "#e0b020")
    )
    assert package.colour == ("any", "#e0b020")
    edit(tmp_path, colour="any")
    with pytest.raises(ObjectPackageError, match=r"object.yaml: colour: expected a list of mesh, any or '#rrggbb'"):
        load_object_package(tmp_path)
