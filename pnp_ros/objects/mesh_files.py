"""Meshes from files and to files: units, faults and lost textures are said in words, or refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.decimation import decimated
from pnp_ros.objects.mesh import MeshError, TriangleMesh
from pnp_ros.objects.mesh_import import ImportedMesh, import_mesh
from pnp_ros.objects.mesh_repair import near_origin, repaired_faces
from pnp_ros.objects.mesh_sources import find_package_file
from pnp_ros.objects.robot_description import DESCRIPTIONS, import_link

logger = logging.getLogger(__name__)

METRES_PER_UNIT = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254}
SMALLEST_DIAMETER = 0.002  # m: below this a mesh is taken for one in wrong units
LARGEST_DIAMETER = 5.0  # m
LIKELY_DIAMETER = 1.0  # m: above this metres that the file does not name are doubted
MOST_FACES = 200_000  # more are decimated: rendering gets slow and shows nothing more


def load_mesh(
    path: str | Path, units: str = "auto", max_texture_size: int = 2048, accept_missing: bool = False
) -> TriangleMesh:
    """Load a mesh; scenes and materials are merged into one, faults are mended and said.

    Read are OBJ (with MTL and images), PLY, STL, GLB and glTF, DAE, 3MF, OFF, STEP, and a link of a robot's description
    (``robot.urdf#gripper_link``). The size found is logged as one sentence (:meth:`TriangleMesh.describe`).

    Args:
        path: the file; ``package://NAME/...`` is looked up in the sourced ROS workspaces.
        units: of the file's coordinates: ``m``, ``cm``, ``mm``, ``in``; ``auto`` is what the file says (DAE, 3MF, STEP,
            URDF), else metres, with a warning where these make it larger than a metre.
        max_texture_size: larger textures are scaled down to this width or height in pixels.
        accept_missing: go on, without their colours, where textures or material files are not found.

    Raises:
        MeshError: if the file is missing, unreadable or empty, a texture is not found, or its size in metres is
            implausible.
    """
    if units != "auto" and units not in METRES_PER_UNIT:
        raise MeshError(f"units: expected auto, {', '.join(METRES_PER_UNIT)}; got {units!r}")
    file, link = file_and_link(str(path))
    place = _located(file)
    try:
        description = place.suffix.lower() in DESCRIPTIONS
        found = import_link(place, link, max_texture_size) if description else import_mesh(place, max_texture_size)
        return _finished(found, units, str(path), accept_missing)
    except MeshError as error:
        raise MeshError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error


def file_and_link(path: str) -> tuple[str, str]:
    """``robot.urdf#gripper_link`` in two; any other ``#`` is part of a file's or folder's name."""
    file, _, link = path.rpartition("#")
    names_link = file.lower().endswith(DESCRIPTIONS) and "/" not in link and not Path(path).is_file()
    return (file, link) if names_link else (path, "")


def _located(file: str) -> Path:
    if file.startswith("package:"):
        place = find_package_file(file)
        if place is None:
            raise MeshError(f"{file}: no such package or file; source the workspace that has it")
        return place
    if not Path(file).is_file():
        raise MeshError(f"{file}: no such file" if not Path(file).exists() else f"{file}: not a file")
    return Path(file)


