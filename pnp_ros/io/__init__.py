"""Files in and out: pictures and videos, camera calibrations, bags, weights. No ROS installation is needed."""
