"""The object's pose from a printed board that is seen by the same camera: ArUco markers, or a ChArUco board.

The board is described by a YAML file::

    type: charuco                # or aruco
    dictionary: DICT_5X5_100
    squares_x: 7
    squares_y: 5
    square_length: 0.030         # m, as measured on the print
    marker_length: 0.022
    T_board_object:              # where the object stands on the board
      translation: [0.10, 0.07, -0.03]
      quat_wxyz: [0, 1, 0, 0]

In place of squares, type ``aruco`` has ``markers``, each with ``id``, ``side`` (m) and the ``translation`` and
``quat_wxyz`` of its centre on the board (the origin, without a turn), or with its four ``corners`` (m, board frame: top
left, top right, bottom right, bottom left). The frames are OpenCV's. A marker: origin in its centre, x right, y up, z
towards the viewer. A ChArUco board: origin in the outer corner at its top left, x right, y down, z into the board.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from pnp_ros.cameras.camera import Camera
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.solvers.pnp import solve_pnp
from pnp_ros.types import Correspondences, Pose, PoseEstimate

SIGMA = 0.5  # px, standard deviation of a corner that was refined to subpixels
_WINDOW = (3, 3)  # px to each side of a corner of squares that is refined
_PRECISION = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 30, 1e-2)  # iterations, px
_MIN_CORNERS = 4
_MIN_INLIERS = 0.6  # share of the corners
_INLIER_WEIGHT = 0.5
_MAX_CHI_SQUARE = 9.0  # reduced: corners that are 3 sigma off on average do not lie on this board
_MAX_ROTATION_SIGMA = math.radians(3.0)
_MAX_TRANSLATION_SIGMA = 0.03  # of the distance
_UNDECIDED = 0.01  # probability of another pose, such as the mirrored one, from which the board is not believed


class BoardError(ValueError):
    """A description of a board that cannot be used; the message names the file and the field."""


@dataclass(frozen=True, eq=False)
class BoardSpec:
    """A board, and where the object is on it.

    Args:
        dictionary: OpenCV's name of the markers' dictionary, such as ``DICT_4X4_50``.
        T_board_object: maps object points into the board's frame, float64.
        markers: corners (4, 3) in metres by id, float64, of type ``aruco``; empty for ``charuco``.
        squares: (x, y) numbers of squares of type ``charuco``.
        square_length: metres.
        marker_length: metres.
        legacy_pattern: a ChArUco board with even ``squares_y`` that OpenCV before 4.6 drew.
    """

    dictionary: str
    T_board_object: Pose
    markers: Mapping[int, Tensor]
    squares: tuple[int, int] = (0, 0)
    square_length: float = 0.0
    marker_length: float = 0.0
    legacy_pattern: bool = False


class BoardFinder:
    """Finds the board in images and tells where the object is.

    Args:
        spec: of the board.
        sigma: standard deviation of a found corner, pixels.
    """

    def __init__(self, spec: BoardSpec, sigma: float = SIGMA) -> None:
        self._spec, self._sigma = spec, sigma
        self._T_object_board = se3.inverse(spec.T_board_object)
        dictionary = _dictionary(spec.dictionary)
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
        self._aruco = cv2.aruco.ArucoDetector(dictionary, parameters)
        self._charuco: Any = None
        if not spec.markers:
            board = cv2.aruco.CharucoBoard(spec.squares, spec.square_length, spec.marker_length, dictionary)
            board.setLegacyPattern(spec.legacy_pattern)
            # markers as they are found: OpenCV 4.8 refines small ones in so large a window that they are pixels off
            self._charuco = cv2.aruco.CharucoDetector(board)
            self._chessboard = torch.from_numpy(np.array(board.getChessboardCorners(), np.float64))

    def pose(self, rgb: NDArray[np.uint8], camera: Camera) -> Pose | None:
        """``T_camera_object``, float32.

        Args:
            rgb: (H, W, 3) uint8.
            camera: that took it, of any lens model.

        Returns:
            None unless at least four corners agree on one pose that is well determined: a small marker that is seen
            head-on fits two poses, and is not trusted with either.
        """
        estimate = self.estimate(rgb, camera)
        return estimate.pose if estimate is not None else None

    def estimate(self, rgb: NDArray[np.uint8], camera: Camera) -> PoseEstimate | None:
        """The same with its covariance, which rests on ``sigma`` alone: not on the camera's or the board's errors."""
        pixels, points = self._corners(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8))
        if len(pixels) < _MIN_CORNERS:
            return None
        on_object = self._T_object_board.transform(points).float()
        corners = Correspondences.from_sigma(pixels.float(), on_object, self._sigma)
        camera = camera.to("cpu", torch.float32)
        best = solve_pnp(corners, camera)
        if not bool(best.usable):
            return None
        if best.alternative is not None and float(best.alternative.probability) > _UNDECIDED:
            return None
        return best if _is_sound(best, corners) else None

    def _corners(self, grey: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Pixels (N, 2) and points (N, 3) on the board of all corners that are seen."""
        if self._charuco is not None:
            pixels, ids, _, _ = self._charuco.detectBoard(grey)
            if ids is None or len(ids) == 0:
                return torch.zeros(0, 2), torch.zeros(0, 3).double()
            cv2.cornerSubPix(grey, pixels, _WINDOW, (-1, -1), _PRECISION)  # OpenCV 4 gives them half a pixel off
            return torch.from_numpy(pixels.reshape(-1, 2)), self._chessboard[ids.ravel().tolist()]
        found, ids, _ = self._aruco.detectMarkers(grey)
        seen: list[int] = [] if ids is None else [int(i) for i in ids.ravel()]
        kept = [(corners, i) for corners, i in zip(found, seen) if i in self._spec.markers and seen.count(i) == 1]
        pixels = np.array([corners.reshape(4, 2) for corners, _ in kept], np.float32).reshape(-1, 2)
        points = [self._spec.markers[i] for _, i in kept]
        return torch.from_numpy(pixels), torch.cat(points) if points else torch.zeros(0, 3).double()


