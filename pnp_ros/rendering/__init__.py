"""Images of meshes: a headless renderer, and training samples made from it by domain randomisation."""
