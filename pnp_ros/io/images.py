"""Images: a message's bytes, a file, a folder or a video to RGB arrays, and back to files.

Everywhere an image is (H, W, 3) uint8 RGB, row-major, owned by the caller.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pnp_ros.io.encodings import ENCODINGS, Encoding, Pixels
from pnp_ros.io.window import ALL, Window

RgbImage = NDArray[np.uint8]
Buffer = bytes | bytearray | memoryview | NDArray[Any]  # anything with the buffer protocol, array.array as well

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
_TWELVE_BITS = 4095
_LARGEST = 128_000_000  # pixels
_TICKS = 90_000  # a second, of the videos that are written
DEFAULT_RATE = 30.0  # images a second, where the source does not say


class ImageError(ValueError):
    """An image cannot be decoded, read or written; the message names the field or file."""


def decode_raw(data: Buffer, width: int, height: int, encoding: str, step: int, is_bigendian: bool = False) -> RgbImage:
    """Decode the fields of a ``sensor_msgs/Image``.

    Args:
        data: ``step * height`` bytes, more for the planar formats (nv12, nv21: 3/2; nv24: 3).
        width: pixels.
        height: pixels.
        encoding: a name of ``sensor_msgs/image_encodings``: rgb, bgr, rgba, bgra, mono, bayer_* (8 and 16 bit), 8UC1,
            8UC3, 8UC4, 16UC1, 16UC3, 16UC4 (BGR order), yuv422 (uyvy), yuv422_yuy2 (yuyv), nv21, nv24; also nv12.
            16-bit values are scaled to 8 bit, by 12 bits where none exceeds them; YUV is BT.601.
        step: bytes a row, padding included.
        is_bigendian: byte order of 16-bit values.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ImageError: if a field is unknown or contradicts another; the message names it.
    """
    layout = check_raw(data, width, height, encoding, step)
    pixels = np.ascontiguousarray(rows_of(data, int(height * layout.rows), width * layout.pixel_bytes, step))
    dtype = np.dtype(layout.dtype).newbyteorder(">" if is_bigendian else "<")
    pixels = pixels.view(dtype).astype(layout.dtype, copy=False)
    shape = (len(pixels), width) if layout.channels == 1 else (height, width, layout.channels)
    return _eight_bits(layout.to_rgb(pixels.reshape(shape)))


def _eight_bits(rgb: Pixels) -> RgbImage:
    if rgb.dtype == np.uint16:
        full = _TWELVE_BITS if rgb.max() <= _TWELVE_BITS else 65535  # drivers put 12 bits into the low ones
        rgb = cv2.convertScaleAbs(rgb, alpha=255.0 / full)
    return np.asarray(rgb, dtype=np.uint8)


def check_raw(data: Buffer, width: int, height: int, encoding: str, step: int) -> Encoding:
    """How the fields of a ``sensor_msgs/Image`` lie in memory; they agree with each other.

    Raises:
        ImageError: as :func:`decode_raw`.
    """
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise ImageError(f"image.encoding: expected one of {', '.join(sorted(ENCODINGS))}, got {encoding!r}")
    _check_sides(width, height, encoding, layout)
    row_bytes = width * layout.pixel_bytes
    if encoding == "nv24" and step > row_bytes:  # its chroma rows are twice as long: padding is not defined
        raise ImageError(f"image.step: nv24 is read without padding, {row_bytes} bytes a row, got {step}")
    rows_of(data, int(height * layout.rows), row_bytes, step)
    return layout


def _check_sides(width: int, height: int, encoding: str, layout: Encoding) -> None:
    for name, size, multiple in (("width", width, layout.even[0]), ("height", height, layout.even[1])):
        if size <= 0:
            raise ImageError(f"image.{name}: expected more than 0 pixels, got {size}")
        if size % multiple:
            raise ImageError(f"image.{name}: {encoding} needs a multiple of {multiple} pixels, got {size}")


def rows_of(data: Buffer, rows: int, row_bytes: int, step: int, name: str = "image") -> NDArray[np.uint8]:
    """(rows, row_bytes) the bytes of a message without the rows' padding; a view of them.

    Raises:
        ImageError: if a row or the data is too short; the message says so of a field of ``name``.
    """
    if step < row_bytes:
        raise ImageError(f"{name}.step: a row needs {row_bytes} bytes, got {step}")
    pixels = np.frombuffer(data, np.uint8)
    if pixels.size < step * rows:
        raise ImageError(f"{name}.data: {rows} rows of {step} bytes need {step * rows} bytes, got {pixels.size}")
    return pixels[: step * rows].reshape(rows, step)[:, :row_bytes]


def decode_compressed(data: Buffer, size: tuple[int, int] | None = None, form: str = "") -> RgbImage:
    """Decode the data of a ``sensor_msgs/CompressedImage``: JPEG, PNG and what else OpenCV reads.

    An EXIF orientation is ignored: the camera's calibration is for the pixels as they lie in the file.

    Args:
        data: of the message.
        size: (width, height) in pixels that the camera has; None: any up to 128 million pixels.
        form: the message's ``format``. image_transport writes ``ENCODING; png compressed ...`` with the encoding of the
            raw image: one channel may then be a Bayer pattern, and 16-bit values are scaled as :func:`decode_raw` does.

    Raises:
        ImageError: if the data is empty, truncated, of an unknown format, or its header names another size.
    """
    encoding, told, packing = form.partition(";")
    if "compressedDepth" in packing:
        raise ImageError(f"image.format: expected a colour or grey image, got {form!r}")
    encoded = np.frombuffer(data, np.uint8).tobytes()
    if not encoded:
        raise ImageError("image.data: empty")
    # OpenCV 4 fills what is missing of a JPEG with grey and only warns
    if encoded[:2] == b"\xff\xd8" and _is_cut(encoded):
        raise ImageError(f"image.data: truncated JPEG of {len(encoded)} bytes")
    _check_size(encoded, size)
    layout = ENCODINGS.get(encoding.strip()) if told else None
    plain = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    flags = plain if layout is None else cv2.IMREAD_UNCHANGED
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    if pixels is None:
        raise ImageError(f"image.data: {len(encoded)} bytes are no complete JPEG or PNG image")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"image.data: expected 8 or 16 bits, got {pixels.dtype}")
    return _eight_bits(_rgb_of_file(pixels, encoding.strip(), layout))


def _is_cut(jpeg: bytes) -> bool:
    """Whether a JPEG's image does not end; what cameras append to it does not matter, nor a thumbnail before it."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:  # segments, up to that of the image
        fill = jpeg[at + 1] == 0xFF
        at += 1 if fill else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return jpeg.rfind(b"\xff\xd9", at) < 0


