"""``pnp-ros onboard mug.obj --out objects/mug``: an object package that works, in seconds and without training."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh
from pnp_ros.objects.object_package import (
    FEATURES_NAME,
    MESH_NAME,
    YAML_NAME,
    ObjectPackage,
    ObjectPackageError,
    load_object_package,
)
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.pipeline.onboarding import onboard
from pnp_ros.rendering.renderer import RendererError
from pnp_ros.training.likeness import symmetries_to_declare
from pnp_ros.training.symmetries import declared_symmetry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("mesh", type=Path, help="OBJ, PLY, STL, GLB, DAE, 3MF, STEP, or a link: robot.urdf#LINK")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the object package; its name names the object"
    )
    parser.add_argument("--units", choices=("auto", "m", "cm", "mm", "in"), default="auto", help="of the mesh")
    parser.add_argument(
        "--accept-missing", action="store_true", help="go on without the colours of textures that are not found"
    )
    parser.add_argument(
        "--symmetries",
        help="models_info.json:ID as in BOP, or turns about axes of the mesh: z (any), z4 (quarters), z,x2 (cylinder)",
    )
    parser.add_argument(
        "--views", choices=("all", "upper"), default="all", help="orientations that occur (default all)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Onboard, and say what the mesh allows.

    Raises:
        ValueError: if the mesh cannot be used, or files of the user's would be overwritten.
    """
    begin = time.monotonic()
    check_folder(arguments.out)
    mesh = load_mesh(arguments.mesh, arguments.units, accept_missing=arguments.accept_missing)
    symmetry = declared_symmetry(arguments.symmetries, mesh) if arguments.symmetries else None
    lowest = -5.0 if arguments.views == "upper" else -90.0
    _onboarded(arguments.mesh, mesh, arguments.out, symmetry, lowest, begin)
    return 0


def check_folder(folder: Path) -> None:
    """Refuse a folder where an object package would overwrite files that are of none.

    Raises:
        ValueError: naming them.
    """
    names = (MESH_NAME, "texture.png", FEATURES_NAME)
    found = [name for name in names if (folder / name).exists() and not (folder / YAML_NAME).exists()]
    if found:
        raise ValueError(f"--out: {folder} has {', '.join(found)}, which would be overwritten; choose another folder")


def object_at(path: Path, folder: Path) -> ObjectPackage:
    """The object package at ``path``; of a mesh file one is made in ``folder``, on the way.

    Raises:
        ValueError: if there is neither, or it cannot be used.
    """
    if not path.is_file():
        return load_object_package(path)
    check_folder(folder / path.stem)
    begin = time.monotonic()
    return _onboarded(path, load_mesh(path), folder / path.stem, begin=begin)


def _onboarded(
    mesh_path: Path,
    mesh: TriangleMesh,
    folder: Path,
    symmetry: Symmetry | None = None,
    lowest_elevation: float = -90.0,
    begin: float = 0.0,
) -> ObjectPackage:
    print(f"{mesh_path}: {mesh.describe()}", flush=True)
    if symmetry is None and (turns := symmetries_to_declare(mesh)) is not None:
        print(f"it looks alike under turns about its axes: use --symmetries {turns}, if nothing else tells them apart")
    try:
        made = onboard(folder, folder.resolve().name, mesh, symmetry, lowest_elevation)
    except RendererError as error:
        raise ObjectPackageError(f"{mesh_path}: {error}") from error
    tried = f" ({made.features} features, found in {made.found:.0%} of the trial renders)" if made.features else ""
    print(f"{folder}: {made.verdict}{tried}")
    print(f"{time.monotonic() - begin:.1f} s", flush=True)
    return made.package
