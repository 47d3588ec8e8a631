"""Every encoding against a known image, and every fault that a message can have."""

import array
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from pnp_ros.io.images import (
    ImageError,
    VideoWriter,
    decode_compressed,
    decode_raw,
    read_image,
    read_images,
    write_image,
)

WIDTH, HEIGHT = 32, 24


def smooth_image() -> np.ndarray:
    """Slow gradients, so that chroma subsampling and demosaicing lose little."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([40 + 4 * x, 60 + 5 * y, 200 - 2 * x - 2 * y], axis=-1).astype(np.uint8)


RGB = smooth_image()
BGR = RGB[..., ::-1]
ALPHA = np.full((HEIGHT, WIDTH, 1), 77, np.uint8)
LUMA = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)


def bt601() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, U, V in video range (ITU-R BT.601), full resolution."""
    r, g, b = (RGB[..., i].astype(float) for i in range(3))
    y = 16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255
    u = 128 + (-37.797 * r - 74.203 * g + 112.0 * b) / 255
    v = 128 + (112.0 * r - 93.786 * g - 18.214 * b) / 255
    return tuple(np.rint(channel).astype(np.uint8) for channel in (y, u, v))  # type: ignore[return-value]


def packed_422(order: str) -> np.ndarray:
    y, u, v = bt601()
    parts = {"Y": y[:, ::2], "y": y[:, 1::2], "U": u[:, ::2], "V": v[:, ::2]}
    return np.stack([parts[name] for name in order], axis=-1).reshape(HEIGHT, 2 * WIDTH)


def semi_planar(order: str, every: int) -> np.ndarray:
    y, u, v = bt601()
    chroma = {"U": u[::every, ::every], "V": v[::every, ::every]}
    interleaved = np.stack([chroma[name] for name in order], axis=-1)
    return np.concatenate([y, interleaved.reshape(-1, WIDTH)])


def mosaic(pattern: str) -> np.ndarray:
    channel = {"r": 0, "g": 1, "b": 2}
    raw = np.zeros((HEIGHT, WIDTH), np.uint8)
    for i, colour in enumerate(pattern):
        raw[i // 2 :: 2, i % 2 :: 2] = RGB[i // 2 :: 2, i % 2 :: 2, channel[colour]]
    return raw


def sixteen(pixels: np.ndarray, order: str = "<") -> np.ndarray:
    return (pixels.astype(np.uint32) * 257).astype(f"{order}u2")


EXACT = {
    "rgb8": RGB,
    "bgr8": BGR,
    "8UC3": BGR,
    "rgba8": np.concatenate([RGB, ALPHA], -1),
    "bgra8": np.concatenate([BGR, ALPHA], -1),
    "8UC4": np.concatenate([BGR, ALPHA], -1),
    "rgb16": sixteen(RGB),
    "bgr16": sixteen(BGR),
    "16UC3": sixteen(BGR),
    "rgba16": sixteen(np.concatenate([RGB, ALPHA], -1)),
    "bgra16": sixteen(np.concatenate([BGR, ALPHA], -1)),
    "16UC4": sixteen(np.concatenate([BGR, ALPHA], -1)),
}
GREY = {"mono8": LUMA, "8UC1": LUMA, "mono16": sixteen(LUMA), "16UC1": sixteen(LUMA)}
LOSSY = {
    "yuv422": packed_422("UYVy"),
    "uyvy": packed_422("UYVy"),
    "yuv422_yuy2": packed_422("YUyV"),
    "yuyv": packed_422("YUyV"),
    "nv12": semi_planar("UV", 2),
    "nv21": semi_planar("VU", 2),
    "nv24": semi_planar("UV", 1),
    **{f"bayer_{pattern}8": mosaic(pattern) for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{pattern}16": sixteen(mosaic(pattern)) for pattern in ("rggb", "bggr", "gbrg", "grbg")},
}


def decode(encoding: str, rows: np.ndarray, padding: int = 0, big: bool = False) -> np.ndarray:
    """Through the message's fields, with padded rows; planar formats have more rows than the image."""
    flat = rows.view(np.uint8).reshape(len(rows), -1)
    padded = np.pad(flat, ((0, 0), (0, padding)), constant_values=255)
    return decode_raw(padded.tobytes(), WIDTH, HEIGHT, encoding, padded.shape[1], big)


@pytest.mark.parametrize("encoding", EXACT)
@pytest.mark.parametrize("padding", [0, 10])
def test_colour_encodings_are_exact(encoding: str, padding: int) -> None:
    np.testing.assert_array_equal(decode(encoding, EXACT[encoding], padding), RGB)


@pytest.mark.parametrize("encoding", GREY)
def test_grey_encodings_are_exact(encoding: str) -> None:
    np.testing.assert_array_equal(decode(encoding, GREY[encoding], 6), np.repeat(LUMA[..., None], 3, -1))


@pytest.mark.parametrize("encoding", LOSSY)
def test_subsampled_encodings_are_close(encoding: str) -> None:
    padding = 0 if encoding == "nv24" else 4
    difference = np.abs(decode(encoding, LOSSY[encoding], padding).astype(int) - RGB)[2:-2, 2:-2]
    assert difference.max() <= (10 if encoding.startswith("nv") else 5)
    assert difference.mean() < 2.5


def test_twelve_bits_in_sixteen_are_not_black() -> None:
    values = np.array([[0, 2048, 4095]], "<u2")
    assert decode_raw(values.tobytes(), 3, 1, "mono16", step=6)[0, :, 0].tolist() == [0, 128, 255]
    values[0, 2] = 4096  # now it is a dark image of 16 bits
    assert decode_raw(values.tobytes(), 3, 1, "mono16", step=6)[0, :, 0].tolist() == [0, 8, 16]


@pytest.mark.parametrize("encoding", ["mono16", "rgb16"])
def test_big_endian(encoding: str) -> None:
    pixels = sixteen(RGB if encoding == "rgb16" else LUMA, ">")
    expected = RGB if encoding == "rgb16" else np.repeat(LUMA[..., None], 3, -1)
    np.testing.assert_array_equal(decode(encoding, pixels, big=True), expected)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("B", data)])