def _is_sound(estimate: PoseEstimate, corners: Correspondences) -> bool:
    """Whether enough corners agree and leave little doubt."""
    count = int((estimate.inlier_weights > _INLIER_WEIGHT).sum())
    freedom = 2 * len(corners.image_points) - 6
    if (
        count < max(_MIN_CORNERS, _MIN_INLIERS * len(corners.image_points))
        or not float(2.0 * estimate.cost / freedom) <= _MAX_CHI_SQUARE
    ):
        return False
    if not bool(covariance.is_valid(estimate.covariance)):
        return False
    blocks = torch.stack([estimate.covariance[:3, :3], estimate.covariance[3:, 3:]])
    place, turn = torch.linalg.eigvalsh(blocks)[:, -1].sqrt().tolist()
    return place <= _MAX_TRANSLATION_SIGMA * float(estimate.pose.translation.norm()) and turn <= _MAX_ROTATION_SIGMA


def read_board(path: Path | str) -> BoardSpec:
    """Read the description of a board.

    Raises:
        BoardError: if the file is absent, is not YAML, or a field is missing, unknown, malformed or out of range.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BoardError(f"{path}: cannot be read ({error})") from error
    try:
        fields = _Fields(document, "")
        kind = fields.choice("type", ("aruco", "charuco"))
        spec = _aruco(fields) if kind == "aruco" else _charuco(fields)
        fields.end()
    except ValueError as error:
        raise BoardError(f"{path}: {error}") from error
    return spec


def _dictionary(name: str) -> Any:
    number = getattr(cv2.aruco, name, None) if name.startswith("DICT_") else None
    if number is None:
        known = ", ".join(sorted(known for known in dir(cv2.aruco) if known.startswith("DICT_")))
        raise ValueError(f"dictionary: expected one of {known}, got {name!r}")
    return cv2.aruco.getPredefinedDictionary(number)


def _aruco(fields: _Fields) -> BoardSpec:
    name = fields.text("dictionary")
    size = len(_dictionary(name).bytesList)
    markers: dict[int, Tensor] = {}
    for marker in fields.mappings("markers"):
        number = marker.whole("id", 0, size - 1)
        if number in markers:
            raise ValueError(f"{marker.name('id')}: {number} occurs twice")
        markers[number] = _marker_corners(marker)
        marker.end()
    return BoardSpec(name, fields.mapping("T_board_object").pose(), markers)


def _marker_corners(marker: _Fields) -> Tensor:
    """(4, 3) in the board's frame."""
    if "corners" in marker.document:
        rows = marker.take("corners")
        if not isinstance(rows, list) or len(rows) != 4:
            raise ValueError(f"{marker.name('corners')}: expected four points, got {rows!r}")
        return torch.stack([_vector(row, 3, marker.name("corners")) for row in rows])
    half = 0.5 * marker.length("side")
    square = half * torch.tensor([[-1, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]], dtype=torch.float64)
    return marker.pose({"translation": [0, 0, 0], "quat_wxyz": [1, 0, 0, 0]}).transform(square)


