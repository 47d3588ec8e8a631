import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.crop import CropError
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.lighting import Light, Lighting
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.sources.feature_table import FeatureTable, FeatureTableConfig, Sift, make_feature_table, view_directions
from pnp_ros.sources.features import FeatureSource
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(600.0, 600.0, 319.5, 239.5, 640, 480)
LIGHT = Lighting(lights=(Light((0.5, -0.4, -0.8), (0.5, 0.5, 0.5)),), specular=0.1)


def seen(mesh: TriangleMesh, seed: int) -> tuple[np.ndarray, Pose]:
    """The box somewhere in front of noise, unevenly lit."""
    rng = np.random.default_rng(seed)
    rotation = so3.random_rotation(1, generator=torch.Generator().manual_seed(seed))[0].float()
    pose = Pose(rotation, torch.tensor([*rng.uniform(-0.06, 0.06, 2), rng.uniform(0.35, 0.5)], dtype=torch.float32))
    background = rng.integers(0, 255, (480, 640, 3), np.uint8)
    with Renderer() as renderer:
        return renderer.render([(renderer.add(mesh), pose)], CAMERA, LIGHT, background).rgb, pose


@pytest.fixture(scope="module")
def source(table: FeatureTable, box: TriangleMesh) -> FeatureSource:
    return FeatureSource(table, box.diameter, torch.from_numpy(box.extreme_points))


def test_points_of_the_table_lie_on_the_surface(table: FeatureTable, box: TriangleMesh) -> None:
    assert table.is_textured
    half = box.bounds[1]
    assert (np.abs(table.points) <= half + 1e-5).all()
    on_a_side = (np.abs(np.abs(table.points) - half) < 1e-4).any(axis=1)
    assert on_a_side.mean() > 0.99
    for axis in range(3):
        for sign in (-1, 1):  # every side has its share
            assert (sign * table.points[:, axis] > half[axis] - 1e-4).mean() > 0.05


def test_a_plain_mesh_has_hardly_any_features(box: TriangleMesh) -> None:
    plain = TriangleMesh(box.vertices, box.faces)
    assert not make_feature_table(plain, FeatureTableConfig(views=12, size=256)).is_textured


@pytest.mark.parametrize("seed", range(4))
def test_matches_give_the_pose(source: FeatureSource, box: TriangleMesh, seed: int) -> None:
    image, truth = seen(box, seed)
    (place,) = source.places(image, 3)
    for where in (place.box, truth):  # the whole image, and around the object
        sighting = source.look(image, CAMERA, where)
        assert sighting.matched
        found = solve_pnp(sighting.correspondences, CAMERA)
        assert bool(found.usable)
        assert int((found.inlier_weights > 0.5).sum()) >= 12
        assert float(so3.angle_between(found.pose.rotation, truth.rotation)) < math.radians(1.5)
        assert float((found.pose.translation - truth.translation).norm()) < 0.01 * float(truth.translation.norm())
        right = CAMERA.project(truth.transform(sighting.correspondences.object_points))
        errors = (right - sighting.correspondences.image_points).norm(dim=-1)
        whitened = (errors * sighting.correspondences.weights[:, 0])[errors < 5.0]
        assert 0.1 < float(whitened.median()) < 1.5  # the stated sigma is of the right size


def test_nothing_is_found_where_nothing_is(source: FeatureSource) -> None:
    for image in (
        np.full((480, 640, 3), 90, np.uint8),
        np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8),
    ):
        sighting = source.look(image, CAMERA, (0.0, 0.0, 640.0, 480.0))
        found = solve_pnp(sighting.correspondences, CAMERA)
        assert not bool(found.usable) or int((found.inlier_weights > 0.5).sum()) < 8
    with pytest.raises(CropError, match="box"):
        source.look(image, CAMERA, (900.0, 0.0, 20.0, 20.0))
    with pytest.raises(CropError, match="box"):
        source.look(image, CAMERA, (float("nan"), 0.0, 20.0, 20.0))


