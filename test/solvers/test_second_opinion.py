"""Pose and covariance against other implementations: OpenCV's Levenberg-Marquardt, and GTSAM where it is installed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pnp_ros.geometry import covariance as covariances
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.solvers.robust_loss import Gaussian
from pnp_ros.types import Pose
from synthetic.problems import Case, draw


@pytest.mark.parametrize("lens", ["pinhole", "ip", "oak_d", "tilted_14"])
@pytest.mark.parametrize("shape", ["volume", "flat"])
def test_pose_is_that_of_opencv(lens: str, shape: str) -> None:
    problems = draw(Case(n=24, lens=lens, shape=shape), 30)  # type: ignore[arg-type]
    estimate = solve_pnp(
        problems.correspondences(torch.float64),
        problems.lens.camera(torch.float64),
        init=problems.truth(),
        loss=Gaussian(),
    )
    deviation = np.sqrt(np.diagonal(estimate.covariance.numpy(), axis1=-2, axis2=-1))
    _, _, ours = problems.errors(estimate.pose)
    matrix, distortion = problems.lens.matrix, problems.lens.coefficients
    rotations, translations = [], []
    for i in range(len(problems)):
        rvec, tvec = cv2.Rodrigues(problems.rotation[i])[0], problems.translation[i][:, None].copy()
        image_points, object_points = problems.image_points[i], problems.object_points[i]
        rvec, tvec = cv2.solvePnPRefineLM(object_points, image_points, matrix, distortion, rvec, tvec)
        rotations.append(cv2.Rodrigues(rvec)[0])
        translations.append(tvec.ravel())
    theirs = Pose(torch.from_numpy(np.stack(rotations)), torch.from_numpy(np.stack(translations)))
    _, _, other = problems.errors(theirs)
    assert (np.abs(ours - other) < 0.05 * deviation).all()


@pytest.mark.parametrize(
    "case", [Case(n=12), Case(n=24, weights="full", sigma=2.0), Case(n=24, shape="flat", extent=0.7)], ids=str
)
def test_pose_and_covariance_are_those_of_gtsam(case: Case) -> None:
    gtsam = pytest.importorskip("gtsam", reason="GTSAM is not installed (pip install gtsam)")
    problems = draw(case, 10)
    estimate = solve_pnp(
        problems.correspondences(torch.float64),
        problems.lens.camera(torch.float64),
        init=problems.truth(),
        loss=Gaussian(),
    )
    calibration = gtsam.Cal3_S2(*problems.lens.focal, 0.0, *problems.lens.centre)
    # GTSAM's pose is that of the camera; its tangent is [rotation, translation] in the camera's own axes.
    in_camera = covariances.of_inverse(estimate.pose, estimate.covariance)
    for i in range(len(problems)):
        graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
        inverse = problems.rotation[i].T
        camera_pose = gtsam.Pose3(gtsam.Rot3(inverse), -inverse @ problems.translation[i])
        values.insert(0, camera_pose)
        for j in range(case.n):
            noise = gtsam.noiseModel.Gaussian.SqrtInformation(problems.whitening[i, j])
            values.insert(j + 1, problems.object_points[i, j])
            exact = gtsam.noiseModel.Constrained.All(3)
            graph.add(gtsam.PriorFactorPoint3(j + 1, problems.object_points[i, j], exact))
            graph.add(gtsam.GenericProjectionFactorCal3_S2(problems.image_points[i, j], noise, 0, j + 1, calibration))
        result = gtsam.LevenbergMarquardtOptimizer(graph, values).optimize()
        found = result.atPose3(0)
        rotation = found.rotation().matrix().T
        translation = -rotation @ found.translation()
        deviation = estimate.covariance[i].diagonal().sqrt().numpy()
        ours = estimate.pose.translation[i].numpy()
        assert (np.abs(ours - translation) < 0.02 * deviation[:3]).all()
        turn = cv2.Rodrigues(estimate.pose.rotation[i].numpy() @ rotation.T)[0].ravel()
        assert (np.abs(turn) < 0.02 * deviation[3:]).all()

        theirs = gtsam.Marginals(graph, result).marginalCovariance(0)
        # from [turn, move] in the camera's axes to [dt, dtheta] in the object's axes
        to_object = found.rotation().matrix()
        order = np.block([[np.zeros((3, 3)), to_object], [to_object, np.zeros((3, 3))]])
        expected = order @ theirs @ order.T
        scale = np.sqrt(np.diag(expected))
        np.testing.assert_allclose(
            in_camera[i].numpy() / np.outer(scale, scale), expected / np.outer(scale, scale), atol=0.02
        )
