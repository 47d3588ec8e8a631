"""From a batch to the loss of one training step, for each network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pnp_ros.cameras.camera import Camera, CameraModel
from pnp_ros.networks.dense_network import all_cells
from pnp_ros.networks.keypoint_network import decode
from pnp_ros.training.batches import Batch
from pnp_ros.training.losses import dense_loss, detector_loss, keypoint_loss
from pnp_ros.training.pose_losses import PoseLoss
from pnp_ros.training.ray_coordinates import ray_coordinates
from pnp_ros.types import Correspondences, Pose


@dataclass(frozen=True, eq=False)
class KeypointStep:
    """The keypoint network's own loss, and from a share of the budget on the pose's beside it.

    Args:
        pose_loss: of the pose, on the batches' device.
        keypoints: (K, 3) metres.
        begin: share of the budget, 0 to 1, at which it joins in.
    """

    pose_loss: PoseLoss
    keypoints: Tensor
    begin: float

    def __call__(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss and figures to show."""
        raw = network(images(batch))
        loss, figures = keypoint_loss(raw, batch["keypoints"], batch["present"])
        if self.pose_loss.kind == "heatmap" or progress < self.begin:
            return loss, figures
        prediction = decode(raw)
        points = self.keypoints.to(prediction.image_points).expand(len(prediction.image_points), -1, -1)
        found = Correspondences(prediction.image_points, points, 1.0 / prediction.sigma)
        term, more = self.pose_loss(*of_present(found, batch))
        return loss + term, figures | more


@dataclass(frozen=True, eq=False)
class DenseStep:
    """The dense network's own loss, and from a share of the budget on the pose's beside it.

    Args:
        pose_loss: of the pose, on the batches' device.
        size: of the object, metres.
        begin: share of the budget, 0 to 1, at which it joins in.
        box: (2, 3) lowest and highest corner of the object, metres: no coordinates are told, all is learnt from the
            poses, by which :func:`ray_coordinates` stand in for them. None: they are told.
    """

    pose_loss: PoseLoss
    size: float
    begin: float
    box: Tensor | None = None

    def __call__(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss and figures to show."""
        raw = network(images(batch))
        cells, coordinates = all_cells(raw), batch["coordinates"]
        joined = self.pose_loss.kind != "heatmap" and progress >= self.begin
        found, camera, pose = of_present(cells, batch)
        residual = None
        with torch.autocast(coordinates.device.type, enabled=False):  # a pose is no matter of eight bits
            if self.box is not None:
                points = ray_coordinates(camera, pose, found.image_points, self.box.to(coordinates))
                coordinates = torch.full_like(coordinates, torch.nan)
                coordinates[batch["present"]] = points.mT.unflatten(-1, coordinates.shape[-2:])
            if not (joined and self.pose_loss.teaches_weights):
                missed = camera.project(pose.transform(found.object_points.detach())) - found.image_points
                residual = torch.zeros_like(cells.image_points)
                residual[batch["present"]] = missed.nan_to_num(1e3)
        loss, figures = dense_loss(raw, coordinates, residual, batch["present"], self.size)
        if not joined:
            return loss, figures
        term, more = self.pose_loss(found, camera, pose)
        return loss + term, figures | more


def detector_step(network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The scalar loss of the detector and figures to show."""
    return detector_loss(network(images(batch)), batch["boxes"], batch["present"])


def images(batch: Batch) -> Tensor:
    """(B, 3, H, W) in [0, 1] of a batch's bytes."""
    return batch["images"].float().div_(255.0).contiguous(memory_format=torch.channels_last)


def of_present(correspondences: Correspondences, batch: Batch) -> tuple[Correspondences, Camera, Pose]:
    """Correspondences, camera and true pose of those crops (B) of a batch that show the object."""
    shown = batch["present"].nonzero()[:, 0]
    height, width = batch["images"].shape[-2:]
    intrinsics, pose = batch["intrinsics"][shown], batch["pose"][shown]
    return (
        Correspondences(
            correspondences.image_points[shown], correspondences.object_points[shown], correspondences.weights[shown]
        ),
        Camera(CameraModel.PINHOLE, intrinsics, intrinsics.new_zeros(0), width, height),
        Pose(pose[..., :3], pose[..., 3]),
    )
