"""Image to pose: follow or search, look, solve, look again; then the image has the last word."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.detection.box import Box
from pnp_ros.detection.crop import CropError, box_from_pose
from pnp_ros.detection.detector import Detection
from pnp_ros.objects.object_package import ObjectPackage, ObjectPackageError
from pnp_ros.pipeline.ahead import Ahead
from pnp_ros.pipeline.config import EstimatorConfig
from pnp_ros.pipeline.last_word import LastWord
from pnp_ros.pipeline.models import Models, check_models
from pnp_ros.pipeline.package_sources import network_source, package_sources
from pnp_ros.pipeline.result import ObjectEstimate, ObjectState
from pnp_ros.pipeline.settling import Settling
from pnp_ros.pipeline.stages import Stages
from pnp_ros.pipeline.tracking import INTERVAL, Track
from pnp_ros.pipeline.views import views_of
from pnp_ros.sources.dense import DenseSource
from pnp_ros.sources.keypoints import KeypointSource
from pnp_ros.sources.source import Source
from pnp_ros.sources.templates import TEMPLATES
from pnp_ros.types import Pose, PoseEstimate

_ROUGH = 4.0  # times the usual motion, where no source can help out


class PoseEstimator:
    """Estimates the pose of one object, image after image.

    The same images in the same order give the same bytes.

    Args:
        package: with weights, features or both. With neither, :meth:`follow` must tell where the object is at first.
        config: thresholds.
        device: of the networks; the solver runs on the CPU for a single image. There, call
            ``torch.set_num_threads(1)`` at the start: torch takes a thread a core, which wait for each other, and on a
            computer that does other things as well that is many times slower. Nodes and commands do so by default.
        sources: where correspondences come from, asked in this order; None takes those of the package that ``config``
            names. Give your own here, such as a network of another library; see ``docs/how_to/own_network.md``.
        backend: what calculates the package's networks: ``torch``, ``onnxruntime``, ``tensorrt`` (with CUDA), or
            ``auto`` (ONNX Runtime on a CPU where it is installed and agrees with torch).

    Raises:
        ObjectPackageError: if a source does not fit, the backend cannot be used, or there is no source and poses are
            not aligned either.

    >>> from pnp_ros import load_object
    >>> from pnp_ros.io.resources import resource
    >>> estimator = PoseEstimator(load_object(resource("config/objects/demo")))
    >>> camera = Camera.pinhole(600, 600, 320, 240, width=640, height=480)
    >>> estimator.estimate(np.zeros((480, 640, 3), np.uint8), camera).state.value  # a black image
    'lost'
    """

    def __init__(
        self,
        package: ObjectPackage,
        config: EstimatorConfig | None = None,
        device: torch.device | str = "cpu",
        sources: Sequence[Source] | None = None,
        backend: str = "auto",
    ) -> None:
        if not isinstance(package, ObjectPackage):
            how = "load_object(folder) reads one"
            raise TypeError(f"package: expected an ObjectPackage, got {type(package).__name__}; {how}")
        self.package = package
        self.config = config or EstimatorConfig()
        self._device, self._backend = torch.device(device), backend
        self._next: deque[Models] = deque(maxlen=1)  # taken up by the next image
        self._extent = torch.from_numpy(package.mesh.extreme_points)
        sources_of_package = sources is None
        if sources is None:
            wanted = [name for name in self.config.sources if self.config.align or name != TEMPLATES]
            sources = package_sources(package, wanted, self._device, backend)
        if not sources and not self.config.align:
            raise ObjectPackageError(
                f"{package.root}: has none of {' or '.join(self.config.sources)}: train the object first "
                "(pnp-ros train) or, if it has a texture, pnp-ros onboard"
            )
        self._sources = list(sources)
        self._quick = any(source.name != TEMPLATES for source in self._sources)
        self._track = Track(package.symmetry, package.diameter)
        self._stages = Stages("detect", "look", "solve", *(["align"] if self.config.align else []))
        self._settling = Settling(package, self.config, self._stages, self._track.choose)
        plain = self.config.align and TEMPLATES in self.config.sources and sources_of_package
        self._views = views_of(package, self._sources) if plain else None
        factor = self._settling.factor
        self._last_word = LastWord(package, self.config, self._stages, self._track, factor, self._views)
        aligner = self._last_word.aligner
        self._ahead = Ahead(aligner, self._track) if aligner is not None and self.config.track else None
        self._clock = 0.0  # the last stamp
        self._missed = 0  # images in a row that did not show it
        self._searched = np.empty((0, 0, 3), np.uint8)  # what the sources see of the image

    def reset(self) -> None:
        """Forget the last pose and what was learnt since it was found: the next image is searched."""
        self._lose()

    def follow(self, pose: Pose, stamp: float | None = None) -> None:
        """Take the object to be at ``pose``, by other knowledge: the next image is aligned from there."""
        self._clock = self._clock if stamp is None else stamp
        self._last_word.told()
        self._missed = 0
        self._track.follow(self._last_word.beside(pose), self._clock)
        if self._ahead is not None:
            self._ahead.forget()

    def rest(self) -> None:
        """Do what is done before an image comes, after the last one's pose is out: the next one is quicker then.

        Else :meth:`estimate` does it at first. The poses are the same.
        """
        self._last_word.finish()
        if self._ahead is not None:
            self._ahead.draw()

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self._device

    @property
    def backend(self) -> str:
        """What was asked to calculate the networks."""
        return self._backend

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources that are asked, in order."""
        return tuple(source.name for source in self._sources)

    @property
    def models(self) -> Models | None:
        """The weights of the last image; None where no network is a source."""
        found = [source for source in self._sources if isinstance(source, KeypointSource | DenseSource)]
        if not found:
            return None
        return Models(found[0].network, found[0].detector, self._settling.calibrations[found[0].name], found[0].windows)

    def use(self, models: Models) -> None:
        """Go on with other weights of the same object from the next image on; the track is kept.

        Takes no time, and may be called by any thread, also during :meth:`estimate`.

        Args:
            models: on the estimator's device, by :func:`pnp_ros.pipeline.models.load_models`.

        Raises:
            ValueError: if they are of another kind than the package's, or find another number of keypoints.
        """
        check_models(models, self.package)
        self._next.append(models)

    def _adopt(self, models: Models) -> None:
        fresh = network_source(self.package, models, self._device)
        self._sources = [fresh if source.name == fresh.name else source for source in self._sources]
        self._settling.calibrations[fresh.name] = models.calibration

    def expected(self, stamp: float) -> Pose | None:
        """Where the object is expected at a time by its motion; None where it must be searched."""
        return self._track.expect(stamp) if self.config.track else None

    def estimate(
        self,
        image: np.ndarray,
        camera: Camera,
        stamp: float | None = None,
        roi: tuple[float, float, float, float] | None = None,
        searched: np.ndarray | None = None,
        follow: bool = True,
        search: bool = True,
    ) -> ObjectEstimate:
        """Estimate the object's pose in one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of the image, with its width and height.
            stamp: seconds, for where the object is expected by its motion; None: a thirtieth of a second after the
                last image.
            roi: box (x, y, width, height) where an external detector saw the object, from the image's corner: looked
                at instead of searching or following.
            searched: the image as the sources shall see it, such as without what other objects explain; None: as it is.
            follow: align the object where its motion makes it expected; off, it was done before.
            search: ask the sources, near where it is expected and then everywhere; off, it is only followed.

        Returns:
            In the state lost if the object was not found.

        Raises:
            TypeError: if the camera is none, such as the ``CameraInfo`` of a file.
            ValueError: if the image is not (H, W, 3) uint8 or has another size than the camera.
        """
        if not isinstance(camera, Camera):
            raise TypeError(f"camera: expected a Camera, got {type(camera).__name__}; CameraInfo.camera() gives one")
        for seen in (image, *(() if searched is None else (searched,))):
            camera.check_image(seen)
        if self._next:
            self._adopt(self._next.popleft())
        self._stages.begin()
        self._last_word.finish()
        if not self.config.track:
            self._lose()  # the colours learnt of one image are not another's
        self._clock = self._clock + INTERVAL if stamp is None else stamp
        self._searched = image if searched is None else searched
        best = self._find(image, camera, None if roi is None else Box(*roi), follow, search)
        best = self._last_word.doubted(image, camera, best, self._clock)
        if best.estimate is not None and best.state is not ObjectState.LOST:
            with contextlib.suppress(CropError):
                best = dataclasses.replace(best, box=box_from_pose(camera, best.estimate.pose, self._extent))
        self._missed = 0 if best.is_followed else self._missed + 1
        if best.is_followed and best.estimate is not None:
            self._track.follow(best.estimate, self._clock)
        elif self._track.expect(self._clock) is None or (best.state is ObjectState.LOST and not self.config.align):
            self._lose()
        if self._ahead is not None:
            self._ahead.forget(camera)
        return dataclasses.replace(best, latency=self._stages.told())

    def _find(self, image: np.ndarray, camera: Camera, roi: Box | None, follow: bool, search: bool) -> ObjectEstimate:
        """The first valid pose: around the last one, else wherever a source says; else the best that is not valid."""
        tried: list[ObjectEstimate] = []
        for found in self._attempts(image, camera, roi, follow, search):
            found = self._last_word.likeliest(image, camera, found)
            tried.append(found)
            if found.state is ObjectState.VALID:
                return found
        if not tried:
            return self._lost("not searched in this image", None)
        return max(tried, key=lambda item: (item.state.rank, item.score))  # the first of equals

    def _attempts(
        self, image: np.ndarray, camera: Camera, roi: Box | None, follow: bool, search: bool
    ) -> Iterator[ObjectEstimate]:
        if roi is not None:
            yield from (self._settle(source, image, camera, roi) for source in self._sources)
            return
        start = self._track.predict(self._clock) if self.config.track else None
        if start is not None:
            if self.config.align and follow:
                # what the last image did not show is likelier hidden than elsewhere, which quick sources tell
                widely = not (self._missed and search and self._quick)
                drawn = None if self._ahead is None else self._ahead.drawn(camera, start)
                yield self._last_word.aligned(image, camera, self._expected(start), widely, drawn, self._missed)
            # sources look near and everywhere in turn: both in one image would keep the next one waiting
            elsewhere = search and self.config.align and (not follow or bool(self._sources and self._missed % 2))
            if not elsewhere:
                yield from self._near(image, camera, start, search)
                if self.config.align or not search:
                    return
        if not search:
            return
        if not self._sources:
            yield self._lost("the package has nothing to search an image with: pnp-ros train gives it networks", None)
        seen: list[tuple[Box, ObjectEstimate]] = []
        for source in self._sources:
            best, least = 0.0, self.config.detector_threshold
            for place in self._places(source):
                best = max(best, place.score)
                if place.score >= least:
                    seen.append((place.box, self._settle(source, image, camera, place.box)))
                    yield seen[-1][1]
            if best < least:
                yield self._lost(f"object not found: best detector score {best:.2f} is below {least:.2f}", None, best)
        if self._views is not None and self._quick:
            looked = [(box, found) for box, found in seen if found.score >= self.config.valid_presence]
            with self._stages.timed("look"):
                guesses = self._views.guesses(self._searched, camera, looked)
            yield from (self._last_word.guess(image, camera, pose, box) for pose, box in guesses)

    def _near(self, image: np.ndarray, camera: Camera, start: PoseEstimate, search: bool) -> Iterator[ObjectEstimate]:
        """What the sources see where the object is expected; where they are slow, the image after it was lost waits."""
        slow = self.config.align and not self._quick
        if (search or not self.config.align) and not (slow and not self._missed):
            yield from (self._settle(source, image, camera, start.pose) for source in self._sources)
        wide = self._track.predict(self._clock, _ROUGH)
        if search and slow and self._missed and wide is not None:
            yield self._last_word.aligned(image, camera, self._expected(wide), turn=self._missed)

    def _places(self, source: Source) -> Iterator[Detection]:
        """Each is looked for only where none before it gave a valid pose."""
        places = iter(source.places(self._searched, self.config.max_candidates))
        while True:
            with self._stages.timed("detect"):
                place = next(places, None)
            if place is None:
                return
            yield place

    def _settle(self, source: Source, image: np.ndarray, camera: Camera, where: Box | Pose) -> ObjectEstimate:
        """What a source sees in a place, aligned."""
        return self._last_word.aligned(image, camera, self._settling.settle(source, self._searched, camera, where))

    def _expected(self, start: PoseEstimate) -> ObjectEstimate:
        """What is known before the image is looked at."""
        return dataclasses.replace(self._lost("", None), estimate=start, source="tracking")

    def _lose(self) -> None:
        self._track.lose()
        self._last_word.forget()
        if self._ahead is not None:
            self._ahead.forget()

    def _lost(self, reason: str, box: Box | None, score: float = 0.0) -> ObjectEstimate:
        return ObjectEstimate.lost(self.package.name, reason, box, score)
