from dataclasses import replace

import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.demo_object import demo_mesh
from pnp_ros.rendering.domain_shift import DomainShift, ShiftedScene, strong_shift

CAMERA = Camera.pinhole(300.0, 300.0, 159.5, 119.5, 320, 240)
CLEAN = DomainShift(noise=0.0)
RATE = 10.0


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """(40, 60, 3) with an edge: 60 on the left, 120 on the right."""
    image = np.full((40, 60, 3), 60, np.uint8)
    image[:, 30:] = 120
    return image


def test_without_a_shift_the_image_stays(grey: np.ndarray) -> None:
    np.testing.assert_array_equal(CLEAN.image(grey), grey)


def test_exposure_scales_and_saturates(grey: np.ndarray) -> None:
    np.testing.assert_array_equal(replace(CLEAN, exposure=0.5).image(grey)[0, [0, 59], 0], [30, 60])
    np.testing.assert_array_equal(replace(CLEAN, exposure=3.0).image(grey)[0, [0, 59], 0], [180, 255])


def test_gamma_is_the_exponent_of_the_response(grey: np.ndarray) -> None:
    expected = np.round(255.0 * (np.array([60, 120]) / 255.0) ** 1.2)
    np.testing.assert_array_equal(replace(CLEAN, gamma=1.2).image(grey)[0, [0, 59], 0], expected)


def test_blur_spreads_an_edge_by_its_standard_deviation(grey: np.ndarray) -> None:
    row = replace(CLEAN, blur=2.0).image(grey)[20, :, 0].astype(np.float64)
    slope = np.diff(row) / np.diff(row).sum()
    places = np.arange(len(slope)) + 0.5
    mean = (slope * places).sum()
    assert np.sqrt((slope * (places - mean) ** 2).sum()) == pytest.approx(2.0, abs=0.2)
    assert mean == pytest.approx(29.5, abs=0.1)


def test_colour_cast_scales_each_channel(grey: np.ndarray) -> None:
    cast = replace(CLEAN, colour_cast=(0.5, 1.0, 2.0)).image(grey)
    np.testing.assert_array_equal(cast[0, 0], [30, 60, 120])


def test_noise_has_its_standard_deviation_and_differs_between_images() -> None:
    flat = np.full((200, 200, 3), 128, np.uint8)
    shift = replace(CLEAN, noise=6.0)
    one, two = shift.image(flat, 1), shift.image(flat, 2)
    assert one.std() == pytest.approx(6.0, rel=0.03)
    assert one.mean() == pytest.approx(128.0, abs=0.2)
    assert (one != two).mean() > 0.9
    assert shift.image(flat, 1).tobytes() == one.tobytes()


def test_wear_fades_a_texture_by_its_share() -> None:
    mesh = demo_mesh()
    assert mesh.texture is not None
    assert CLEAN.worn(mesh, 0) is mesh
    changes = []
    for wear in (0.3, 1.0):
        worn = replace(CLEAN, wear=wear).worn(mesh, 0)
        assert worn.texture is not None
        assert worn.texture.tobytes() == replace(CLEAN, wear=wear).worn(mesh, 0).texture.tobytes()  # type: ignore[union-attr]
        np.testing.assert_array_equal(worn.vertices, mesh.vertices)
        changes.append(np.abs(worn.texture.astype(float) - mesh.texture).mean())
    assert 2.0 < changes[0] < 0.6 * changes[1]


def test_wear_fades_the_colours_of_vertices() -> None:
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(50, 3)).astype(np.float32)
    colours = np.zeros((50, 3), np.uint8)
    mesh = TriangleMesh(vertices, np.array([[0, 1, 2]], np.int32), vertex_colors=colours)
    worn = replace(CLEAN, wear=1.0).worn(mesh, 3).vertex_colors
    assert worn is not None
    assert worn.mean() > 20


def test_image_lies_where_the_true_camera_projects_to_and_not_the_believed_one() -> None:
    pytest.importorskip("moderngl")
    shift = replace(CLEAN, focal_error=0.04, centre_error=(6.0, -4.0))
    shown = ShiftedScene(demo_mesh(), CAMERA, shift).frame(33, RATE)
    assert shown.pose is not None
    assert shown.box is not None
    vertices = torch.from_numpy(demo_mesh().vertices.astype(np.float64))

    def corner(camera: Camera) -> np.ndarray:
        return camera.to(dtype=torch.float64).project(shown.pose.transform(vertices)).numpy().min(axis=0)  # type: ignore[union-attr]

    true = shift.true_camera(CAMERA)
    np.testing.assert_allclose(shown.box[:2], corner(true), atol=1.5)
    assert np.abs(np.array(shown.box[:2]) - corner(CAMERA)).max() > 3.0
    fx, _, cx, cy = true.intrinsics.tolist()
    assert 1.04 * fx == pytest.approx(300.0, rel=1e-5)
    assert (159.5 - cx, 119.5 - cy) == pytest.approx((6.0, -4.0), abs=1e-4)


def test_same_seed_gives_the_same_bytes_and_another_seed_another_day() -> None:
    pytest.importorskip("moderngl")
    frames = [ShiftedScene(demo_mesh(), CAMERA, strong_shift(seed)).frame(5, RATE) for seed in (2, 2, 3)]
    assert frames[0].rgb.tobytes() == frames[1].rgb.tobytes()
    assert np.abs(frames[0].rgb.astype(float) - frames[2].rgb).mean() > 5.0


def test_strong_shifts_are_dark_or_bright_and_show_contrast() -> None:
    shifts = [strong_shift(seed) for seed in range(20)]
    assert {shift.exposure < 1.0 for shift in shifts} == {True, False}
    for shift in shifts:
        assert 0.45 <= shift.exposure <= 0.6 or 1.5 <= shift.exposure <= 1.9
        assert np.mean(shift.colour_cast) == pytest.approx(1.0)
        assert np.hypot(*shift.centre_error) == pytest.approx(3.0)
        ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 3, axis=2)
        assert replace(shift, noise=0.0, blur=0.0).image(ramp).std() > 20.0


@pytest.mark.parametrize(
    "field", [{"exposure": 0.0}, {"gamma": -1.0}, {"blur": -0.1}, {"noise": -1.0}, {"wear": 1.5}, {"focal_error": 0.6}]
)
def test_wrong_settings_are_named(field: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        DomainShift(**field)
