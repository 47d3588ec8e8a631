"""The start that comes with the package: the shared layers of a network that knows one object of no use.

    PYTHONPATH=test python test/benchmark/learn_start.py out/start [--minutes 31] [--write]

It is trained as any object in any colour, from random weights; interrupted, it goes on where it was. ``--write`` puts
its layers where ``pnp-ros train`` takes them from; what they are worth tells ``bench_start.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from pnp_ros.cli.main import main as run_command
from pnp_ros.io.checkpoints import with_prefix, write_tensors
from pnp_ros.io.resources import resource
from pnp_ros.objects.mesh_files import save_mesh
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.models import load_keypoint_networks
from pnp_ros.training.trainer import SHARED_LAYERS, START
from synthetic.assemblies import random_assembly

SHAPE = 5  # boxes, a cone, a wedge: no side looks like another


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the object package that is trained")
    parser.add_argument("--minutes", type=float, default=31.0)
    parser.add_argument("--write", action="store_true", help=f"its layers as {START}")
    arguments = parser.parse_args()
    mesh = arguments.out.with_suffix(".ply")
    mesh.parent.mkdir(parents=True, exist_ok=True)
    save_mesh(random_assembly(SHAPE), mesh)
    options = ["--colour", "any", "--start-from", "none", "--minutes", f"{arguments.minutes:g}"]
    run_command(["train", str(mesh), "--out", str(arguments.out), *options])
    if arguments.write:
        network, _ = load_keypoint_networks(load_object_package(arguments.out))
        layers: dict[str, torch.Tensor] = {}
        for name in SHARED_LAYERS:
            layers |= with_prefix(name, getattr(network, name).state_dict())
        half = {name: value.half() if value.is_floating_point() else value for name, value in layers.items()}
        write_tensors(resource("config") / Path(START).name, half, {})


if __name__ == "__main__":
    main()
