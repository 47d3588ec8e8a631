"""Files in and out: images and videos, camera calibrations, bags, weights. No ROS installation is needed."""
