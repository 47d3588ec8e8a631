"""The one path from a picture to poses, used by nodes, evaluation, demo and scripts alike."""
