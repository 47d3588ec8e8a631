"""From a mesh to an object package: pictures rendered on the fly, a keypoint network and a detector, validation."""
