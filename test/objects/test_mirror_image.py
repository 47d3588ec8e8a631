"""The mirror image of a mesh, turned to where it is most like the mesh itself."""

import numpy as np
import pytest

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mirror_image import mirror_image
from pnp_ros.rendering.demo_object import demo_mesh
from synthetic.cad_parts import bent_sheet, bracket, flange
from synthetic.printed_box import printed_box


def volume(mesh: TriangleMesh) -> float:
    return float(np.einsum("fi,fi->", *(np.cross(*corners(mesh)[:2]), corners(mesh)[2])) / 6.0)


def corners(mesh: TriangleMesh) -> np.ndarray:
    return mesh.vertices[mesh.faces].astype(float).swapaxes(0, 1)


@pytest.mark.parametrize("mesh", [demo_mesh(), bracket(), bent_sheet()], ids=["boat", "bracket", "sheet"])
def test_it_is_reflected_at_the_plane_that_halves_it_nearly(mesh: TriangleMesh) -> None:
    found = mirror_image(mesh)
    assert found is not None
    mirrored = found.mesh
    np.testing.assert_allclose(mirrored.vertices[:, [0, 2]], mesh.vertices[:, [0, 2]], atol=1e-6)
    total = mirrored.vertices[:, 1] + mesh.vertices[:, 1]
    assert np.ptp(total) < 1e-6
    assert abs(total[0]) < 0.2 * mesh.diameter
    for turn, axis in zip(found.turns.numpy(), (1, 0, 2)):
        reflected = mirrored.vertices @ turn[:3, :3].T + turn[:3, 3]
        assert np.linalg.det(turn[:3, :3]) == pytest.approx(1.0)
        kept = [k for k in range(3) if k != axis]
        np.testing.assert_allclose(reflected[:, kept], mesh.vertices[:, kept], atol=1e-6)
    assert volume(mirrored) == pytest.approx(volume(mesh), rel=1e-4)  # its faces look outwards


@pytest.mark.parametrize("mesh", [flange(), printed_box()], ids=["flange", "box"])
def test_a_shape_that_is_its_own_mirror_image_has_no_other(mesh: TriangleMesh) -> None:
    assert mirror_image(mesh) is None