def _rgb_of_file(pixels: Pixels, encoding: str, layout: Encoding | None) -> Pixels:
    """RGB of the same depth of what OpenCV read: BGR, BGRA, or one channel of the encoding that the message names."""
    if pixels.ndim == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB))
    if layout is None or layout.channels != 1 or layout.rows != 1.0:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB))
    height, width = pixels.shape
    _check_sides(width, height, encoding, layout)
    return layout.to_rgb(pixels)


def _check_size(encoded: bytes, size: tuple[int, int] | None) -> None:
    """Refuse an image by the size in its header: decoding a small file can take seconds and gigabytes."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            found = image.size
    except Image.DecompressionBombError as error:
        raise ImageError(f"image.data: {error}") from error
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
    ) as error:  # OpenCV reads formats whose size Pillow cannot tell
        raise ImageError(f"image.data: {len(encoded)} bytes are no complete JPEG or PNG image") from error
    if size is not None and found != size:
        raise ImageError(f"image.data: expected {_by(size)} pixels as the camera has, its header says {_by(found)}")
    if found[0] * found[1] > _LARGEST:
        raise ImageError(f"image.data: {_by(found)} pixels, more than {_LARGEST // 1_000_000} million")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def read_image(path: Path | str) -> RgbImage:
    """Read one image file.

    Raises:
        ImageError: if it is absent or cannot be decoded; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: no such image")
    try:
        return decode_compressed(path.read_bytes())
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def write_image(path: Path | str, rgb: RgbImage) -> None:
    """Write an image; the suffix says the format (.png, .jpg).

    Raises:
        ImageError: if the format is unknown or the file cannot be written.
    """
    path = Path(path)
    try:
        encoded, data = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        if not encoded:
            raise ImageError(f"{path}: cannot be encoded")
        path.write_bytes(data.tobytes())
    except (cv2.error, OSError) as error:
        raise ImageError(f"{path}: cannot be written ({error})") from error