def test_every_kind_of_buffer_and_the_image_is_a_copy(kind: type) -> None:
    data = kind(RGB.tobytes())
    image = decode_raw(data, WIDTH, HEIGHT, "rgb8", 3 * WIDTH)
    assert image.flags.writeable
    assert not np.shares_memory(image, np.frombuffer(data, np.uint8))
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoding": "32FC1"}, r"image\.encoding: expected one of .*rgb8.* got '32FC1'"),
        ({"encoding": ""}, r"image\.encoding"),
        ({"width": 0}, r"image\.width"),
        ({"height": 0}, r"image\.height"),
        ({"step": 3 * WIDTH - 1}, r"image\.step: a row needs 96 bytes, got 95"),
        ({"step": 0}, r"image\.step"),
        ({"data": RGB.tobytes()[:-1]}, r"image\.data: 24 rows of 96 bytes need 2304 bytes, got 2303"),
        ({"data": b""}, r"image\.data"),
        ({"encoding": "yuv422", "width": 31}, r"image\.width: yuv422 needs a multiple of 2"),
        ({"encoding": "nv21", "data": bytes(WIDTH * HEIGHT), "step": WIDTH}, r"image\.data: 36 rows"),
        ({"encoding": "nv24", "step": WIDTH + 1}, r"image\.step: nv24"),
    ],
)
def test_faults_name_the_field(fields: dict, message: str) -> None:
    good = {"data": RGB.tobytes(), "width": WIDTH, "height": HEIGHT, "encoding": "rgb8", "step": 3 * WIDTH}
    with pytest.raises(ImageError, match=message):
        decode_raw(**{**good, **fields})


def encode(suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, BGR, list(options))[1].tobytes()


def test_compressed() -> None:
    np.testing.assert_array_equal(decode_compressed(encode(".png")), RGB)
    jpeg = decode_compressed(array.array("B", encode(".jpg", cv2.IMWRITE_JPEG_QUALITY, 98)))  # type: ignore[arg-type]
    assert np.abs(jpeg.astype(int) - RGB).mean() < 3


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_compressed_bayer_pattern_has_colour(pattern: str, bits: int, suffix: str) -> None:
    """image_transport compresses the pattern itself, as one channel."""
    colour = dict(zip("rgb", (200, 40, 20)))
    mosaic = np.tile([[colour[c] for c in pattern[:2]], [colour[c] for c in pattern[2:]]], (8, 8)).astype(np.uint8)
    mosaic = mosaic if bits == 8 or suffix == ".jpg" else mosaic.astype(np.uint16) * 257
    data = cv2.imencode(suffix, mosaic)[1].tobytes()
    form = f"bayer_{pattern}{bits}; {'png' if suffix == '.png' else 'jpeg'} compressed "
    rgb = decode_compressed(data, form=form)
    assert np.abs(rgb[4:-4, 4:-4].astype(int) - (200, 40, 20)).max() <= (0 if suffix == ".png" else 4)
    with pytest.raises(ImageError, match=r"image\.width: bayer.* multiple of 2"):
        decode_compressed(png(mosaic[:, :-1]), form=form)


