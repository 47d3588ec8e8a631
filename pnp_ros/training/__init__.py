"""From a mesh to an object package: images rendered on the fly, a keypoint network and a detector, validation."""
