"""The values of the package as users meet them: short in a notebook, as arrays, and from other libraries' results."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pnp_ros
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.filtering.fusion import Fused
from pnp_ros.filtering.localization import Localized
from pnp_ros.filtering.pose_filter import FilteredPose
from pnp_ros.multiview.bundle_adjustment import Structure
from pnp_ros.multiview.calibration import Calibration
from pnp_ros.multiview.reconstruction import Reconstruction
from pnp_ros.pipeline.result import FrameResult, ObjectEstimate, ObjectState
from pnp_ros.solvers.blind_pnp import BlindPnPEstimate
from pnp_ros.solvers.epropnp import PosePosterior
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.pose_hypotheses import PoseHypotheses
from pnp_ros.types import Correspondences, Pose, PoseEstimate
from pnp_ros.types.tensors import Values
from synthetic.cube import random_problems

CORNERS = [[x, y, z] for x in (-0.1, 0.1) for y in (-0.05, 0.05) for z in (-0.02, 0.04)]


def _camera() -> Camera:
    return Camera.pinhole(500, 500, 320, 240, width=640, height=480)


def test_representations_are_short_and_say_what_there_is() -> None:
    correspondences, camera, truth = random_problems(3, 40, outliers=0.25, seed=1)
    batch = solve_pnp(correspondences, camera)
    one = Correspondences(correspondences.image_points[0], correspondences.object_points[0], correspondences.weights[0])
    single = solve_pnp(one, camera)
    for value in (correspondences, camera, truth, truth[0], batch, one, single, batch.pose.to(dtype=torch.float64)):
        text = repr(value)
        assert text.startswith(type(value).__name__ + "(")
        assert len(text) < 250
        assert "tensor" not in text
    assert repr(batch) == "PoseEstimate(3 of 3 usable, 40 points, batch (3,))"
    assert repr(single).startswith("PoseEstimate(CONVERGED, translation [")
    assert int(repr(single).partition(" fitting of 40 points")[0].split()[-1]) in range(29, 33)
    assert (
        repr(one.to(dtype=torch.float64))
        == "Correspondences(40 points, 40 with weight, a weight for each axis, float64)"
    )
    assert repr(Camera.pinhole(500, 501, 320, 240, width=640, height=480)) == (
        "Camera(pinhole 640x480, fx 500, fy 501, cx 320, cy 240)"
    )
    nothing = PoseEstimate.of(Pose.identity(), torch.eye(6))
    assert repr(nothing) == ("PoseEstimate(CONVERGED, translation [0, 0, 0] m, sigma [1, 1, 1] m [1, 1, 1] rad)")


def test_results_as_arrays() -> None:
    correspondences, camera, _ = random_problems(3, 12, seed=2)
    correspondences.image_points.requires_grad_()
    estimate = solve_pnp(correspondences, camera)
    arrays = estimate.numpy()
    assert {name: array.shape for name, array in arrays.items()} == {
        "pose": (3, 4, 4),
        "covariance": (3, 6, 6),
        "inlier_weights": (3, 12),
        "cost": (3,),
        "status": (3,),
        "usable": (3,),
    }
    assert arrays["usable"].dtype == bool
    np.testing.assert_array_equal(arrays["pose"][:, :3, 3], estimate.pose.translation.numpy())
    points = correspondences.numpy()
    again = Correspondences(**points)
    assert torch.equal(again.weights, correspondences.weights)


def _results() -> dict[str, tuple[Values, dict[str, tuple[int, ...]]]]:
    """One of each result that is not a solve's, by its kind, and the shapes of its arrays."""
    poses, covariance, yes = Pose.identity(2), torch.eye(6).repeat(2, 1, 1), torch.tensor([True, False])
    found = PoseEstimate.of(poses[0], covariance[0])
    of_estimate = {name: array.shape for name, array in found.numpy().items()}
    structure = Structure(torch.zeros(9, 3), poses)
    shapes = torch.zeros(9, 3, 3), torch.ones(2, 9, dtype=torch.bool)
    several = {"pose": (2, 4, 4), "covariance": (2, 6, 6), "probability": (2,)}
    filtered = {"stamp": (), "pose": (4, 4), "covariance": (6, 6), "velocity": (6,)}
    filtered |= {"velocity_covariance": (6, 6), "age": ()}
    rebuilt = {"points": (9, 3), "poses": (2, 4, 4), "found": (9,), "placed": (2,), "covariance": (9, 3, 3)}
    rebuilt |= {"inliers": (2, 9), "sigma": (), "rms": (), "converged": (), "focal_error": (2,)}
    camera = {"names": (2,), "values": (2,), "covariance": (2, 2), "poses": (2, 4, 4), "residuals": (2, 9, 2)}
    blind = {"matches": (7, 2), "false_alarms": (), "guesses": ()}
    samples = torch.eye(4)[:, :1].expand(1, 2, 4, 4), torch.zeros(1, 2, 3, 4), torch.zeros(1, 3)
    posterior = {"log_weights": (8,), "log_evidence": (), "modes": (2, 4, 4), "poses": (8, 4, 4)}
    return {
        "reconstruction": (
            Reconstruction(structure, yes.new_ones(9), yes, *shapes, 0.5, 0.6, True, (0.01, 0.02)),
            rebuilt,
        ),
        "calibration": (
            Calibration(
                _camera(), "plumb_bob", ("fx", "k1"), torch.zeros(2), torch.eye(2), poses, torch.zeros(2, 9, 2), True
            ),
            camera | {"converged": ()},
        ),
        "filtered": (FilteredPose(1.0, poses[0], covariance[0], torch.zeros(6), covariance[0], 0.1), filtered),
        "fused": (Fused(found, ("left", "right")), of_estimate | {"trusted": (2,), "refused": (0,)}),
        "localized": (
            Localized(found, (0, 1), (), (1.0, 2.0)),
            of_estimate | {"used": (2,), "refused": (0,), "distances": (2,)},
        ),
        "contradiction": (Fused(None, ("left", "right")), {"trusted": (2,), "refused": (0,)}),
        "hypotheses": (PoseHypotheses(poses, covariance, torch.tensor([0.7, 0.3])), several),
        "blind": (BlindPnPEstimate(found, torch.zeros(7, 2).long(), 1e-9, 300), of_estimate | blind),
        "object": (
            ObjectEstimate(ObjectState.VALID, found, Box(1, 2, 3, 4), score=0.9),
            of_estimate | {"score": (), "box": (4,)},
        ),
        "record": (
            FrameResult(ObjectState.VALID, poses[0], covariance[0], poses[1], True, 0.7, 12.5, _camera()),
            {"pose": (4, 4), "covariance": (6, 6), "truth": (4, 4)}
            | dict.fromkeys(("visible", "ncc", "stamp", "score"), ()),
        ),
        "posterior": (PosePosterior(torch.zeros(8), torch.tensor(0.0), poses, samples), posterior),
    }


