"""The mugs that a category is tried on."""

import numpy as np
import pytest

from pnp_ros.objects.mesh import TriangleMesh
from synthetic.mugs import MugShape, mug, mug_parts, random_shape


def _shapes() -> list[MugShape]:
    rng = np.random.default_rng(0)
    return [MugShape(), *(random_shape(rng) for _ in range(20))]


def _is_closed(mesh: TriangleMesh) -> bool:
    """Whether each edge has two triangles that run along it in opposite directions."""
    edges = np.concatenate([mesh.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    forth, back = {tuple(edge) for edge in edges}, {tuple(edge[::-1]) for edge in edges}
    return len(forth) == len(edges) and forth == back


def _volume(mesh: TriangleMesh) -> float:
    a, b, c = mesh.vertices.astype(np.float64)[mesh.faces].swapaxes(0, 1)
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6.0)


@pytest.mark.parametrize("shape", _shapes())
def test_body_and_handle_are_closed_and_of_a_mug_s_size(shape: MugShape) -> None:
    body, handle = mug_parts(shape)
    for part, least, most in ((body, 2e-5, 4e-4), (handle, 1e-6, 4e-5)):
        assert _is_closed(part)
        assert least < _volume(part) < most  # m^3, the outside out
    inside = np.pi * (min(shape.taper, 1.0) * shape.radius) ** 2 * shape.height
    assert _volume(body) < 0.6 * inside  # hollow


@pytest.mark.parametrize("shape", _shapes())
def test_the_axis_is_z_and_the_handle_is_at_x(shape: MugShape) -> None:
    body, handle = mug_parts(shape)
    np.testing.assert_allclose(body.bounds.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(body.bounds[1, 2], shape.height / 2, atol=1e-6)
    reach = handle.bounds[1, 0] - body.bounds[1, 0]
    assert 0.3 * shape.reach < reach < 1.5 * shape.reach + shape.thickness
    assert abs(handle.bounds[:, 1].mean()) < 1e-6
    # the handle's ends are in the wall, and nothing of it comes out on the inside
    assert np.hypot(*handle.vertices[-2:, :2].T).min() > 0.6 * shape.radius
    ends = np.hypot(*handle.vertices[:, :2].T)
    share = handle.vertices[:, 2] / shape.height + 0.5
    straight = shape.taper + (1 - shape.taper) * share**shape.bend + shape.belly * np.sin(np.pi * share)
    assert (ends - (shape.radius * straight - shape.wall)).min() > 0.0


def test_a_vertex_is_the_same_place_of_each_mug() -> None:
    first, *others = [mug(shape) for shape in _shapes()]
    for other in others:
        np.testing.assert_array_equal(other.faces, first.faces)
        assert len(other.vertices) == len(first.vertices)
        # where a vertex is, as a share of the box, does not change much
        places = [(mesh.vertices - mesh.bounds[0]) / (mesh.bounds[1] - mesh.bounds[0]) for mesh in (first, other)]
        assert np.abs(places[0] - places[1]).max() < 0.4


def test_mugs_differ() -> None:
    sizes = np.array([mug(shape).bounds[1] - mug(shape).bounds[0] for shape in _shapes()[1:]])
    slender = sizes[:, 2] / sizes[:, 1]
    assert slender.min() < 0.85 < 1.35 < slender.max()
