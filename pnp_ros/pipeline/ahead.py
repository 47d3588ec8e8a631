"""The next image's object, drawn before that image comes: what the camera will see if nothing surprising happens."""

from __future__ import annotations

from pnp_ros.alignment.aligner import Aligner
from pnp_ros.alignment.look import Drawing
from pnp_ros.cameras.camera import Camera
from pnp_ros.pipeline.tracking import Track
from pnp_ros.types import PoseEstimate


class Ahead:
    """Draws the object where its motion makes it expected. When it was drawn changes no pose.

    Args:
        aligner: that will compare the drawing with the image.
        track: of the object. What was drawn counts until it changes: call :meth:`forget` then.
    """

    def __init__(self, aligner: Aligner, track: Track) -> None:
        self._aligner, self._track = aligner, track
        self._camera: Camera | None = None  # of the last image
        self.forget()

    def forget(self, camera: Camera | None = None) -> None:
        """What was foreseen has passed, in an image of this camera, or is not to be expected any more."""
        self._camera = camera or self._camera
        self._start: PoseEstimate | None = None
        self._drawing: Drawing | None = None

    def draw(self) -> None:
        """Draw it for the camera of the last image."""
        self._start = self._track.foresee()
        if self._start is not None and self._camera is not None:
            self._drawing = self._aligner.ahead(self._camera, self._start)

    def drawn(self, camera: Camera, start: PoseEstimate) -> Drawing | None:
        """The object where it was foreseen, for the camera of an image; None if that is not near ``start``."""
        foreseen = self._start or self._track.foresee()
        if foreseen is None or not self._aligner.near(foreseen.pose, start.pose):
            return None
        ready = self._start is not None and camera is self._camera
        return self._drawing if ready else self._aligner.ahead(camera, foreseen)
