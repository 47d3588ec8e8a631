"""``pnp-ros COMMAND ...``; also ``python -m pnp_ros.cli.main``."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from pnp_ros import __version__

# command: what it does; its module is pnp_ros.cli.<command>, with _ for -, imported only when it is called
COMMANDS = {
    "demo": "run a simulated camera and the estimator as ROS 2 nodes, and measure",
    "train": "train an object from its mesh",
    "run": "estimate poses in a video, a folder of images or an image",
    "evaluate": "measure accuracy and consistency on a bag, a BOP scene, a video or images",
    "replay": "play a bag through the nodes: what became of each image, and how old the poses were",
    "adapt": "adapt an object's networks to recorded images of the robot's own camera",
    "bag": "record, play, inspect, convert bags",
    "view": "look at a bag's images, poses and covariances in rerun",
    "calibrate": "calibrate a camera from images of a chessboard",
    "reconstruct": "structure and motion from tracked points: keypoints of an object without a mesh",
    "train-pnpnet": "train PnP-Net, the network that starts a robust solve, on synthetic correspondences",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 if all went well, 1 for wrong input (said on stderr), 130 if interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="pnp-ros", description="6-DoF object poses with covariance from one camera.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in words if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            module = importlib.import_module(f"pnp_ros.cli.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    parsed = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        return int(parsed.run(parsed))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"pnp-ros {parsed.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
