"""Rotations, rigid transforms and their uncertainty, on torch tensors of any dtype, device and batch shape.

The conventions, for the whole package:

- ``T_camera_object`` maps object points into the camera's optical frame (x right, y down, z forward):
  ``p_camera = R p_object + t``. Metres and radians.
- Quaternions are wxyz and say so in their name; ``q`` and ``-q`` are the same rotation, ``w >= 0`` is returned.
- ``exp`` and ``log`` are those of SO(3): ``exp(phi)`` turns by ``|phi|`` about the axis ``phi / |phi|``.
- A perturbation is ``delta = [dt, dtheta]`` (6), in camera axes about the object's origin:
  ``t = t_hat + dt``, ``R = exp(dtheta) R_hat``. Covariances (6, 6) are of this delta, in this order (REP-103).
  Translation and rotation are perturbed separately: this is not the twist of SE(3), whose translation part has a
  lever arm about the camera's origin.
"""
