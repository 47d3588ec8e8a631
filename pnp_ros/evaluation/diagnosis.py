"""Why an object is not found, or its pose is off: what is measured on images, in words, each with its cure.

The estimator looks at each image twice: as it is, and believing whatever its sources say. A pose that is only believed
tells where to look for colours, size and distance; whether the image bears it out, the alignment says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pnp_ros.alignment.aligner import MATCH, Aligner, start_at
from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import CropError, box_from_pose
from pnp_ros.evaluation import image_faults
from pnp_ros.evaluation.frames import Frame
from pnp_ros.evaluation.mesh_size import Measured, SizeTold, by_depth, by_distance, by_motion
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.result import FrameResult
from pnp_ros.rendering.domain_randomisation import RandomisationConfig
from pnp_ros.rendering.materials import MESH
from pnp_ros.rendering.ray_view import RayMesh
from pnp_ros.rendering.renderer import Renderer, RendererError
from pnp_ros.types import Pose

_BELIEVING = EstimatorConfig(
    align=False, track=False, detector_threshold=0.0, lost_presence=0.0, valid_presence=0.0, min_inliers=4,
    valid_inliers=0.0, min_matches=4, valid_matches=1, max_chi_square=1e12, max_keypoint_sigma=1e12,
    max_rotation_sigma=1e12, max_translation_sigma=1e12, min_distance=1e-3, max_distance=1e6,
)  # fmt: skip
_BELIEVING_SOURCES = ("keypoints", "features", "dense")  # templates say nothing that alignment has not borne out
_CREDIBLE_SCORE, _CREDIBLE_SHARE = 0.15, 0.12  # presence, or share of the object that is explained: it is there
_WELL = 0.9  # share of valid poses from which nothing is wrong
_BLURRED, _DARK, _BRIGHT, _CLIPPED = 0.7, 25.0, 235.0, 0.4
_OTHER_PAINT = 30.0  # in Lab, see hue_difference
_SMALL = 50.0  # pixels of the object's box
_LARGEST, _SMALLEST = 5.0, 0.005  # metres: of what a camera on a robot looks at
_VIEW_ANGLES = (15.0, 140.0)  # degrees, across the image
_OFF_CENTRE = 0.15  # of the width
_FOCALS = (0.5, 0.67, 0.8, 1.25, 1.5, 2.0)  # times the calibration's
_FOCAL_IMAGES, _FOCAL_EXPLAINED = 9, 0.3  # that they are tried on
_LEAST_MISS = 0.05  # pixels: less is chance
_NO_FIT = 3.0  # pixels: counted where the image does not bear the object out
_FOCAL_GAIN = 0.8  # of the calibration's error in the median image: another focal length must do with less
_TOLD = (0.1, 0.15)  # diameters and rad: how far a pose may move when it is tried in another camera


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Args:
        subject: one word: mesh, calibration, size, distance, images, colours, detection.
        text: what was measured, in words.
        cure: what to do.
    """

    subject: str
    text: str
    cure: str


@dataclass(frozen=True, eq=False)
class Seen:
    """One image: what the estimator says, and the pose if its sources were believed.

    Args:
        frame: the image.
        result: as the estimator gives it out.
        box: (x, y, width, height) of the object where it is valid; None elsewhere.
        pose: that of the result, else the believed one; None where there is none at all.
        score: presence that the sources see, 0 to 1.
        explained: share of the object that the image shows at the pose; 0 without one.
    """

    frame: Frame
    result: FrameResult
    box: Box | None
    pose: Pose | None
    score: float
    explained: float

    @property
    def placed(self) -> Pose | None:
        """The pose, if there is a reason to believe it."""
        return self.pose if self.score >= _CREDIBLE_SCORE or self.explained >= _CREDIBLE_SHARE else None


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """All of it; ``findings`` is empty where nothing is wrong."""

    seen: list[Seen]
    findings: list[Finding]

    @property
    def valid(self) -> int:
        """Images with a valid pose."""
        return sum(each.result.is_valid for each in self.seen)