@pytest.mark.parametrize(
    ("encoding", "packed"), [("mono16", ""), ("16UC1", ""), ("rgb16", "bgr16"), ("bgr16", "bgr16")]
)
def test_compressed_twelve_bits_are_not_black(encoding: str, packed: str) -> None:
    values = np.array([[0, 2048, 4095]], np.uint16)
    data = png(values if encoding in ("mono16", "16UC1") else np.repeat(values[..., None], 3, -1))
    assert decode_compressed(data, form=f"{encoding}; png compressed {packed}")[0, :, 0].tolist() == [0, 128, 255]


def test_a_file_of_twelve_bits_is_not_black(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(np.array([[0, 2048, 4095]], np.uint16)))
    assert read_image(tmp_path / "image.png")[0, :, 0].tolist() == [0, 128, 255]


def test_what_follows_a_jpeg_does_not_cut_it_and_a_thumbnail_does_not_end_it() -> None:
    whole = encode(".jpg")
    np.testing.assert_array_equal(decode_compressed(whole + bytes(6000)), decode_compressed(whole))
    thumbnail = b"\xff\xe1" + (2 + len(whole)).to_bytes(2, "big") + whole  # a segment that holds a JPEG, as EXIF does
    with_thumbnail = whole[:2] + thumbnail + whole[2:]
    np.testing.assert_array_equal(decode_compressed(with_thumbnail), decode_compressed(whole))
    with pytest.raises(ImageError, match="truncated JPEG"):
        decode_compressed(with_thumbnail[:-100])


@pytest.mark.parametrize(
    "form", ["", "png", "jpeg", "rgb8; png compressed bgr8", "bgr8; png compressed bgr8", "rgba8; png compressed bgr8"]
)
def test_a_compressed_colour_image_is_what_its_file_shows(form: str) -> None:
    np.testing.assert_array_equal(decode_compressed(encode(".png"), form=form), RGB)
    with_alpha = png(np.dstack([BGR, np.full(BGR.shape[:2], 255, np.uint8)]))
    np.testing.assert_array_equal(decode_compressed(with_alpha, form=form), RGB)
    grey = decode_compressed(png(LUMA), form=form)
    np.testing.assert_array_equal(grey, np.repeat(LUMA[..., None], 3, -1))


def test_a_compressed_image_of_floats_is_refused() -> None:
    tiff = cv2.imencode(".tiff", np.zeros((4, 4), np.float32))[1].tobytes()
    with pytest.raises(ImageError, match=r"image\.data: expected 8 or 16 bits, got float32"):
        decode_compressed(tiff, form="mono8; tiff compressed ")


def test_compressed_depth_is_no_image() -> None:
    with pytest.raises(
        ImageError, match=r"image\.format: expected a colour or grey image, got '16UC1; compressedDepth"
    ):
        decode_compressed(bytes(12) + png(np.zeros((4, 4), np.uint16)), form="16UC1; compressedDepth png")