def read_images(path: Path | str, rate: float | None = None, window: Window = ALL) -> Iterator[tuple[float, RgbImage]]:
    """Stamp (s, from 0) and (H, W, 3) uint8 RGB of each image of a video file, a folder of images or one image.

    A video's stamps are those of its container, which need not be evenly spaced; ``rate``, if given, is taken instead.
    A folder has ``rate``, or else 30, images a second, in natural order of their names (2 before 10). Images outside of
    the ``window`` are not decoded.

    Raises:
        ImageError: if the path is absent, holds no image, or an image cannot be decoded; the message names it.
    """
    path = Path(path)
    if rate is not None and not 0 < rate < float("inf"):
        raise ImageError(f"rate: expected more than 0 images a second, got {rate}")
    if path.is_dir():
        takes = window.taking()
        for index, file in enumerate(images_in(path)):
            if takes(stamp := index / (rate or DEFAULT_RATE)):
                yield stamp, read_image(file)
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        yield 0.0, read_image(path)
    else:
        yield from _read_video(path, rate, window)


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, in natural order of their names.

    Raises:
        ImageError: if there is none.
    """
    files = sorted((file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES), key=natural_order)
    if not files:
        raise ImageError(f"{folder}: no image in this folder")
    return files


def count_images(path: Path | str, window: Window = ALL) -> int | None:
    """How many images :func:`read_images` gives, as far as that is known without reading them; for progress bars."""
    path = Path(path)
    if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
        return 1
    rate: float = DEFAULT_RATE
    if path.is_dir():
        count = sum(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir())
    else:
        capture = cv2.VideoCapture(str(path))
        count = max(round(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        rate = capture.get(cv2.CAP_PROP_FPS) or DEFAULT_RATE
        capture.release()
    return window.count(count, (count - 1) / rate) if count else None


def natural_order(path: Path) -> list[tuple[int, str]]:
    """The key by which files are sorted as people count: 9 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _read_video(path: Path, rate: float | None, window: Window) -> Iterator[tuple[float, RgbImage]]:
    if not path.is_file():
        raise ImageError(f"{path}: no such video, image or folder")
    capture = cv2.VideoCapture(str(path))
    try:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # the calibration is for the pixels as they lie in the file
        stamps = [] if rate else _container_stamps(path)
        rate = rate or capture.get(cv2.CAP_PROP_FPS) or DEFAULT_RATE
        index, takes = 0, window.taking()
        while capture.grab():
            stamp = stamps[index] if index < len(stamps) else index / rate
            index += 1
            if stamp > window.end:
                break
            if not takes(stamp):
                continue
            read, bgr = capture.retrieve()
            if not read:
                break
            yield stamp, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        capture.release()
    if index == 0:
        raise ImageError(f"{path}: not a readable video")


def _container_stamps(path: Path) -> list[float]:
    """Seconds from the first image, of each image in the order of showing; empty where the container has none."""
    try:
        import av

        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
            base = stream.time_base
    except (ImportError, IndexError, OSError, ValueError):  # av's own errors are OSErrors and ValueErrors
        return []
    if base is None or any(later <= earlier for earlier, later in itertools.pairwise(times)):
        return []
    return [float((time - times[0]) * base) for time in times]


class VideoWriter:
    """Writes RGB images as an H.264 MP4 that browsers, players and Foxglove show; a context manager.

    PyAV encodes: OpenCV's wheels read H.264 but cannot write it.

    Args:
        path: the ``.mp4`` file.
        rate: images a second.
        quality: x264's constant rate factor; lower is better and larger, 18 looks lossless.

    Raises:
        ImageError: if PyAV is absent, the file cannot be written, or an image has another size than the first.
    """

    def __init__(self, path: Path | str, rate: float = DEFAULT_RATE, quality: int = 20) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ImageError(f"{self.path}: cannot be written (no such folder)")
        self._rate = Fraction(rate).limit_denominator(1001)
        self._options = {"crf": str(quality), "preset": "veryfast"}
        self._container: Any = None
        self._stream: Any = None
        self._shape: tuple[int, ...] = ()
        self._pts: int | None = None

    def write(self, rgb: RgbImage, stamp: float | None = None) -> None:
        """Append an image (H, W, 3); an odd last row or column is left out, as H.264 needs even sizes.

        Args:
            rgb: the image.
            stamp: seconds, when it is shown; later than the one before. None: at the writer's rate.
        """
        even = np.ascontiguousarray(rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2])
        if self._container is None:
            self._open(*even.shape[:2])
            self._shape = rgb.shape
        if rgb.shape != self._shape:
            raise ImageError(f"{self.path}: expected images of shape {self._shape}, got {rgb.shape}")
        self._pts = self._next_pts(stamp)
        self._encode(even)

    def _next_pts(self, stamp: float | None) -> int:
        """In ticks from the first image, at least one later than the last."""
        if self._pts is None:
            self._first = 0.0 if stamp is None else stamp
            return 0
        wanted = self._pts + round(_TICKS / self._rate) if stamp is None else round((stamp - self._first) * _TICKS)
        return max(wanted, self._pts + 1)

    def _open(self, height: int, width: int) -> None:
        try:
            import av
        except ImportError as error:
            raise ImageError("writing a video needs PyAV: pip install av") from error
        # the index goes in front, so that players start before they have the whole file
        self._container = av.open(str(self.path), "w", options={"movflags": "faststart"})
        self._stream = self._container.add_stream("libx264", rate=self._rate, options=self._options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)

    def _encode(self, even: RgbImage | None) -> None:
        """One image, or with None the rest that the encoder still holds."""
        import av

        frame = None
        if even is not None:
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame.pts, frame.time_base = self._pts, Fraction(1, _TICKS)
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise ImageError(f"{self.path}: cannot be written ({error})") from error

    def close(self) -> None:
        """Finish the file; safe to call twice."""
        if self._container is not None:
            self._encode(None)
            self._container.close()
            self._container = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
