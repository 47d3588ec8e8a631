"""Boards are drawn as a camera with a distorting lens sees them: every pixel's ray is followed to the board's plane."""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from pnp_ros.cameras.camera import Camera, camera_from_info
from pnp_ros.geometry import covariance, se3, so3
from pnp_ros.multiview.board import BoardError, BoardFinder, BoardSpec, read_board
from pnp_ros.types import Pose

torch.set_num_threads(1)
WIDTH, HEIGHT = 640, 480
FINER, COARSER = 3, 4  # than a pixel: the drawing is sampled, rays are followed
K = [600.0, 0.0, 322.0, 0.0, 605.0, 236.0, 0.0, 0.0, 1.0]
PINHOLE = Camera.pinhole(600.0, 605.0, 322.0, 236.0, WIDTH, HEIGHT)
WIDE = camera_from_info(WIDTH, HEIGHT, "plumb_bob", [-0.25, 0.08, 0.001, -0.001, 0.0], K)
FISHEYE = camera_from_info(WIDTH, HEIGHT, "equidistant", [-0.02, 0.005, 0.0, 0.0], K)
OBJECT = {"translation": [0.05, 0.04, -0.02], "quat_wxyz": [0.8, 0.0, 0.6, 0.0]}
CHARUCO = {
    "type": "charuco",
    "dictionary": "DICT_5X5_100",
    "squares_x": 7,
    "squares_y": 5,
    "square_length": 0.03,
    "marker_length": 0.022,
    "T_board_object": OBJECT,
}
ARUCO = {
    "type": "aruco",
    "dictionary": "DICT_4X4_50",
    "markers": [
        {"id": 3, "side": 0.06, "translation": [-0.05, 0.0, 0.0]},
        {"id": 17, "side": 0.06, "translation": [0.05, 0.0, 0.0], "quat_wxyz": [math.sqrt(0.5), 0, 0, math.sqrt(0.5)]},
    ],
    "T_board_object": OBJECT,
}


def _spec(folder: Path, document: dict[str, Any]) -> BoardSpec:
    path = folder / "board.yaml"
    path.write_text(yaml.safe_dump(document))
    return read_board(path)


def _view(tilt: tuple[float, float, float], distance: float, centre: tuple[float, float], flip: bool) -> Pose:
    """``T_camera_board`` with ``centre`` of the board on the optical axis; ``flip``: the board's z is towards us."""
    base = torch.diag(torch.tensor([1.0, -1.0, -1.0] if flip else [1.0, 1.0, 1.0], dtype=torch.float64))
    rotation = so3.exp(torch.deg2rad(torch.tensor(tilt, dtype=torch.float64))) @ base
    place = torch.tensor([0.02, -0.01, distance], dtype=torch.float64)
    return Pose(rotation, place - rotation @ torch.tensor([*centre, 0.0], dtype=torch.float64))


def _seen(
    board: np.ndarray, origin: tuple[float, float], pixel: tuple[float, float], view: Pose, camera: Camera
) -> Any:
    """(480, 640, 3) image of a drawn board whose outer top left corner lies at ``origin`` (m), on grey.

    ``pixel``: size of a pixel of the drawing along the board's x and y, in metres, with its sign.
    """
    width, height = WIDTH // COARSER, HEIGHT // COARSER
    grid = camera.crop(0, 0, WIDTH, HEIGHT, width, height).to(dtype=torch.float64)
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    rays = grid.unproject(torch.stack([u, v], dim=-1).reshape(-1, 2).double()) @ view.rotation
    eye = -view.rotation.mT @ view.translation
    on_board = (eye + rays * (-eye[2] / rays[:, 2])[:, None])[:, :2].reshape(height, width, 2).numpy()
    place = ((on_board - origin) / pixel - 0.5).astype(np.float32)
    x, y = cv2.split(cv2.resize(place, (FINER * WIDTH, FINER * HEIGHT), interpolation=cv2.INTER_CUBIC))
    shown = cv2.remap(board, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=170)
    small = cv2.resize(shown, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float64)
    noisy = 0.8 * small + 20 + np.random.default_rng(0).normal(0.0, 3.0, small.shape)
    return np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _charuco_image(view: Pose, camera: Camera, dictionary: str = "DICT_5X5_100") -> Any:
    chosen = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary))
    board = cv2.aruco.CharucoBoard((7, 5), 0.03, 0.022, chosen).generateImage((1400, 1000), marginSize=0)
    return _seen(board, (0.0, 0.0), (0.03 / 200, 0.03 / 200), view, camera)


