import cv2
import numpy as np
import pytest
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import CropError
from pnp_ros.geometry import so3
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import ObjectState
from pnp_ros.rendering.backgrounds import BackgroundSource
from pnp_ros.rendering.materials import painted_on
from pnp_ros.rendering.renderer import Renderer
from pnp_ros.sources.edge_response import BINS, CELL, response
from pnp_ros.sources.template_filters import make_template_filters
from pnp_ros.sources.template_views import make_template_views
from pnp_ros.sources.templates import TemplateSearchConfig, TemplateSource
from pnp_ros.types import Pose
from synthetic.cad_parts import bracket, packaged

CAMERA = Camera.pinhole(330.0, 330.0, 159.5, 119.5, 320, 240)
QUICK = TemplateSearchConfig(views=160, coarse=60, smallest=0.28, largest=0.55, kept=24, filters=64)
TRUTH = Pose(so3.exp(torch.tensor([-1.9, 0.5, 0.4])), torch.tensor([0.015, -0.008, 0.30]))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ObjectPackage:
    return packaged(tmp_path_factory.mktemp("objects") / "bracket", "bracket")


@pytest.fixture(scope="module")
def source(package: ObjectPackage) -> TemplateSource:
    return TemplateSource(package.mesh, config=QUICK)


@pytest.fixture(scope="module")
def background() -> np.ndarray:
    rng = np.random.default_rng(0)
    wall = cv2.resize(rng.uniform(90, 130, (6, 8, 3)).astype(np.float32), (320, 240), interpolation=cv2.INTER_CUBIC)
    cv2.rectangle(wall, (20, 150), (90, 220), (60, 90, 160), -1)  # something else
    return (wall + rng.normal(0.0, 4.0, wall.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def image(package: ObjectPackage, background: np.ndarray) -> np.ndarray:
    """The bracket, which nobody said is yellow."""
    yellow = np.full((8, 8, 3), (224, 176, 32), np.uint8)
    mesh = painted_on(package.mesh, yellow, np.random.default_rng(0))
    with Renderer() as renderer:
        return renderer.render([(renderer.add(mesh), TRUTH)], CAMERA, background=background).rgb


def test_a_part_of_another_colour_is_found_by_its_edges(source, package, image):
    estimator = PoseEstimator(package, EstimatorConfig(track=False), sources=[source])
    found = estimator.estimate(image, CAMERA)
    assert (found.state, found.source) == (ObjectState.VALID, "templates")
    assert float((found.estimate.pose.translation - TRUTH.translation).norm()) < 0.005
    assert float(so3.angle_between(found.estimate.pose.rotation, TRUTH.rotation)) < 0.03


def test_where_it_is_not_nothing_is_valid(source, package, background):
    estimator = PoseEstimator(package, EstimatorConfig(track=False), sources=[source])
    found = estimator.estimate(background, CAMERA)
    assert found.state is not ObjectState.VALID


def test_filters_tell_a_template_from_clutter(source):
    """In backgrounds that they do not know a score is about standard normal; their own template stands out."""
    kernels = source._views.kernels(QUICK.cells)[::50]
    filters = make_template_filters(kernels, rank=32)
    side = kernels.shape[-1]
    clutter = response(BackgroundSource().image(320, 240, np.random.default_rng(9))) - filters.usual
    windows = np.lib.stride_tricks.sliding_window_view(clutter, (side, side), (1, 2))[:, ::5, ::5]
    seen = torch.from_numpy(windows.copy()).movedim(0, 2).flatten(0, 1).flatten(1).T
    scores = filters.weights @ filters.base.flatten(1) @ seen
    assert scores.mean().abs() < 1.0
    assert 0.3 < scores.std() < 2.0
    own = filters.weights @ filters.base.flatten(1) @ torch.from_numpy(3.0 * kernels).flatten(1).T
    assert (own.argmax(0) == torch.arange(len(kernels))).all()
    assert own.diagonal().min() > scores.std() * 3.0


def test_a_box_that_somebody_else_tells_is_enough(source, image):
    """The place that is told is the middle of the place that is found."""
    best = source.places(image, 1)[0]
    seen = source.look(image, CAMERA, Box(*(value + 1.0 for value in best.box)))
    low, high = seen.correspondences.image_points.amin(0), seen.correspondences.image_points.amax(0)
    x, y, width, height = best.box
    assert torch.allclose((low + high) / 2, torch.tensor([x + width / 2, y + height / 2]), atol=0.15 * width)
    with pytest.raises(CropError, match="box"):
        source.look(image, CAMERA, (900.0, 0.0, 50.0, 50.0))


def test_a_package_with_nothing_else_has_templates_and_only_where_poses_are_aligned(package):
    assert PoseEstimator(package).sources == ("templates",)
    assert PoseEstimator(package, EstimatorConfig(sources=("keypoints", "features"))).sources == ()


def test_views_keep_to_what_the_package_says():
    mesh = bracket()
    above = make_template_views(mesh, {"lowest_elevation": 30.0, "largest_roll": 20.0}, views=12, coarse=6)
    toward = -above.rotations[:, 2]  # of the camera, seen from the object
    assert (toward[:, 2] > 0.45).all()
    assert above.rolls.min() == pytest.approx(-np.radians(20.0))
    assert above.rolls.max() == pytest.approx(np.radians(20.0))
    low, high = mesh.bounds
    assert ((above.points > low - 1e-4) & (above.points < high + 1e-4)).all()


def test_edges_are_told_by_direction_whatever_their_contrast():
    image = np.full((64, 64, 3), 100, np.uint8)
    image[:, 32:] = 130
    image[:, :, 1] = 100  # a step of two colours of about the same grey
    found = response(image)
    assert found.shape == (BINS, 64 // CELL, 64 // CELL)
    upright = found[[0, -1], :, 7:9].sum(0).min()
    assert upright > 3 * found[2:-2, :, 7:9].max()
    assert found[:, :, :5].max() < 0.05