def unfit(package: ObjectPackage, camera: Camera, image: NDArray[np.uint8]) -> list[Finding]:
    """What is wrong before any image is searched: the mesh's size, the calibration by itself."""
    found = []
    diameter = package.diameter
    if not _SMALLEST <= diameter <= _LARGEST:
        unit = "millimetres: units mm" if diameter > _LARGEST else "metres: units m"
        text = f"the mesh is {diameter:.3g} m across"
        found.append(Finding("size", text, f"its file is probably in {unit} when the package is made"))
    width, height = camera.width, camera.height
    if image.shape[:2] != (height, width):
        text = f"the calibration is for {width}x{height} pixels, the images have {image.shape[1]}x{image.shape[0]}"
        found.append(Finding("calibration", text, "calibrate at this resolution, or scale fx, fy, cx, cy with it"))
        return found
    fx, _, cx, cy = camera.intrinsics.tolist()
    angle = math.degrees(2.0 * math.atan(0.5 * width / fx))
    if not _VIEW_ANGLES[0] <= angle <= _VIEW_ANGLES[1]:
        text = f"by its focal length of {fx:.0f} px the camera would see {angle:.0f} degrees across"
        found.append(Finding("calibration", text, "pnp-ros calibrate"))
    off = max(abs(cx - 0.5 * width), abs(cy - 0.5 * height)) / width
    if off > _OFF_CENTRE:
        text = f"the principal point ({cx:.0f}, {cy:.0f}) is {off:.0%} of the width beside the image's middle"
        found.append(
            Finding("calibration", text, "was the image cropped or scaled after calibration? pnp-ros calibrate")
        )
    return found


def diagnose(
    frames: Sequence[Frame],
    package: ObjectPackage,
    device: str = "cpu",
    measured: Measured | None = None,
    watch: Callable[[], None] = lambda: None,
) -> Diagnosis:
    """Look at the images and say what is wrong.

    Args:
        frames: some images, which need not follow each other closely.
        package: of the object.
        device: of the networks.
        measured: what is known beside the images: then the mesh's size is judged.
        watch: called after each image.

    Raises:
        ValueError: if there is no image.
    """
    if not frames:
        raise ValueError("the source holds no image")
    findings = unfit(package, frames[0].camera, frames[0].rgb)
    if any(frame.rgb.shape[:2] != (frame.camera.height, frame.camera.width) for frame in frames):
        return Diagnosis([], findings)
    aligner = Aligner(package.mesh)
    strict = PoseEstimator(package, EstimatorConfig(track=False), device)
    networks_or_features = any(source in _BELIEVING_SOURCES for source in strict.sources)
    believing = PoseEstimator(package, _BELIEVING, device) if networks_or_features else None
    seen = []
    for frame in frames:
        seen.append(_look(frame, strict, believing, aligner, package))
        watch()
    found = Diagnosis(seen, findings)
    findings += _size(found, measured or Measured(), package)
    findings += _images(found)
    if found.valid < _WELL * len(seen):
        findings += [*_colours(found, package), *_distances(found, package), *_mesh(package)]
    findings += _focal_length(found, package, aligner)
    if not findings and found.valid < _WELL * len(seen):
        findings += _detection(found)
    return found


def _look(
    frame: Frame, strict: PoseEstimator, believing: PoseEstimator | None, aligner: Aligner, package: ObjectPackage
) -> Seen:
    estimate = strict.estimate(frame.rgb, frame.camera)
    result = FrameResult.of(estimate, 1e-9 * frame.stamp_ns, frame.camera)
    box = estimate.box if result.is_valid else None
    if result.is_valid or believing is None:
        return Seen(frame, result, box, result.pose, result.score, result.explained or 0.0)
    guess = believing.estimate(frame.rgb, frame.camera)
    if guess.estimate is None:
        return Seen(frame, result, box, result.pose, guess.score, result.explained or 0.0)
    start = start_at(guess.estimate.pose, _TOLD[0] * package.diameter, _TOLD[1])
    aligned = aligner.align(frame.rgb, frame.camera, start)
    pose = aligned.estimate.pose if aligned.evidence.supported else guess.estimate.pose
    aligner.forget()
    return Seen(frame, result, box, pose, guess.score, aligned.evidence.explained)


