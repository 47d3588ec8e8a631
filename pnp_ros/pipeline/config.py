"""Settings of the estimator: how it searches, and when it calls a pose valid, uncertain or lost."""

from __future__ import annotations

from dataclasses import dataclass

from pnp_ros import settings
from pnp_ros.alignment.config import AlignmentConfig
from pnp_ros.settings import bounded, chosen

SOURCES = ("keypoints", "features", "templates")
SOLVERS = ("robust", "pnp_net", "epropnp")


@dataclass(frozen=True)
class EstimatorConfig:
    """Thresholds and counts.

    Args:
        sources: where correspondences come from, asked in this order; those that the package does not have are left
            out. ``keypoints``: the trained networks; ``features``: local features of the mesh;
            ``templates``: the mesh's edges, for a package that has neither, and beside networks of an object without
            texture that are not sure; a search takes seconds, and ``align``.
        solver: how a pose is found from correspondences. ``robust``: samples of points; ``pnp_net``: samples of the
            points that a network trusts; ``epropnp``: the likeliest mode of the posterior.
        hypotheses: look for other poses that the image does not tell from the one found; a pose is valid only where
            none is left. Off, a body that looks alike from several sides gets one of its poses.
        align: compare the object rendered at the pose with the image, align the pose to it, and give out as valid only
            what the image supports.
        plain: the object is of one colour, as its mesh is: its shading must fit, too. That refuses most images of its
            mirror image, and half of those in which something hides a third of it.
        focal_sigma: standard deviation of the focal length, as a share of it, where the calibration does not tell one
            (``calibration_sigmas`` in its file); in the covariance of aligned poses, as are the next three.
        centre_sigma: standard deviation of the principal point in x and in y, pixels, where the calibration does not.
        size_sigma: standard deviation of the mesh's scale, as a share of it.
        shape_sigma: standard deviation of the mesh's surface, as a share of the diameter.
        detector_threshold: lowest score of a place that is looked at, 0 to 1.
        max_candidates: places tried per source and image, best first; one where the object is absent takes one crop.
        lost_presence: presence probability below which the object is absent.
        valid_presence: presence probability below which a pose is uncertain.
        min_inliers: fewer inlier keypoints: lost.
        valid_inliers: smallest share of inlier keypoints of a valid pose, 0 to 1.
        min_matches: fewer matches of features that agree: lost.
        valid_matches: fewest matches that agree on a valid pose.
        valid_guess: smallest share of an object without texture that the image must show, by area, for a guess to be
            valid: a pose from templates, of which some among thousands come near by chance, or one of which the
            networks are not sure. A tenth more of the object where its shading tells nothing.
        max_chi_square: largest reduced chi-square of a valid pose's inliers.
        max_keypoint_sigma: largest median standard deviation of a valid pose's keypoints, as a share of the object's
            projected diameter.
        max_rotation_sigma: largest standard deviation about the worst axis of a valid pose, radians.
        max_translation_sigma: the same of the position, as a share of the distance.
        min_distance, max_distance: plausible distance from the camera, in diameters of the object.
        settled: a crop whose window differs from the one its pose asks for by at most this share is the right one.
        max_passes: crops per candidate until the pose settles.
        robust_scale: scale of the robust loss, in standard deviations.
        track: follow the last pose; off, every image is searched anew, and nothing is learnt of the last.

    Raises:
        ValueError: naming the field and what it expects.
    """

    sources: tuple[str, ...] = chosen(SOURCES, SOURCES)
    solver: str = chosen("robust", SOLVERS)
    hypotheses: bool = True
    align: bool = True
    plain: bool = False
    focal_sigma: float = bounded(AlignmentConfig.focal_sigma, 0.0, 1.0)
    centre_sigma: float = bounded(AlignmentConfig.centre_sigma, 0.0, 1000.0)
    size_sigma: float = bounded(AlignmentConfig.size_sigma, 0.0, 1.0)
    shape_sigma: float = bounded(AlignmentConfig.shape_sigma, 0.0, 1.0)
    detector_threshold: float = bounded(0.1, 0.0, 1.0)
    max_candidates: int = bounded(12, 1, 100)
    lost_presence: float = bounded(0.2, 0.0, 1.0)
    valid_presence: float = bounded(0.5, 0.0, 1.0)
    min_inliers: int = bounded(5, 4, 10_000)
    valid_inliers: float = bounded(0.5, 0.0, 1.0)
    min_matches: int = bounded(8, 4, 10_000)
    valid_matches: int = bounded(12, 1, 10_000)
    valid_guess: float = bounded(0.7, 0.0, 1.0)
    max_chi_square: float = bounded(4.0, 1e-6, 1e12)
    max_keypoint_sigma: float = bounded(0.15, 1e-6, 1e12)
    max_rotation_sigma: float = bounded(0.12, 1e-6, 1e12)
    max_translation_sigma: float = bounded(0.05, 1e-6, 1e12)
    min_distance: float = bounded(0.6, 1e-6, 1e6)
    max_distance: float = bounded(100.0, 1e-6, 1e12)
    settled: float = bounded(0.06, 0.0, 1.0)
    max_passes: int = bounded(4, 1, 32)
    robust_scale: float = bounded(2.0, 1e-3, 1e6)
    track: bool = True

    @property
    def alignment(self) -> AlignmentConfig:
        """How exact camera and mesh are taken to be, and what is known of the object's colour."""
        return AlignmentConfig(
            plain=self.plain,
            focal_sigma=self.focal_sigma,
            centre_sigma=self.centre_sigma,
            size_sigma=self.size_sigma,
            shape_sigma=self.shape_sigma,
        )

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))  # a list, where it came from a file or a ROS parameter
        settings.check(self)
        if not self.max_distance > self.min_distance:
            raise ValueError(f"max_distance: expected more than min_distance, got {self.max_distance}")
        if not self.valid_presence >= self.lost_presence:
            raise ValueError(f"valid_presence: expected at least lost_presence, got {self.valid_presence}")


NETWORKS_ALONE = EstimatorConfig(sources=("keypoints",), align=False, track=False)  # each image by itself
