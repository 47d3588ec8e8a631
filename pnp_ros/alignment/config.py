"""How poses are aligned with images, and when an image is taken to contradict one."""

from __future__ import annotations

from dataclasses import dataclass

from pnp_ros.settings import bounded, check


@dataclass(frozen=True)
class Round:
    """One look at the image: render, search, solve.

    Args:
        side: of the square window around the object, pixels.
        reach: how far a line is searched to each side, pixels of the window.
    """

    side: int
    reach: int

    @property
    def share(self) -> float:
        """Reach as a share of the object's size."""
        return self.reach * MARGIN / self.side


MARGIN = 1.5  # window over the object's box
FAR = (Round(64, 12), Round(64, 12), Round(64, 10), Round(64, 10), Round(64, 8), Round(64, 8), Round(80, 8))
MIDDLE = (Round(80, 6), Round(80, 6), Round(120, 6), Round(120, 5))
NEAR = (Round(100, 6), Round(200, 2))  # by the outline alone
FOLLOWED = (Round(200, 6), Round(200, 2))  # by a texture: the second only where the first moved the pose
FORESEEN = (Round(200, 2),)  # by the outline alone: for an object that is where it was expected
FOUND = (Round(200, 6), Round(280, 2))  # by a texture, where something sees the object and no colours are known yet
LAST = (Round(160, 4), Round(200, 2), Round(280, 2))
HOPED = (Round(200, 6), Round(200, 6), *LAST[1:])  # as FOUND, where the pose is known less well
LOOKS = 32  # at an image, after which no further start is tried


@dataclass(frozen=True)
class AlignmentConfig:
    """What is compared, how exact camera and mesh are taken to be, and what makes a verdict.

    Args:
        texture: follow the texture's corners.
        contours: search the outline.
        plain: the object is of one colour, as its mesh is without any: then its shading must fit, too. By default a
            mesh without colours says nothing of the object's, which may be printed.
        focal_sigma: standard deviation of the focal length, as a share of it, where the camera does not tell its own.
        centre_sigma: standard deviation of the principal point in x and in y, pixels, where the camera does not.
        size_sigma: standard deviation of the mesh's scale, as a share of it.
        shape_sigma: standard deviation of its surface, smooth over about a diameter, as a share of the diameter.
        distortion_sigma: standard deviation of the first radial coefficient of a lens that has one.
        valid_explained: share of the object in view, by area, that must be found where the pose says.
        valid_texture: share of the textured part that must be.
        valid_likeness: correlation that what is found must have with the texture, 0 to 1; a blurred image needs less.
        valid_colours: correlation that colours must have with the texture's, where both have some; 0 lets any pass.
        valid_contour: share of the outline, where there is no texture that tells.

    Raises:
        ValueError: if a value is out of its range; the message names it.
    """

    texture: bool = True
    contours: bool = True
    plain: bool = False
    focal_sigma: float = bounded(0.005, 0.0, 0.5)
    centre_sigma: float = bounded(3.0, 0.0, 1000.0)
    size_sigma: float = bounded(0.005, 0.0, 0.5)
    shape_sigma: float = bounded(0.003, 0.0, 0.5)
    distortion_sigma: float = bounded(0.01, 0.0, 10.0)
    valid_explained: float = bounded(0.25, 0.0, 1.0)
    valid_texture: float = bounded(0.25, 0.0, 1.0)
    valid_likeness: float = bounded(0.5, 0.0, 1.0)
    valid_colours: float = bounded(0.45, 0.0, 1.0)
    valid_contour: float = bounded(0.5, 0.0, 1.0)

    def __post_init__(self) -> None:
        if not (self.texture or self.contours):
            raise ValueError("texture, contours: expected at least one of them")
        check(self)
