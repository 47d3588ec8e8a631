"""Camera models: from points in the camera frame to pixels and back, for every lens that ``sensor_msgs`` describes.

A lens module (:mod:`~pnp_ros.cameras.pinhole`, :mod:`~pnp_ros.cameras.brown_conrady`,
:mod:`~pnp_ros.cameras.kannala_brandt`) works on the plane of focal length one and knows two functions:

- ``project(points (..., N, 3), distortion (..., D)) -> (..., N, 2), (..., N, 2, 3)``: value and Jacobian;
- ``unproject(plane (..., N, 2), distortion (..., D)) -> (..., N, 3)``: unit bearings, NaN where no ray arrives.

:class:`pnp_ros.cameras.camera.Camera` adds focal lengths, principal point, crop, ROI and binning. Pixel centres are at
integer coordinates. Everything is differentiable, also with respect to the parameters, and finite for finite input,
save the bearings of pixels beyond the lens's fold.
"""