@pytest.mark.parametrize(
    "data", [b"", b"rubbish", encode(".png")[:-20], encode(".png")[:60], encode(".jpg")[:-2], encode(".jpg")[:300]]
)
def test_compressed_faults(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"image\.data"):
        decode_compressed(data)


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for i in (10, 2, 1):
        write_image(tmp_path / f"view{i}.png", np.full((4, 4, 3), i, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    read = list(read_images(tmp_path, rate=10.0))
    assert [stamp for stamp, _ in read] == [0.0, 0.1, 0.2]
    assert [int(rgb[0, 0, 0]) for _, rgb in read] == [1, 2, 10]


def test_one_image(tmp_path: Path) -> None:
    write_image(tmp_path / "one.png", RGB)
    ((stamp, rgb),) = read_images(tmp_path / "one.png")
    assert stamp == 0.0
    np.testing.assert_array_equal(rgb, RGB)


def moving(i: int) -> np.ndarray:
    return np.roll(np.kron(RGB, np.ones((4, 4, 1), np.uint8)), 3 * i, axis=1)


def test_a_video_is_h264_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with VideoWriter(path, rate=12.5, quality=12) as writer:
        for i in range(20):
            writer.write(moving(i))
    read = list(read_images(path))
    np.testing.assert_allclose([stamp for stamp, _ in read], np.arange(20) / 12.5)
    for i, (_, rgb) in enumerate(read):
        assert np.abs(rgb.astype(int) - moving(i)).mean() < 6
    data = path.read_bytes()
    assert b"avc1" in data
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it is wholly loaded


def test_odd_sizes_lose_the_last_row_and_column(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "odd.mp4") as writer:
        writer.write(np.zeros((33, 35, 3), np.uint8))
    ((_, rgb),) = read_images(tmp_path / "odd.mp4")
    assert rgb.shape == (32, 34, 3)


def test_video_writer_faults(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "video.mp4") as writer:
        writer.write(moving(0))
        with pytest.raises(ImageError, match="expected images of shape"):
            writer.write(RGB)
    with pytest.raises(ImageError, match="cannot be written"):
        VideoWriter(tmp_path / "absent" / "video.mp4")


def test_reading_faults(tmp_path: Path) -> None:
    (tmp_path / "rubbish.mp4").write_bytes(b"rubbish")
    (tmp_path / "rubbish.png").write_bytes(b"rubbish")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("absent.mp4", "no such"),
        ("absent.png", "no such"),
        ("rubbish.mp4", "not a readable video"),
        ("rubbish.png", r"rubbish\.png: image\.data"),
        ("empty", "no image in this folder"),
    ):
        with pytest.raises(ImageError, match=message):
            list(read_images(tmp_path / name))
    with pytest.raises(ImageError, match="rate"):
        list(read_images(tmp_path, rate=0.0))
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "image.unknown", RGB)


def claiming(suffix: str, side: int) -> bytes:
    """A small image whose header says ``side`` x ``side`` pixels."""
    data = bytearray(cv2.imencode(suffix, np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    if suffix == ".png":
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    else:
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def test_a_huge_image_is_refused_by_its_header() -> None:
    for side, message in [(12_000, "12000x12000 pixels, more than 128 million"), (60_000, "exceeds limit")]:
        for suffix in (".png", ".jpg"):
            with pytest.raises(ImageError, match=message):
                decode_compressed(claiming(suffix, side))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_image_that_is_not_the_cameras_is_refused_undecoded(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode_compressed(claiming(suffix, 4), (4, 4)).shape == (4, 4, 3)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for side in (8, 11_000, 30_000):  # 11,000 are within the limit for files, and take seconds
        with pytest.raises(ImageError, match=r"expected 4x4 pixels as the camera has|exceeds limit"):
            decode_compressed(claiming(suffix, side), (4, 4))


def test_a_format_whose_header_is_not_read_is_not_decoded_either() -> None:
    hdr = cv2.imencode(".hdr", np.zeros((4, 4, 3), np.float32))[1].tobytes()
    with pytest.raises(ImageError, match="no complete JPEG or PNG"):
        decode_compressed(hdr.replace(b"-Y 4 +X 4", b"-Y 30000 +X 30000"))


def test_the_stamps_of_a_video_are_its_own(tmp_path: Path) -> None:
    """A phone's video is not evenly spaced; the overlay drawn from it is to be played at the same pace."""
    path, stamps = tmp_path / "video.mp4", [0.0, 0.033, 0.079, 0.35, 0.4, 2.9]
    with VideoWriter(path) as writer:
        for index, stamp in enumerate(stamps):
            writer.write(np.full((32, 48, 3), 40 * index, np.uint8), 7.0 + stamp)
    assert [stamp for stamp, _ in read_images(path)] == pytest.approx(stamps, abs=1e-4)
    assert [stamp for stamp, _ in read_images(path, rate=10.0)] == pytest.approx([0.1 * i for i in range(6)])
    with VideoWriter(path, 12.5) as writer:
        for _ in range(5):
            writer.write(np.zeros((32, 48, 3), np.uint8))
    assert [stamp for stamp, _ in read_images(path)] == pytest.approx([0.08 * i for i in range(5)], abs=1e-4)