@pytest.mark.parametrize("kind", _results())
def test_every_result_is_short_in_a_notebook_and_gives_its_arrays(kind: str) -> None:
    result, shapes = _results()[kind]
    arrays = result.numpy()
    assert {name: array.shape for name, array in arrays.items()} == shapes
    assert not any(isinstance(array, torch.Tensor) or array.dtype == object for array in arrays.values())
    text = repr(result)
    assert text.startswith(type(result).__name__ + "(")
    assert len(text) < 330
    assert "tensor" not in text


def _compared_by_arrays(sources: dict[str, str]) -> list[str]:
    """Dataclasses whose ``==`` compares tensors or arrays, which raises, or asks others that do so."""
    found: dict[str, tuple[set[str], bool]] = {}  # the names in its fields and bases, whether it is compared by them
    for file, text in sources.items():
        for mark, name, bases, body in re.findall(r"^@dataclass(.*)\nclass (\w+)(.*):\n((?:\n|    .*\n)*)", text, re.M):
            held = [each for each in re.findall(r"^    \w+: (.*)", body, re.M) if "Callable" not in each]
            found[f"{file}: {name}"] = set(re.findall(r"\w+", " ".join([*held, bases]))), "eq=False" not in mark
    arrays, known = {"Tensor", "NDArray", "ndarray", "RgbImage"}, 0
    while len(arrays) > known:
        known = len(arrays)
        arrays |= {name.split()[-1] for name, (held, _) in found.items() if held & arrays}
    return [name for name, (held, compared) in found.items() if compared and held & arrays]


def test_what_holds_arrays_is_compared_by_identity() -> None:
    """Python 3.13 asks the arrays, which have many answers."""
    base = "@dataclass(frozen=True)\nclass {}:\n    held: {}\n"
    shown = {"a.py": base.format("Inner", "Tensor") + base.format("Outer", "list[Inner]") + base.format("Plain", "int")}
    assert _compared_by_arrays(shown) == ["a.py: Inner", "a.py: Outer"]
    package = Path(pnp_ros.__file__).parent
    assert _compared_by_arrays({path.name: path.read_text() for path in package.rglob("*.py")}) == []