def _size(found: Diagnosis, measured: Measured, package: ObjectPackage) -> list[Finding]:
    """What each second measurement says of the mesh's size."""
    poses = [each.pose if each.result.is_valid else None for each in found.seen]
    if not any(poses):
        poses = [each.placed for each in found.seen]
    placed = [(index, pose) for index, pose in enumerate(poses) if pose is not None]
    told: list[SizeTold | None] = []
    if measured.distance is not None:
        told.append(by_distance([pose for _, pose in placed], measured.distance))
    if measured.depths is not None:
        views = [(pose, found.seen[i].frame.camera, d) for i, pose in placed if (d := measured.depths[i]) is not None]
        told.append(by_depth(RayMesh(package.mesh), views))
    if measured.cameras is not None:
        told.append(by_motion([(c, pose) for i, pose in placed if (c := measured.cameras[i]) is not None]))
    return [Finding("size", each.words, each.cure) for each in told if each is not None and not each.is_right]


def _share(found: Diagnosis, test: Callable[[Seen], bool]) -> float:
    return sum(map(test, found.seen)) / len(found.seen)


def _images(found: Diagnosis) -> list[Finding]:
    parts = [_around(each) for each in found.seen]
    grey = np.median([image_faults.brightness(part) for part in parts])
    clipped = np.median([image_faults.clipped(part) for part in parts])
    if grey < _DARK:
        return [Finding("images", f"the images are dark (median {grey:.0f} of 255)", "more light")]
    if grey > _BRIGHT or clipped > _CLIPPED:
        text = f"the images are overexposed ({clipped:.0%} of the pixels are white)"
        return [Finding("images", text, "expose for a shorter time")]
    blur = np.median([image_faults.blur(part) for part in parts])
    if blur > _BLURRED:
        text = f"the images are blurred ({blur:.2f}, sharp ones have about 0.5)"
        return [Finding("images", text, "focus the lens, expose for a shorter time, or clean the lens")]
    return []


def _around(seen: Seen) -> NDArray[np.uint8]:
    """The image where the object is, if it is somewhere; else all of it."""
    rgb = seen.frame.rgb
    if seen.box is None:
        return rgb
    x, y, width, height = seen.box
    rows = slice(max(0, round(y - 0.2 * height)), round(y + 1.2 * height))
    part = rgb[rows, max(0, round(x - 0.2 * width)) : round(x + 1.2 * width)]
    return part if min(part.shape[:2]) >= 32 else rgb


def _colours(found: Diagnosis, package: ObjectPackage) -> list[Finding]:
    """The object drawn at its poses, beside the images."""
    try:
        renderer = Renderer()
    except RendererError:
        return []
    differences, shown, drawn = [], [], []
    with renderer:
        handle = renderer.add(package.mesh)
        for each in found.seen:
            if each.placed is None:
                continue
            view = renderer.render([(handle, each.placed)], each.frame.camera)
            inside = view.mask > 0
            if inside.sum() >= 100:
                shown.append(each.frame.rgb[inside])
                drawn.append(view.rgb[inside])
                differences.append(image_faults.hue_difference(drawn[-1], shown[-1]))
    if not differences or np.median(differences) < _OTHER_PAINT:
        return []
    colours = [image_faults.mean_colour(np.concatenate(pixels)) for pixels in (drawn, shown)]
    text = f"the colours are unlike the mesh's: it is about {colours[0]}, the image there {colours[1]}"
    cure = "give the mesh the object's colours or texture, and train or onboard again; or the object is elsewhere"
    return [Finding("colours", text, cure)]


def _distances(found: Diagnosis, package: ObjectPackage) -> list[Finding]:
    findings = []
    extent = torch.from_numpy(package.mesh.extreme_points)
    sizes, diameters = [], []
    for each in found.seen:
        if each.placed is None:
            continue
        diameters.append(float(each.placed.translation.norm()) / package.diameter)
        try:
            sizes.append(max(box_from_pose(each.frame.camera, each.placed, extent)[2:]))
        except CropError:
            continue
    if sizes and np.median(sizes) < _SMALL:
        text = f"the object is small in the images: {np.median(sizes):.0f} pixels"
        findings.append(Finding("distance", text, f"go nearer, or take a longer lens: {_SMALL:.0f} pixels and more"))
    low, high = RandomisationConfig().distance
    if package.weights_path is not None and diameters and not low <= np.median(diameters) <= high:
        far = "farther" if np.median(diameters) > high else "nearer"
        text = f"the object is {np.median(diameters):.1f} diameters away, {far} than trained ({low:g} to {high:g})"
        findings.append(Finding("distance", text, "go nearer" if far == "farther" else "go farther away"))
    return findings


