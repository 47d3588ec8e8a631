"""The keypoint network: a crop in, 2D keypoints with their uncertainty and the object's presence out."""
