"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pnp_ros import settings
from pnp_ros.networks.edges import SEES, Sees
from pnp_ros.rendering.materials import MESH, check_colours
from pnp_ros.settings import bounded, chosen, spanned
from pnp_ros.training.pose_losses import LOSSES, Loss

Views = Literal["all", "upper"]
Network = Literal["keypoints", "dense"]
SHIPPED: Literal["shipped"] = "shipped"
_SMALL_STEP, _LARGE_STEP = 16, 48  # crops
_USUAL_WIDTH = 32


def crops_a_step(sees: Sees, device: str) -> int:
    """How many crops suit a training: more steps from as many crops leave the start sooner.

    A GPU takes hardly longer for more of them.
    """
    return _LARGE_STEP if sees == "colours" and device != "cpu" else _SMALL_STEP


def has_start(network: Network, width: int) -> bool:
    """Whether layers for such a network come with pnp_ros."""
    return network == "keypoints" and width == _USUAL_WIDTH


@dataclass(frozen=True)
class TrainingConfig:
    """How an object is trained.

    Args:
        minutes: wall-clock budget of both networks and the validation together.
        num_keypoints: on the object's surface.
        views: ``all`` orientations, or those that show the ``upper`` side (+z) of the object.
        max_roll: largest turn of the camera about its line of sight, degrees; less than 180 where up stays up.
        backgrounds: folder of images to render in front of, beside the procedural ones; None for those alone.
        colour: of the object: ``mesh`` as it says, ``any``, or ``#rrggbb``; several: each of them. See
            :mod:`pnp_ros.rendering.materials`.
        focal_range: smallest and largest focal length of the rendered images, as a multiple of their width.
        device: ``cpu`` or ``cuda``.
        workers: processes that render; 0 chooses by the number of cores.
        seed: of everything random.
        crop_batch, frame_batch: images per step of the keypoint network and of the detector, per process.
        width: of the keypoint network, see :class:`~pnp_ros.networks.keypoint_network.KeypointNetworkConfig`.
        detector_share: share of the minutes that trains the detector.
        validation_share: share of the minutes kept for validation.
        validation_frames: held-out images, fewer if they do not fit into the time.
        learning_rate: the largest one.
        sees: what the networks get of an image: its ``colours``, or its ``edges``, of which an object of any colour is
            learnt sooner.
        network: that finds the correspondences: ``keypoints``, or ``dense``: an object point for each cell of the crop.
        loss: of that network, see :mod:`pnp_ros.training.pose_losses`; ``heatmap`` is its own alone: heat maps of the
            keypoints, or object coordinates of the cells. At equal images ``epropnp`` finds more poses.
        pose_loss_begin: share of that network's budget after which the loss through the pose joins in.
        from_poses: the dense network learns from the poses alone, without object coordinates.
        start_from: object package whose weights the training starts with, of another object all but the last layers;
            ``shipped``: layers that come with pnp_ros, of a keypoint network that sees edges, so that one which sees
            colours has a first layer of its own; None: random ones.

    Raises:
        ValueError: naming the field and what it expects.
    """

    minutes: float = bounded(40.0, 1e-3, 1e5)
    num_keypoints: int = bounded(16, 6, 1024)
    views: Views = chosen("all", get_args(Views))
    max_roll: float = bounded(180.0, 0.0, 180.0)
    backgrounds: Path | None = None
    colour: tuple[str, ...] = (MESH,)
    focal_range: tuple[float, float] = spanned(0.7, 1.6, 0.2, 10.0)
    device: str = "cpu"
    workers: int = bounded(0, 0, 1024)
    seed: int = bounded(0, 0, 2**31 - 1)
    crop_batch: int = bounded(_SMALL_STEP, 2, 100_000)
    frame_batch: int = bounded(24, 2, 100_000)
    width: int = bounded(_USUAL_WIDTH, 1, 4096)
    detector_share: float = bounded(0.15, 1e-6, 0.9)
    validation_share: float = bounded(0.06, 1e-6, 0.5)
    validation_frames: int = bounded(400, 1, 1_000_000)
    learning_rate: float = bounded(2e-3, 1e-9, 1.0)
    sees: Sees = chosen("colours", SEES)
    network: Network = chosen("keypoints", get_args(Network))
    loss: Loss = chosen("epropnp", LOSSES)
    pose_loss_begin: float = bounded(0.4, 0.0, 1.0)
    from_poses: bool = False
    start_from: Path | Literal["shipped"] | None = None

    def __post_init__(self) -> None:
        settings.check(self)
        check_colours(self.colour)
        if self.backgrounds is not None and not self.backgrounds.is_dir():
            raise ValueError(f"backgrounds: no such folder: {self.backgrounds}")
        if self.from_poses and (self.network != "dense" or self.loss not in ("epropnp", "both")):
            raise ValueError(
                f"from_poses: expected network dense and loss epropnp or both, got {self.network} and {self.loss}"
            )
        if self.start_from == SHIPPED and not has_start(self.network, self.width):
            raise ValueError(f"start_from: {SHIPPED} are layers of a keypoint network, {_USUAL_WIDTH} wide")
        if not self.detector_share + self.validation_share < 1.0:
            raise ValueError(f"detector_share: expected to leave time for the keypoints, got {self.detector_share}")

    @property
    def detector_seconds(self) -> float:
        """Wall-clock budget of the detector."""
        return self.minutes * 60.0 * self.detector_share

    @property
    def keypoint_seconds(self) -> float:
        """Wall-clock budget of the keypoint network."""
        return self.minutes * 60.0 * (1.0 - self.detector_share - self.validation_share)
