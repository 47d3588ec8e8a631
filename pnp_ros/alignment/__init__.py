"""Poses aligned with the image, by texture and by contours, and the image's verdict on them."""