def _aruco_image(view: Pose, camera: Camera, ids: tuple[int, int] = (3, 17)) -> Any:
    """Two markers on white paper of 240 x 120 mm, the right one turned by a quarter to the left."""
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    paper = np.full((1200, 2400), 255, np.uint8)
    left, right = (cv2.aruco.generateImageMarker(dictionary, i, 600) for i in ids)
    paper[300:900, 400:1000] = left
    paper[300:900, 1400:2000] = np.rot90(right)
    return _seen(paper, (-0.12, 0.06), (1e-4, -1e-4), view, camera)


def _assert_close(found: Pose | None, view: Pose, spec: BoardSpec) -> None:
    assert found is not None
    truth = se3.compose(view, spec.T_board_object)
    assert float((found.translation.double() - truth.translation).norm()) < 0.005 * float(truth.translation.norm())
    assert math.degrees(float(so3.angle_between(found.rotation.double(), truth.rotation))) < 0.3


@pytest.mark.parametrize("camera", [PINHOLE, WIDE, FISHEYE], ids=["pinhole", "wide", "fisheye"])
@pytest.mark.parametrize(("tilt", "distance"), [((30.0, 10.0, 20.0), 0.4), ((-20.0, -35.0, 100.0), 0.6)])
def test_charuco_board(tmp_path: Path, camera: Camera, tilt: tuple[float, float, float], distance: float) -> None:
    spec, view = _spec(tmp_path, CHARUCO), _view(tilt, distance, (0.105, 0.075), False)
    _assert_close(BoardFinder(spec).pose(_charuco_image(view, camera), camera), view, spec)


@pytest.mark.parametrize("camera", [PINHOLE, WIDE, FISHEYE], ids=["pinhole", "wide", "fisheye"])
def test_two_markers_one_of_them_turned(tmp_path: Path, camera: Camera) -> None:
    spec, view = _spec(tmp_path, ARUCO), _view((25.0, -20.0, 15.0), 0.35, (0.0, 0.0), True)
    _assert_close(BoardFinder(spec).pose(_aruco_image(view, camera), camera), view, spec)


def test_covariance_covers_the_error(tmp_path: Path) -> None:
    spec = _spec(tmp_path, CHARUCO)
    values = []
    for i in range(5):
        view = _view((20.0 + 5 * i, 10.0 - 8 * i, 30.0 * i), 0.4 + 0.05 * i, (0.105, 0.075), False)
        found = BoardFinder(spec).estimate(_charuco_image(view, WIDE), WIDE)
        assert found is not None
        truth = se3.compose(view, spec.T_board_object)
        delta = se3.local(found.pose, Pose(truth.rotation.float(), truth.translation.float()))
        values.append(float(covariance.nees(delta, found.covariance)))
    assert np.mean(values) < 12.0


