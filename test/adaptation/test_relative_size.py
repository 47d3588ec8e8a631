"""The size of an object in an image is told beside its rendering, whether it has a texture or only an outline."""

import cv2
import numpy as np
import pytest
import torch
import trimesh

from pnp_ros.adaptation.relative_size import relative_size
from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.types import Pose

CAMERA = Camera.pinhole(400.0, 400.0, 80.0, 80.0, 160, 160)
DISTANCE = 0.6  # m
PLAIN = {
    "ball": trimesh.creation.icosphere(subdivisions=3, radius=0.06),
    "cylinder": trimesh.creation.cylinder(0.04, 0.12),
    "box": trimesh.creation.box((0.1, 0.08, 0.06)),
}


@pytest.fixture(params=["textured", "ball", "cylinder", "box", "black box"])
def mesh(request: pytest.FixtureRequest, demo: ObjectPackage) -> TriangleMesh:
    """The demo's object and ones of one colour."""
    if request.param == "textured":
        return demo.mesh
    shape = PLAIN[request.param.split()[-1]]
    vertices = np.asarray(shape.vertices, np.float32)
    grey = np.full((len(vertices), 3), 12 if "black" in request.param else 190, np.uint8)
    return TriangleMesh(vertices, np.asarray(shape.faces, np.int32), vertex_colors=grey)


@pytest.mark.parametrize(("size", "error"), [(0.93, 0.04), (1.0, 0.02), (1.07, 0.03)])
@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_size_beside_a_rendering(mesh: TriangleMesh, size: float, error: float, blur: float) -> None:
    renderer = Renderer()
    item = renderer.add(mesh)
    rng = np.random.default_rng(5)
    found = []
    for _ in range(15):
        turn = so3.exp(torch.from_numpy(rng.uniform(-1.0, 1.0, 3)).float())
        # a camera that is nearer sees other sides, too; one with another focal length only another size
        longer = Camera.pinhole(400.0 * size, 400.0 * size, 80.0, 80.0, 160, 160)
        pose = Pose(turn, torch.tensor([0.0, 0.0, DISTANCE]))
        rendering, shown = renderer.render([(item, pose)], CAMERA), renderer.render([(item, pose)], longer)
        clutter = cv2.resize(rng.integers(30, 230, (10, 10, 3), np.uint8), (160, 160), interpolation=cv2.INTER_NEAREST)
        window = np.where(shown.mask[..., None] > 0, 0.6 * shown.rgb + 20.0, clutter)
        window = cv2.GaussianBlur(window, (0, 0), blur) if blur else window
        window = (window + rng.normal(0.0, 4.0, window.shape)).clip(0, 255).astype(np.uint8)
        found.append(relative_size(window, rendering.rgb, rendering.mask > 0))
    assert float(np.median(found)) == pytest.approx(size, abs=error)
