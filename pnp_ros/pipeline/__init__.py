"""The one path from an image to poses, used by nodes, evaluation, demo and scripts alike."""
