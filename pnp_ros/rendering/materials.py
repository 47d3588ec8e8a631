"""What an object may be made of where its mesh does not say: plastic, metal, worn or printed, in any colour.

CAD meshes are grey while the part on the table is yellow plastic or brushed steel. A network that was trained on one
colour finds no other; one that has seen all of them goes by shape, shading and outline (Tremblay et al., "Training deep
networks with synthetic data: bridging the reality gap by domain randomization", 2018).
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.rendering.backgrounds import BackgroundSource, Rng
from pnp_ros.rendering.lighting import Finish, Lighting, triple
from pnp_ros.rendering.renderer import Renderer

MESH, ANY = "mesh", "any"
_TEXTURE = 128  # pixels a side
_KEPT, _CHANGED = 24, 0.15  # painted copies kept, and how often one is replaced by a new one
_METAL, _WORN, _PRINTED = 1, 2, 3  # kinds; 0 is plain plastic
# shares of plain plastic, metal, worn or dusty, printed
_KINDS = (0.5, 0.2, 0.2, 0.1)
_USED = 0.3  # share of the renders in the mesh's own colours that show it worn, dusty or coated


def check_colours(colours: Sequence[str]) -> None:
    """Complain of what is no colour.

    Raises:
        ValueError: naming the field and what it expects.
    """
    wrong = [colour for colour in colours if colour not in (MESH, ANY) and not re.fullmatch("#[0-9a-fA-F]{6}", colour)]
    if wrong or not colours:
        raise ValueError(f"colour: expected mesh, any or #rrggbb, got {wrong[0] if wrong else 'nothing'!r}")


def likely_colours(mesh: TriangleMesh) -> tuple[str, ...]:
    """Those to train for: the mesh's own where it has a texture or several colours, else any."""
    colours = mesh.vertex_colors
    plain = mesh.texture is None and (colours is None or bool((colours == colours[0]).all()))
    return (ANY,) if plain else (MESH,)


@dataclass(frozen=True, eq=False)
class Material:
    """A painted copy of a mesh, and how it shines.

    Args:
        mesh: with its new colours.
        specular, shininess: of :class:`Lighting`; None leaves them.
        finish: reflections, dust and worn edges.
    """

    mesh: TriangleMesh
    specular: float | None = None
    shininess: float | None = None
    finish: Finish = field(default_factory=Finish)

    def under(self, lighting: Lighting) -> Lighting:
        """The light as this material reflects it."""
        if self.specular is None or self.shininess is None:
            return lighting
        return replace(lighting, specular=self.specular, shininess=self.shininess)


def random_material(mesh: TriangleMesh, colours: Sequence[str], backgrounds: BackgroundSource, rng: Rng) -> Material:
    """One of ``colours``, on a random material."""
    colour = colours[int(rng.integers(len(colours)))]
    if colour == MESH:
        return Material(mesh, finish=_finish(_WORN, mesh.diameter, rng) if rng.random() < _USED else Finish())
    kind = rng.choice(len(_KINDS), p=_KINDS)
    base = _random_colour(rng, metal=kind == _METAL) if colour == ANY else dyed(colour, rng)
    uneven = rng.uniform(0.0, 0.05) if kind in (0, _PRINTED) else rng.uniform(0.03, 0.2)
    texture = base * (1.0 + uneven * _noise(rng))[..., None]
    if kind == _PRINTED:
        print_ = backgrounds.image(_TEXTURE, _TEXTURE, rng).astype(np.float64)
        cover = (_noise(rng) > rng.uniform(-0.5, 1.5))[..., None] * rng.uniform(0.3, 1.0)
        texture = (1.0 - cover) * texture + cover * print_
    painted = painted_on(mesh, np.clip(texture, 0, 255).astype(np.uint8), rng)
    finish = _finish(kind, mesh.diameter, rng)
    if kind == _METAL:
        return Material(painted, float(rng.uniform(0.4, 1.2)), float(rng.uniform(10.0, 100.0)), finish)
    return Material(painted, finish=finish)


def painted_on(mesh: TriangleMesh, texture: NDArray[np.uint8], rng: Rng) -> TriangleMesh:
    """The mesh with an image (H, W, 3) projected through it along a random direction."""
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0][:, :2]
    flat = (mesh.vertices - mesh.bounds.mean(axis=0)) @ axes / mesh.diameter
    return TriangleMesh(mesh.vertices, mesh.faces, uv=(0.5 + flat).astype(np.float32).clip(0.0, 1.0), texture=texture)


