"""The mesh of a link in a robot's description: URDF, or xacro where ``xacrodoc`` is installed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import MeshError
from pnp_ros.objects.mesh_import import ImportedMesh, import_mesh
from pnp_ros.objects.mesh_sources import find_package_file
from pnp_ros.objects.texture_atlas import Part, merge

DESCRIPTIONS = (".urdf", ".xacro")


def import_link(path: Path, link: str, max_texture_size: int) -> ImportedMesh:
    """All that is visible of a link, in the link's frame and metres: http://wiki.ros.org/urdf/XML/link.

    Args:
        path: the URDF or xacro file.
        link: its name; must be given if there are several.
        max_texture_size: of textures, in pixels.

    Raises:
        MeshError: if the description cannot be read, or has no such link, or nothing of it is visible.
    """
    robot = _parse(path)
    links = {str(element.get("name")): element for element in robot.findall("link")}
    visible = [name for name, element in links.items() if element.find("visual") is not None]
    if not link and len(visible) == 1:
        link = visible[0]
    if link not in visible:
        wanted = (
            f"link {link!r} has nothing visible" if link in links else f"link {link!r} is not there" if link else ""
        )
        raise MeshError(f"{wanted or 'several links'}: expected {path.name}#LINK with one of {', '.join(visible)}")
    parts: list[Part] = []
    missing: list[str] = []
    remarks: list[str] = []
    for visual in links[link].findall("visual"):
        found = _visual(visual, robot, path, max_texture_size)
        parts.append(found.part)
        missing += found.missing
        remarks += found.remarks
    return ImportedMesh(merge(parts, max_texture_size), 1.0, tuple(missing), tuple(remarks))


def _parse(path: Path) -> ElementTree.Element:
    text = path.read_text(errors="replace")
    if "<!ENTITY" in text:
        raise MeshError("defines XML entities, which are not read")
    if path.suffix.lower() == ".xacro":
        try:
            from xacrodoc import XacroDoc
        except ImportError as error:
            raise MeshError("reading xacro needs xacrodoc: pip install 'pnp-ros[cad]'") from error
        try:
            text = XacroDoc.from_file(str(path), resolve_packages=False).to_urdf_string()
        except Exception as error:  # xacro evaluates Python expressions and passes on whatever they raise
            raise MeshError(f"xacro: {error}") from error
    try:
        robot = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise MeshError(f"is not XML ({error})") from error
    if robot.tag != "robot":
        raise MeshError(f"expected a robot's description, got <{robot.tag}>")
    return robot


def _visual(visual: ElementTree.Element, robot: ElementTree.Element, path: Path, max_texture_size: int) -> ImportedMesh:
    geometry = visual.find("geometry")
    shape = geometry[0] if geometry is not None and len(geometry) else None
    if shape is None:
        raise MeshError("visual: expected a geometry")
    if shape.tag == "mesh":
        reference = str(shape.get("filename"))
        place = find_package_file(reference, path) or path.parent / reference.replace("file://", "")
        if not place.is_file():
            raise MeshError(f"mesh {reference}: not found; source the workspace that has it")
        found = import_mesh(place, max_texture_size, turn_up=False)
        scale = _numbers(shape.get("scale"), [1.0, 1.0, 1.0]) * (found.metres_per_unit or 1.0)
        part = found.part
        part.vertices = part.vertices * scale
        if scale.prod() < 0:
            part.faces = part.faces[:, ::-1]
    else:
        part = _primitive(shape)
        found = ImportedMesh(part, 1.0, ())
    if part.texture is None and part.colors is None:
        color = _color(visual, robot)
        part.colors = None if color is None else np.broadcast_to(color, (len(part.vertices), 3))
    origin = visual.find("origin")
    if origin is not None:
        turn = _rotation(_numbers(origin.get("rpy"), [0.0, 0.0, 0.0]))
        part.vertices = part.vertices @ turn.T + _numbers(origin.get("xyz"), [0.0, 0.0, 0.0])
    return found


def _primitive(shape: ElementTree.Element) -> Part:
    import trimesh

    try:
        if shape.tag == "box":
            mesh = trimesh.creation.box(_numbers(shape.get("size"), None))
        elif shape.tag == "cylinder":
            mesh = trimesh.creation.cylinder(float(shape.attrib["radius"]), float(shape.attrib["length"]))
        elif shape.tag == "sphere":
            mesh = trimesh.creation.icosphere(radius=float(shape.attrib["radius"]))
        else:
            raise MeshError(f"geometry: expected mesh, box, cylinder or sphere, got {shape.tag}")
    except (KeyError, ValueError) as error:
        raise MeshError(f"geometry {shape.tag}: {error}") from error
    return Part(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces))


def _color(visual: ElementTree.Element, robot: ElementTree.Element) -> NDArray[np.uint8] | None:
    """RGB of the material, which may be defined by name for the whole robot."""
    material = visual.find("material")
    if material is not None and material.find("color") is None:
        named = [m for m in robot.findall("material") if m.get("name") == material.get("name")]
        material = named[0] if named else None
    color = material.find("color") if material is not None else None
    if color is None:
        return None
    return np.round(255.0 * _numbers(color.get("rgba"), None)[:3].clip(0.0, 1.0)).astype(np.uint8)


def _numbers(text: str | None, default: list[float] | None) -> NDArray[np.float64]:
    try:
        values = default if text is None else [float(word) for word in text.split()]
    except ValueError as error:
        raise MeshError(f"expected numbers, got {text!r}") from error
    if values is None or len(values) < 3 or not np.isfinite(values).all():
        raise MeshError(f"expected three finite numbers, got {text!r}")
    return np.array(values)


def _rotation(rpy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Roll, pitch and yaw about fixed axes."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