def test_features_are_where_the_image_shows_them() -> None:
    """OpenCV tells them a quarter of a pixel too far to the right and down."""
    rng = np.random.default_rng(0)
    centres, (y, x) = rng.uniform(30, 450, (60, 2)), np.mgrid[:480, :640]
    image = np.full((480, 640), 60.0)
    for cx, cy in centres:
        image += 150 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * rng.uniform(2, 6) ** 2))
    keys, _ = Sift(500).detectAndCompute(image.clip(0, 255).astype(np.uint8), None)
    off = np.array([key.pt for key in keys])[:, None] - centres
    nearest = off[np.arange(len(off)), np.linalg.norm(off, axis=2).argmin(1)]
    close = nearest[np.linalg.norm(nearest, axis=1) < 1.5]
    assert len(close) > 60
    assert np.abs(close.mean(0)).max() < 0.03


@pytest.mark.parametrize(("depth", "reduced"), [(0.4, True), (3.0, False)])
def test_a_large_image_is_searched_at_half_its_size_first(
    source: FeatureSource, box: TriangleMesh, depth: float, reduced: bool
) -> None:
    camera = Camera.pinhole(1200.0, 1200.0, 639.5, 479.5, 1280, 960)
    pose = Pose(so3.exp(torch.tensor([0.5, -0.4, 0.2])), torch.tensor([0.02, -0.03, depth]))
    with Renderer() as renderer:
        image = renderer.render([(renderer.add(box), pose)], camera, LIGHT, np.full((960, 1280, 3), 90, np.uint8)).rgb
    first = source.look(image, camera, (0.0, 0.0, 1280.0, 960.0))
    assert (first.finer is not None) is reduced  # what is far off shows too little: it is looked at closely at once
    finer = first if first.finer is None else first.finer()
    assert finer.finer is None
    for sighting in (first, finer):
        right = camera.project(pose.transform(sighting.correspondences.object_points))
        errors = sighting.correspondences.image_points - right
        errors = errors[errors.norm(dim=1) < 5.0]
        assert len(errors) >= 12
        assert float(errors.mean(0).norm()) < 0.2  # no half pixel is lost where the image is reduced
    if reduced:
        assert len(finer.correspondences.image_points) > len(first.correspondences.image_points)
    small = source.look(image[:480, :640], camera, (0.0, 0.0, 640.0, 480.0))
    assert small.finer is None


def test_the_same_table_gives_the_same_matches(table: FeatureTable, box: TriangleMesh) -> None:
    image, _ = seen(box, 7)
    looks = []
    for _ in range(2):
        source = FeatureSource(table, box.diameter, torch.from_numpy(box.extreme_points))
        looks.append(source.look(image, CAMERA, (0.0, 0.0, 640.0, 480.0)).correspondences)
    assert torch.equal(looks[0].image_points, looks[1].image_points)
    assert torch.equal(looks[0].object_points, looks[1].object_points)


def test_a_table_survives_its_file_and_others_are_refused(table: FeatureTable, tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    path.write_bytes(table.serialised())
    again = FeatureTable.read(path)
    for name in ("descriptors", "points", "axes", "sizes", "views"):
        assert np.array_equal(getattr(again, name), getattr(table, name))
    assert path.stat().st_size < 168 * len(table.points)
    path.write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"features.safetensors.*onboard"):
        FeatureTable.read(path)
    for name in ("descriptors", "points", "axes", "sizes"):
        right = getattr(table, name)
        for wrong in [right[:, :64]] if name == "descriptors" else [right[:-1], np.full_like(right, np.nan)]:
            with pytest.raises(ValueError, match=name):
                replace(table, **{name: wrong})


def test_views_are_even_over_the_part_of_the_sphere_that_occurs() -> None:
    everywhere, above = view_directions(200), view_directions(200, -5.0)
    np.testing.assert_allclose(np.linalg.norm(everywhere, axis=1), 1.0)
    assert np.abs(everywhere.mean(axis=0)).max() < 0.02
    assert above[:, 2].min() > math.sin(math.radians(-5.0)) - 1e-9
    for directions, area in ((everywhere, 4 * math.pi), (above, 2 * math.pi * (1 + math.sin(math.radians(5.0))))):
        cosines = directions @ directions.T - 2 * np.eye(200)
        spacing = np.arccos(cosines.max(axis=1))
        assert spacing.min() > 0.5 * math.sqrt(area / 200)  # none crowd


@pytest.mark.parametrize("field", ["views", "size", "per_view", "lowest_elevation"])
def test_config_names_the_wrong_field(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        FeatureTableConfig(**{field: -1000})