def _mesh(package: ObjectPackage) -> list[Finding]:
    if package.mesh.texture is not None or "vertex colours" in package.mesh.color_source:
        return []
    if package.weights_path is None or set(package.colour) - {MESH}:
        return []  # found by its edges, or trained for other colours
    text = f"the mesh has {package.mesh.color_source}: an object of another colour is not found by it"
    cure = "train with colour any, or with its colour as #rrggbb; or give the mesh the object's colours"
    return [Finding("mesh", text, cure)]


def _focal_length(found: Diagnosis, package: ObjectPackage, aligner: Aligner) -> list[Finding]:
    """Whether the object, drawn and aligned, fits the images better in a camera of another focal length."""
    known = sorted((each for each in found.seen if each.explained >= _FOCAL_EXPLAINED), key=lambda e: -e.explained)
    known = known[:_FOCAL_IMAGES]
    if not known:
        return []
    usual = _misses(known, 1.0, aligner, package)
    ratios = {f: float(np.median(_misses(known, f, aligner, package) / usual)) for f in _FOCALS}
    best = min(ratios, key=lambda factor: ratios[factor])
    if not ratios[best] < _FOCAL_GAIN:
        return []
    fx = float(known[0].frame.camera.intrinsics[0])
    text = (
        f"in a camera with a focal length of about {best * fx:.0f} px the object, drawn, misses the images by "
        f"{ratios[best]:.0%} of what it does with the calibration's {fx:.0f} px"
    )
    return [Finding("calibration", text, "calibrate the camera: pnp-ros calibrate")]


def _misses(known: Sequence[Seen], factor: float, aligner: Aligner, package: ObjectPackage) -> NDArray[np.float64]:
    """For each image the median distance in pixels of what is found in it from where the aligned object has it."""
    distances = []
    for each in known:
        assert each.pose is not None
        intrinsics = each.frame.camera.intrinsics.clone()
        intrinsics[:2] *= factor
        camera = replace(each.frame.camera, intrinsics=intrinsics)
        away = each.pose.translation * torch.tensor([1.0, 1.0, factor], dtype=each.pose.translation.dtype)
        start = start_at(Pose(each.pose.rotation, away), _TOLD[0] * package.diameter, _TOLD[1])
        aligned = aligner.align(each.frame.rgb, camera, start)
        aligner.forget()
        if not aligned.evidence.supported:
            distances.append(_NO_FIT)
            continue
        points = aligned.correspondences
        off = camera.project(aligned.estimate.pose.transform(points.object_points)) - points.image_points
        matches = aligned.kinds == MATCH if (aligned.kinds == MATCH).sum() >= 20 else aligned.kinds == aligned.kinds
        distances.append(float(off[matches].norm(dim=-1).median()))
    return np.maximum(distances, _LEAST_MISS)


def _detection(found: Diagnosis) -> list[Finding]:
    scores = [each.score for each in found.seen]
    explained = [each.explained for each in found.seen]
    reasons = [each.result.reason for each in found.seen if each.result.reason]
    most = max(set(reasons), key=reasons.count) if reasons else "no reason was given"
    if np.median(scores) < 0.5:
        text = f"the object is seen nowhere: presence {np.median(scores):.2f} in the median; most often: {most}"
        cure = "is it in the images, and does it look like the mesh? train longer, or with backgrounds of the place"
    else:
        text = (
            f"something like the object is seen (presence {np.median(scores):.2f}), but the images show "
            f"{np.median(explained):.0%} of it where it is drawn; most often: {most}"
        )
        cure = "is much of it hidden? is the mesh exact, and its print this one? has it undeclared symmetries?"
    return [Finding("detection", text, cure)]