Maker = Callable[[TriangleMesh, Sequence[str], BackgroundSource, Rng], Material]


class Wardrobe:
    """Painted copies of one mesh in a renderer; old ones give way to new ones.

    Args:
        mesh: of the object.
        colours: see :func:`check_colours`; of the mesh alone, nothing is painted, but its edges may be worn.
        renderer: that draws it.
        backgrounds: for what is printed.
        rng: of the choice.
        make: of one material; None: :func:`random_material`.
    """

    def __init__(
        self,
        mesh: TriangleMesh,
        colours: Sequence[str],
        renderer: Renderer,
        backgrounds: BackgroundSource,
        rng: Rng,
        make: Maker | None = None,
    ) -> None:
        self._mesh, self._colours, self._renderer = mesh, tuple(colours), renderer
        self._make = make or random_material
        self._backgrounds, self._rng = backgrounds, rng
        self._own = renderer.add(mesh)
        self._used: int | None = None  # the mesh as it is, but for its finish: its texture is here twice, no more
        self._worn: list[tuple[int, Material]] = []

    def draw(self) -> tuple[int, Material]:
        """A handle of the renderer, and what it is made of."""
        if self._colours == (MESH,):
            return self._as_it_is(self._make(self._mesh, self._colours, self._backgrounds, self._rng))
        if len(self._worn) < _KEPT or self._rng.random() < _CHANGED:
            if len(self._worn) == _KEPT:
                self._renderer.remove(self._worn.pop(0)[0])
            material = self._make(self._mesh, self._colours, self._backgrounds, self._rng)
            self._worn.append((self._renderer.add(material.mesh, material.finish, like=self._own), material))
            return self._worn[-1]
        return self._worn[self._rng.integers(len(self._worn))]

    def _as_it_is(self, material: Material) -> tuple[int, Material]:
        if material.finish == Finish():
            return self._own, material
        if self._used is None:
            self._used = self._renderer.add(self._mesh, Finish(wear=1e-3), like=self._own)
        self._renderer.refinish(self._used, material.finish)
        return self._used, material


def _random_colour(rng: Rng, metal: bool) -> NDArray[np.float64]:
    """(3,) RGB 0 to 255: any hue; grey in a third of the cases, and nearly so where it is metal."""
    grey = metal or rng.random() < 0.3
    saturation = rng.uniform(0.0, 0.15) if grey else rng.uniform(0.2, 1.0)
    value = rng.uniform(0.35, 0.9) if metal else rng.uniform(0.06, 0.97)
    return 255.0 * np.array(colorsys.hsv_to_rgb(rng.random(), saturation, value))


def _finish(kind: int, diameter: float, rng: Rng) -> Finish:
    """A clear coat on some, reflections on metal; dust and worn edges mostly on what is worn."""
    mirror = rng.uniform(0.3, 0.9) if kind == _METAL else rng.uniform(0.02, 0.15) * (rng.random() < 0.4)
    worn, dusty = (rng.random(2) < (0.6 if kind == _WORN else 0.15)).tolist()
    return Finish(
        mirror=float(mirror),
        metal=float(kind == _METAL),
        room=triple(rng.uniform(1.0, 12.0) * rng.normal(0.0, 1.0, 3)),
        dust=float(rng.uniform(0.2, 0.8)) if dusty else 0.0,
        wear=float(diameter * rng.uniform(0.004, 0.02)) if worn else 0.0,
        bare=triple(rng.uniform(0.02, 0.8) * np.clip(1.0 + rng.normal(0.0, 0.15, 3), 0.5, 1.5)),
    )


def dyed(colour: str, rng: Rng) -> NDArray[np.float64]:
    """(3,) RGB of ``#rrggbb``, as a camera with another white balance may see it."""
    told = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)], np.float64)
    return np.clip(told * np.clip(1.0 + rng.normal(0.0, 0.08, 3), 0.7, 1.3), 0.0, 255.0)


def _noise(rng: Rng) -> NDArray[np.float64]:
    """(_TEXTURE, _TEXTURE) smooth, about standard normal."""
    cells = int(rng.integers(3, 24))
    coarse = rng.normal(size=(cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (_TEXTURE, _TEXTURE), interpolation=cv2.INTER_CUBIC), np.float64)