def _finished(found: ImportedMesh, units: str, source: str, accept_missing: bool) -> TriangleMesh:
    if found.missing and not accept_missing:
        raise MeshError(
            f"not found: {', '.join(found.missing)}; put it beside the mesh, or go on without these colours"
            " (accept_missing)"
        )
    remarks = list(found.remarks)
    remarks += [f"{name} is not found: its colours are missing" for name in found.missing]
    scale = (found.metres_per_unit or 1.0) if units == "auto" else METRES_PER_UNIT[units]
    if found.metres_per_unit not in (None, scale):
        remarks.append(f"the file says {_unit_name(found.metres_per_unit)}, units: taken as {units}, as was asked for")
    part = found.part
    if not np.isfinite(part.vertices).all():
        raise MeshError("vertices: not finite")
    vertices, shift = near_origin(part.vertices * scale)
    if shift.any():
        moved = ", ".join(f"{value:.0f}" for value in shift)
        remarks.append(f"far from its origin: moved by ({moved}) m, and poses are those of the moved mesh")
    faces, _, mended = repaired_faces(vertices, part.faces)
    uv = None if part.uv is None else part.uv.astype(np.float32)
    mesh = TriangleMesh(vertices.astype(np.float32), faces.astype(np.int32), uv, part.texture, part.colors)
    mesh, error = decimated(mesh, MOST_FACES)
    if error is not None:
        remarks.append(f"{len(faces)} faces made {len(mesh.faces)}; the surface moved by up to {1e3 * error:.2g} mm")
    for remark in (*remarks, *mended):
        logger.warning("%s: %s", source, remark)
    _check_size(mesh, scale, source)
    if units == "auto" and found.metres_per_unit is None and mesh.diameter > LIKELY_DIAMETER:
        logger.warning(
            "%s: %.3g m across, as the file names no unit and metres are assumed; if they are not right: --%s",
            source,
            mesh.diameter,
            " or --".join(_other_units(mesh.diameter, scale)),
        )
    logger.info("%s (read in %s): %s", Path(source).name, _unit_name(scale), mesh.describe())
    return mesh


def _unit_name(metres: float | None) -> str:
    return next((name for name, value in METRES_PER_UNIT.items() if value == metres), f"units of {metres:g} m")


def _check_size(mesh: TriangleMesh, metres_per_unit: float, source: str) -> None:
    """Refuse a mesh whose diameter is implausible, with a hint at the units that would make it plausible."""
    if SMALLEST_DIAMETER <= mesh.diameter <= LARGEST_DIAMETER:
        return
    options = _other_units(mesh.diameter, metres_per_unit)
    hint = f"hint: {' or '.join(options)}" if options else "no known unit makes it plausible: scale the mesh"
    unit = _unit_name(metres_per_unit)
    raise MeshError(f"{source}: {mesh.diameter:.3g} m across when read in {unit}: not a size to work with; {hint}")


def _other_units(diameter: float, metres_per_unit: float) -> list[str]:
    """Those that make a diameter in metres plausible, the smallest first."""
    sizes = {unit: diameter / metres_per_unit * scale for unit, scale in METRES_PER_UNIT.items()}
    return [
        f"units {unit} ({sizes[unit]:.3g} m)"
        for unit, scale in sorted(METRES_PER_UNIT.items(), key=lambda item: item[1])
        if scale != metres_per_unit and SMALLEST_DIAMETER <= sizes[unit] <= LARGEST_DIAMETER
    ]


def save_mesh(mesh: TriangleMesh, path: str | Path) -> list[Path]:
    """Write a binary PLY in metres; a texture goes beside it as ``texture.png``.

    Returns:
        The files written, the PLY last.
    """
    path = Path(path)
    written = []
    header = ["ply", "format binary_little_endian 1.0", "comment units metres"]
    columns: list[tuple[str, str, NDArray]] = [(name, "<f4", mesh.vertices[:, i]) for i, name in enumerate("xyz")]
    if mesh.texture is not None and mesh.uv is not None:
        from PIL import Image

        image = path.with_name("texture.png")
        Image.fromarray(mesh.texture).save(image)
        written.append(image)
        header.append(f"comment TextureFile {image.name}")
        columns += [(name, "<f4", mesh.uv[:, i]) for i, name in enumerate(("texture_u", "texture_v"))]
    elif mesh.vertex_colors is not None:
        columns += [(name, "u1", mesh.vertex_colors[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    header.append(f"element vertex {len(mesh.vertices)}")
    header += [f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind, _ in columns]
    header += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header"]
    vertices = np.empty(len(mesh.vertices), dtype=[(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        vertices[name] = values
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, mesh.faces
    path.write_bytes("\n".join(header).encode() + b"\n" + vertices.tobytes() + faces.tobytes())
    return [*written, path]
