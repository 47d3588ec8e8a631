"""``pnp-ros view BAG|SCENE|VIDEO|FOLDER --object objects/NAME``: images, poses and covariances in rerun."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.cli.progress import images
from pnp_ros.cli.requirements import load
from pnp_ros.evaluation.frames import Frame, FrameSource, open_bag, open_source
from pnp_ros.evaluation.overlay import GREEN, ORANGE, MeshOverlay
from pnp_ros.evaluation.told import PoseOf, recorded, running
from pnp_ros.evaluation.truth import TruthOf, load_recorded, load_truth
from pnp_ros.geometry import so3
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.types import Pose

_OBJECTS = "pnp_ros/msg/ObjectPoseArray"
_COLOURS = {ObjectState.VALID: GREEN, ObjectState.UNCERTAIN: ORANGE}
_PLOTS = {
    "state": f"State: {', '.join(f'{rank} {ObjectState.of_rank(rank)}' for rank in range(3))}; score",
    "sigma": "Sigma: mm and degrees",
    "latency": "Latency: ms",
}
_CONFIDENCE_95 = 2.796  # radius in standard deviations of the ellipsoid that holds 95 % of a 3D Gaussian


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("input", type=Path, help="bag, BOP scene folder, video, or folder of images")
    parser.add_argument("--object", type=Path, required=True, help="object package")
    parser.add_argument("--poses", help="topic:/NAME or file:FILE; default: the bag's own, else the estimator is run")
    parser.add_argument("--truth", help="true poses: topic:/NAME, file:FILE, tf:FRAME, or tf")
    parser.add_argument("--camera", type=Path, help="camera_info YAML, where the source has no calibration")
    parser.add_argument("--image-topic", help="of a bag with several image topics")
    parser.add_argument("--rectified", action="store_true", help="P of the CameraInfo holds, not K and D")
    parser.add_argument("--object-id", type=int, help="of a BOP scene with several objects")
    parser.add_argument("--save", type=Path, help="write an .rrd file for the viewer in place of opening it")
    parser.add_argument("--max-frames", type=int, help="stop after this many images")
    parser.add_argument("--device", default="cpu", help="of the networks: cpu or cuda (default cpu)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the networks (default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Log every image to the viewer.

    Raises:
        ValueError: if rerun is not installed, or the source cannot be read.
    """
    rerun = load("rerun")
    package = load_object_package(arguments.object)
    source = open_source(
        arguments.input,
        camera=arguments.camera,
        image_topic=arguments.image_topic,
        object_id=arguments.object_id,
        rectified=arguments.rectified,
    )
    bag = source.path if source.kind == "bag" else None
    poses = arguments.poses or (_recorded_topic(bag) if bag is not None else None)
    if poses:
        pose_of: PoseOf = recorded(load_recorded(poses, bag), package.name)
    else:
        pose_of = running(PoseEstimator(package, EstimatorConfig(track=source.kind != "bop"), arguments.device))
    truth_of = load_truth(arguments.truth, bag) if arguments.truth else None
    rerun.init("pnp_ros", spawn=arguments.save is None)
    if arguments.save is not None:
        rerun.save(arguments.save)
    _log(rerun, source, package.mesh, pose_of, truth_of, arguments.max_frames)
    if arguments.save is not None:
        rerun.disconnect()  # writes what is still on its way to the file
        print(f"{arguments.save}: open it with rerun {arguments.save}")
    return 0


def _recorded_topic(bag: Path) -> str | None:
    """The bag's only topic of estimated objects; the truth that a simulated camera publishes is none."""
    with open_bag(bag) as reader:
        found = [t for t, kind in reader.topics.items() if kind == _OBJECTS and not t.endswith("/truth")]
    return found[0] if len(found) == 1 else None


def _log(
    rerun: Any, source: FrameSource, mesh: TriangleMesh, pose_of: PoseOf, truth_of: TruthOf | None, limit: int | None
) -> None:
    rerun.send_blueprint(_blueprint(rerun, mesh.diameter))
    overlay = MeshOverlay(mesh)
    rerun.log("/", rerun.ViewCoordinates.RDF, static=True)  # the camera's optical frame
    rerun.log("camera/object/mesh", _mesh(rerun, mesh), static=True)
    first_ns: int | None = None
    for frame in images(source, limit):
        first_ns = frame.stamp_ns if first_ns is None else first_ns
        rerun.set_time("time", duration=1e-9 * (frame.stamp_ns - first_ns))
        rerun.set_time("image", sequence=frame.image_id)
        found = pose_of(frame)
        _log_image(rerun, frame, found, overlay)
        _log_pose(rerun, found)
        if truth_of is not None and (truth := truth_of(frame).pose) is not None:
            rerun.log("camera/truth", _transform(rerun, truth))
            rerun.log("camera/truth/axes", _axes(rerun, mesh.diameter))


