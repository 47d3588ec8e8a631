"""What many views determine together: the camera (calibration), or points and poses (structure from motion)."""
