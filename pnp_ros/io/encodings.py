"""What the encodings of ``sensor_msgs/image_encodings`` mean: how the bytes lie, and how they become RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]


class Encoding(NamedTuple):
    """How one encoding lies in memory, and its way to RGB of the same depth."""

    dtype: str
    channels: int  # values a pixel, as they lie in a row
    to_rgb: Callable[[Pixels], Pixels]  # (H, W, channels), or (rows, W) for 1 channel, to a new (H, W, 3)
    rows: float = 1.0  # rows of data a row of the image: more than 1 for planar formats
    even: tuple[int, int] = (1, 1)  # what width and height must be multiples of

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a row for one pixel."""
        return self.channels * np.dtype(self.dtype).itemsize


def _opencv(conversion: str) -> Callable[[Pixels], Pixels]:
    code = getattr(cv2, f"COLOR_{conversion}")
    return lambda pixels: np.asarray(cv2.cvtColor(pixels, code))


def _nv24(planes: Pixels) -> Pixels:
    """Y plane, then interleaved U V of the same resolution: each pixel becomes one UYVY pair, of which one is kept."""
    height, width = planes.shape[0] // 3, planes.shape[1]
    luma, chroma = planes[:height], planes[height:].reshape(height, width, 2)
    pairs = np.stack([chroma[..., 0], luma, chroma[..., 1], luma], axis=-1).reshape(height, 2 * width, 2)
    return np.ascontiguousarray(cv2.cvtColor(pairs, cv2.COLOR_YUV2RGB_UYVY)[:, ::2])


def _encodings() -> dict[str, Encoding]:
    table = {
        "yuv422": Encoding("u1", 2, _opencv("YUV2RGB_UYVY"), even=(2, 1)),
        "uyvy": Encoding("u1", 2, _opencv("YUV2RGB_UYVY"), even=(2, 1)),
        "yuv422_yuy2": Encoding("u1", 2, _opencv("YUV2RGB_YUY2"), even=(2, 1)),
        "yuyv": Encoding("u1", 2, _opencv("YUV2RGB_YUY2"), even=(2, 1)),
        "nv12": Encoding("u1", 1, _opencv("YUV2RGB_NV12"), rows=1.5, even=(2, 2)),
        "nv21": Encoding("u1", 1, _opencv("YUV2RGB_NV21"), rows=1.5, even=(2, 2)),
        "nv24": Encoding("u1", 1, _nv24, rows=3.0),
    }
    for bits, dtype in (("8", "u1"), ("16", "u2")):
        table[f"rgb{bits}"] = Encoding(dtype, 3, np.copy)
        table[f"rgba{bits}"] = Encoding(dtype, 4, _opencv("RGBA2RGB"))
        # the anonymous encodings hold BGR: they are what cv_bridge calls a cv::Mat of OpenCV's
        table[f"bgr{bits}"] = table[f"{bits}UC3"] = Encoding(dtype, 3, _opencv("BGR2RGB"))
        table[f"bgra{bits}"] = table[f"{bits}UC4"] = Encoding(dtype, 4, _opencv("BGRA2RGB"))
        table[f"mono{bits}"] = table[f"{bits}UC1"] = Encoding(dtype, 1, _opencv("GRAY2RGB"))
        # OpenCV names a Bayer pattern after its second row: rggb is BayerBG
        for pattern, opencv in (("rggb", "BG"), ("bggr", "RG"), ("gbrg", "GR"), ("grbg", "GB")):
            table[f"bayer_{pattern}{bits}"] = Encoding(dtype, 1, _opencv(f"Bayer{opencv}2RGB"), even=(2, 2))
    return table


ENCODINGS = _encodings()