def _blueprint(rerun: Any, diameter: float) -> Any:
    """Image beside the scene, and below them what the numbers are."""
    views = rerun.blueprint
    plots = [views.TimeSeriesView(origin=origin, name=name) for origin, name in _PLOTS.items()]
    eye = views.EyeControls3D(  # beside and above the camera, looking where the object is likely to be
        position=[3.0 * diameter, -2.5 * diameter, -diameter], look_target=[0, 0, 4.0 * diameter], eye_up=[0, -1, 0]
    )
    top = views.Horizontal(
        views.Spatial2DView(origin="camera/image", name="Image"),
        views.Spatial3DView(origin="/", name="Scene", eye_controls=eye),
    )
    return views.Blueprint(views.Vertical(top, views.Horizontal(*plots), row_shares=[3, 1]), collapse_panels=True)


def _log_image(rerun: Any, frame: Frame, found: FrameResult, overlay: MeshOverlay) -> None:
    drawn = frame.rgb
    if found.pose is not None:
        drawn = overlay.draw(drawn, found.pose, frame.camera, _COLOURS.get(found.state, ORANGE))
    rerun.log("camera/image", _pinhole(rerun, frame.camera), rerun.Image(drawn).compress(jpeg_quality=85))


def _log_pose(rerun: Any, found: FrameResult) -> None:
    rerun.log("state/state", rerun.Scalars(found.state.rank))
    rerun.log("state/score", rerun.Scalars(found.score))
    rerun.log("reason", rerun.TextLog(f"{found.state}: {found.reason}" if found.reason else str(found.state)))
    for stage, seconds in found.latency.items():
        rerun.log(f"latency/{stage}_ms", rerun.Scalars(1e3 * seconds))
    if found.pose is None:
        rerun.log("camera/object", rerun.Clear(recursive=False))
        rerun.log("camera/covariance", rerun.Clear(recursive=False))
        return
    rerun.log("camera/object", _transform(rerun, found.pose))
    if found.covariance is None:
        return
    covariance = found.covariance.double()
    translation, rotation = covariance.diagonal()[:3].sqrt(), covariance.diagonal()[3:].sqrt()
    for axis, metres, radians in zip("xyz", translation.tolist(), rotation.tolist()):
        rerun.log(f"sigma/{axis}_mm", rerun.Scalars(1e3 * metres))
        rerun.log(f"sigma/rotation_{axis}_deg", rerun.Scalars(np.degrees(radians)))
    rerun.log("camera/covariance", _ellipsoid(rerun, found.pose, covariance, found.state))


def _pinhole(rerun: Any, camera: Camera) -> Any:
    """The lens's distortion has no place in rerun: lines in the image are drawn by us, with it."""
    matrix = camera.matrix().numpy()
    return rerun.Pinhole(image_from_camera=matrix, resolution=[camera.width, camera.height], image_plane_distance=0.15)


def _transform(rerun: Any, pose: Pose) -> Any:
    return rerun.Transform3D(translation=pose.translation.double().numpy(), mat3x3=pose.rotation.double().numpy())


def _axes(rerun: Any, length: float) -> Any:
    colours = [(255, 60, 60), (60, 220, 60), (80, 120, 255)]
    return rerun.Arrows3D(vectors=0.5 * length * np.eye(3), origins=np.zeros((3, 3)), colors=colours)


def _ellipsoid(rerun: Any, pose: Pose, covariance: torch.Tensor, state: ObjectState) -> Any:
    """Where the object's origin is with 95 % probability."""
    variances, axes = torch.linalg.eigh(covariance[:3, :3])
    axes = axes * torch.linalg.det(axes).sign()
    w, x, y, z = so3.quat_wxyz_from_matrix(axes).tolist()
    return rerun.Ellipsoids3D(
        centers=[pose.translation.double().numpy()],
        half_sizes=[(_CONFIDENCE_95 * variances.clamp_min(0.0).sqrt()).numpy()],
        quaternions=[rerun.Quaternion(xyzw=[x, y, z, w])],
        colors=[_COLOURS.get(state, ORANGE)],
    )


def _mesh(rerun: Any, mesh: TriangleMesh) -> Any:
    fields: dict[str, Any] = {"vertex_positions": mesh.vertices, "triangle_indices": mesh.faces}
    if mesh.uv is not None and mesh.texture is not None:
        fields |= {"vertex_texcoords": mesh.uv * [1, -1] + [0, 1], "albedo_texture": mesh.texture}
    elif mesh.vertex_colors is not None:
        fields["vertex_colors"] = mesh.vertex_colors
    return rerun.Mesh3D(**fields)