@pytest.mark.parametrize("confidences", ["conf", "confidence"])
@pytest.mark.parametrize("within", [False, True])
def test_keypoints_of_another_library(confidences: str, within: bool) -> None:
    truth = Pose.from_rvec([0.3, -0.2, 0.1], [0.05, -0.02, 0.8])
    pixels = _camera().project(truth.transform(torch.tensor(CORNERS)))
    xy = torch.stack([pixels, torch.zeros_like(pixels)]).numpy()  # of the second instance nothing was found
    xy[0, 3] = 0.0
    confidence = np.full((2, 8), 0.9)
    xy[0, 5], confidence[0, 5] = (600.0, 10.0), 0.2
    found = SimpleNamespace(xy=xy, **{confidences: confidence})
    keypoints = SimpleNamespace(keypoints=found) if within else found
    correspondences = Correspondences.from_keypoints(keypoints, CORNERS, sigma=1.0)
    assert correspondences.has_weight.tolist() == [[i not in (3, 5) for i in range(8)], [False] * 8]
    estimate = solve_pnp(correspondences, _camera())
    assert estimate.usable.tolist() == [True, False]
    torch.testing.assert_close(estimate.pose.translation[0], truth.translation, atol=1e-4, rtol=0)
    without = SimpleNamespace(xy=xy, conf=None)
    assert Correspondences.from_keypoints(without, CORNERS).has_weight.sum() == 7


def test_what_are_no_keypoints_is_named() -> None:
    with pytest.raises(ValueError, match=r"keypoints: expected an object with xy \(..., K, 2\), got list"):
        Correspondences.from_keypoints([[1, 2]], CORNERS)
    found = SimpleNamespace(xy=np.ones((2, 8, 2)), conf=np.ones((2, 7)))
    with pytest.raises(ValueError, match=r"keypoints.confidence: expected shape \(..., 2, 8\), got \(2, 7\)"):
        Correspondences.from_keypoints(found, CORNERS)
    with pytest.raises(ValueError, match=r"object_points: expected shape \(..., 8, 3\), got \(7, 3\)"):
        Correspondences.from_keypoints(SimpleNamespace(xy=np.ones((2, 8, 2))), CORNERS[:7])


@pytest.mark.parametrize(
    "sigma", [2, 2.0, np.float32(2), np.float64(2), np.int64(2), np.array(2.0), torch.tensor(2.0), torch.tensor(2)]
)
def test_one_sigma_for_all_may_be_any_number(sigma: object) -> None:
    points, on_object = torch.rand(12, 2), torch.rand(12, 3)
    torch.testing.assert_close(Correspondences.from_sigma(points, on_object, sigma).weights, torch.full((12, 2), 0.5))
    normals = torch.tensor([1.0, 0.0]).expand(12, 2)
    lines = Correspondences.from_lines(points, on_object, normals, sigma)
    torch.testing.assert_close(lines.weights[:, 0], 0.5 * normals)
    found = Correspondences.from_keypoints(SimpleNamespace(xy=points + 1.0), on_object, sigma)
    torch.testing.assert_close(found.weights, torch.full((12, 2), 0.5))


def test_sigmas_follow_the_points_and_are_positive() -> None:
    points, on_object = torch.rand(12, 2), torch.rand(12, 3)
    for sigma in (torch.full((12,), 2.0).double(), torch.full((12, 2), 2.0).double(), 12 * [2.0]):
        weights = Correspondences.from_sigma(points, on_object, sigma).weights
        torch.testing.assert_close(weights, torch.full((12, 2), 0.5))
    for wrong in (0, 0.0, -1.0):
        with pytest.raises(ValueError, match="sigma: expected more than 0 px"):
            Correspondences.from_sigma(points, on_object, wrong)


def test_a_pose_takes_arrays() -> None:
    for pose in (Pose(np.eye(3), np.ones(3)), Pose.from_matrix(np.eye(4)), Pose(torch.eye(3), [1.0, 1.0, 1.0])):  # type: ignore[arg-type]
        assert pose.rotation.dtype == pose.translation.dtype == torch.float32
        assert "quat_wxyz [1, 0, 0, 0]" in repr(pose)
    with pytest.raises(ValueError, match="translation: expected a tensor or an array"):
        Pose(np.eye(3), "here")  # type: ignore[arg-type]
