"""The values that flow through the package: correspondences in, a pose and its covariance out.

Conventions (see ``docs/design.md``): metres, radians, pixels; pixel centres at integer coordinates; a pose maps
object points into the camera's optical frame (x right, y down, z forward); leading dimensions ``...`` are batch
dimensions. All tensors of one value share a device and a floating dtype.
"""

from pnp_ros.types.correspondences import Correspondences
from pnp_ros.types.estimate import Alternative, PoseEstimate, SolveStatus
from pnp_ros.types.pose import Pose

__all__ = ["Alternative", "Correspondences", "Pose", "PoseEstimate", "SolveStatus"]