def _charuco(fields: _Fields) -> BoardSpec:
    name = fields.text("dictionary")
    squares = fields.whole("squares_x", 3, 100), fields.whole("squares_y", 3, 100)
    square, marker = fields.length("square_length"), fields.length("marker_length")
    if not marker < square:
        raise ValueError(f"marker_length: expected less than square_length = {square}, got {marker}")
    needed, size = squares[0] * squares[1] // 2, len(_dictionary(name).bytesList)
    if needed > size:
        raise ValueError(f"dictionary: {name} has {size} markers, {squares[0]}x{squares[1]} squares need {needed}")
    legacy = fields.take("legacy_pattern", False)
    if not isinstance(legacy, bool):
        raise ValueError(f"legacy_pattern: expected true or false, got {legacy!r}")
    return BoardSpec(name, fields.mapping("T_board_object").pose(), {}, squares, square, marker, legacy)


class _Fields:
    """A mapping of the file whose fields are taken out one by one, so that what is left is unknown."""

    def __init__(self, document: Any, prefix: str) -> None:
        if not isinstance(document, dict):
            raise ValueError(f"{prefix.rstrip('.') or 'document'}: expected fields, got {type(document).__name__}")
        self.document, self._prefix = dict(document), prefix

    def name(self, key: str) -> str:
        return f"{self._prefix}{key}"

    def take(self, key: str, default: Any = None) -> Any:
        if key not in self.document and default is None:
            raise ValueError(f"{self.name(key)}: missing")
        return self.document.pop(key, default)

    def end(self) -> None:
        if self.document:
            raise ValueError(f"{self.name(str(next(iter(self.document))))}: unknown field")

    def text(self, key: str) -> str:
        return str(self.take(key))

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in choices:
            raise ValueError(f"{self.name(key)}: expected {' or '.join(choices)}, got {value!r}")
        return value

    def whole(self, key: str, least: int, most: int) -> int:
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"{self.name(key)}: expected a whole number, {least} to {most}, got {value!r}")
        return value

    def length(self, key: str) -> float:
        value = self.take(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 < value < 10.0:
            raise ValueError(f"{self.name(key)}: expected metres, above 0 and below 10, got {value!r}")
        return float(value)

    def mapping(self, key: str) -> _Fields:
        return _Fields(self.take(key), f"{self.name(key)}.")

    def mappings(self, key: str) -> list[_Fields]:
        value = self.take(key)
        if not isinstance(value, list) or not value:
            raise ValueError(f"{self.name(key)}: expected a list, got {value!r}")
        return [_Fields(entry, f"{self.name(key)}[{index}].") for index, entry in enumerate(value)]

    def pose(self, default: Mapping[str, list[float]] | None = None) -> Pose:
        """The pose in ``translation`` and ``quat_wxyz``."""
        default = default or {}
        translation = _vector(self.take("translation", default.get("translation")), 3, self.name("translation"))
        quat_wxyz = _vector(self.take("quat_wxyz", default.get("quat_wxyz")), 4, self.name("quat_wxyz"))
        if not abs(float(quat_wxyz.norm()) - 1.0) < 1e-2:
            raise ValueError(f"{self.name('quat_wxyz')}: expected length 1, got {quat_wxyz.tolist()}")
        return Pose(so3.matrix_from_quat_wxyz(quat_wxyz / quat_wxyz.norm()), translation)


def _vector(value: Any, count: int, name: str) -> Tensor:
    numbers = isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    if not numbers or len(value) != count or not all(math.isfinite(v) for v in value):
        raise ValueError(f"{name}: expected {count} finite numbers, got {value!r}")
    return torch.tensor(value, dtype=torch.float64)
