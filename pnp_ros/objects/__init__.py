"""Objects to estimate: meshes in metres, keypoints, symmetries, and the folder that carries them with the weights."""