def test_board_that_is_half_hidden(tmp_path: Path) -> None:
    spec, view = _spec(tmp_path, CHARUCO), _view((25.0, 20.0, 0.0), 0.4, (0.105, 0.075), False)
    image = _charuco_image(view, PINHOLE)
    image[:, : WIDTH // 2] = 90
    _assert_close(BoardFinder(spec).pose(image, PINHOLE), view, spec)


def test_one_of_two_markers_is_enough_if_it_is_near(tmp_path: Path) -> None:
    spec, view = _spec(tmp_path, ARUCO), _view((35.0, -30.0, 15.0), 0.2, (-0.05, 0.0), True)
    found = BoardFinder(spec).pose(_aruco_image(view, PINHOLE, ids=(3, 40)), PINHOLE)
    _assert_close(found, view, spec)


def test_small_marker_seen_head_on_is_not_trusted(tmp_path: Path) -> None:
    document = ARUCO | {"markers": [{"id": 3, "side": 0.06, "translation": [-0.05, 0.0, 0.0]}]}
    view = _view((3.0, -2.0, 15.0), 1.5, (0.0, 0.0), True)
    assert BoardFinder(_spec(tmp_path, document)).pose(_aruco_image(view, PINHOLE), PINHOLE) is None


def test_marker_in_the_wrong_place_is_not_believed(tmp_path: Path) -> None:
    """The description says that the markers lie apart by half of what they do."""
    markers = [marker | {"translation": [0.5 * x for x in marker["translation"]]} for marker in ARUCO["markers"]]  # type: ignore[index,union-attr]
    view = _view((25.0, -20.0, 15.0), 0.35, (0.0, 0.0), True)
    reference = BoardFinder(_spec(tmp_path, ARUCO | {"markers": markers}))
    assert reference.pose(_aruco_image(view, PINHOLE), PINHOLE) is None


def test_other_dictionary_other_ids_and_no_board(tmp_path: Path) -> None:
    charuco, aruco = BoardFinder(_spec(tmp_path, CHARUCO)), BoardFinder(_spec(tmp_path, ARUCO))
    view = _view((25.0, 20.0, 0.0), 0.4, (0.105, 0.075), False)
    assert charuco.pose(_charuco_image(view, PINHOLE, "DICT_6X6_100"), PINHOLE) is None
    flipped = _view((25.0, -20.0, 15.0), 0.35, (0.0, 0.0), True)
    assert aruco.pose(_aruco_image(flipped, PINHOLE, ids=(4, 5)), PINHOLE) is None
    for image in (np.full((HEIGHT, WIDTH, 3), 128, np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.uint8)):
        assert charuco.pose(image, PINHOLE) is None
        assert aruco.pose(image, PINHOLE) is None


def test_same_marker_twice_tells_nothing(tmp_path: Path) -> None:
    spec, view = _spec(tmp_path, ARUCO), _view((25.0, -20.0, 15.0), 0.35, (0.0, 0.0), True)
    assert BoardFinder(spec).pose(_aruco_image(view, PINHOLE, ids=(3, 3)), PINHOLE) is None


def test_corners_by_hand_are_the_same_as_a_side(tmp_path: Path) -> None:
    by_side = _spec(tmp_path, ARUCO).markers[3]
    corners = [[-0.08, 0.03, 0.0], [-0.02, 0.03, 0.0], [-0.02, -0.03, 0.0], [-0.08, -0.03, 0.0]]
    document = ARUCO | {"markers": [{"id": 3, "corners": corners}]}
    torch.testing.assert_close(_spec(tmp_path, document).markers[3], by_side)


def _without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([1, 2], "document"),
        (CHARUCO | {"type": "chess"}, "type"),
        (_without(CHARUCO, "squares_x"), "squares_x: missing"),
        (CHARUCO | {"squares_x": 2.5}, "squares_x"),
        (CHARUCO | {"square_length": -0.03}, "square_length"),
        (CHARUCO | {"marker_length": 0.04}, "marker_length"),
        (CHARUCO | {"dictionary": "DICT_9X9"}, "dictionary"),
        (CHARUCO | {"squares_x": 30, "squares_y": 30}, "dictionary"),
        (CHARUCO | {"legacy_pattern": "yes"}, "legacy_pattern"),
        (CHARUCO | {"colour": "red"}, "colour: unknown"),
        (_without(CHARUCO, "T_board_object"), "T_board_object: missing"),
        (CHARUCO | {"T_board_object": OBJECT | {"translation": [0, 0]}}, "T_board_object.translation"),
        (CHARUCO | {"T_board_object": OBJECT | {"translation": [0, 0, float("nan")]}}, "T_board_object.translation"),
        (CHARUCO | {"T_board_object": OBJECT | {"quat_wxyz": [1, 1, 0, 0]}}, "T_board_object.quat_wxyz"),
        (ARUCO | {"markers": []}, "markers"),
        (ARUCO | {"markers": [{"id": 50, "side": 0.1}]}, r"markers\[0\]\.id"),
        (ARUCO | {"markers": [{"id": 5}]}, r"markers\[0\]\.side"),
        (ARUCO | {"markers": [{"id": 5, "side": 0.1}] * 2}, r"markers\[1\]\.id"),
        (ARUCO | {"markers": [{"id": 5, "corners": [[0, 0, 0]]}]}, r"markers\[0\]\.corners"),
    ],
)
def test_wrong_file_is_named_with_its_field(tmp_path: Path, document: Any, field: str) -> None:
    with pytest.raises(BoardError, match=rf"board\.yaml: {field}"):
        _spec(tmp_path, document)


def test_absent_file_and_broken_yaml(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=r"nowhere\.yaml"):
        read_board(tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("type: [")
    with pytest.raises(BoardError, match=r"bad\.yaml"):
        read_board(tmp_path / "bad.yaml")
