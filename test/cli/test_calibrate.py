"""``pnp-ros calibrate`` from images to camera_info."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pnp_ros.cli import calibrate
from pnp_ros.geometry import so3
from pnp_ros.io.camera_info import read_camera_info

K = np.array([[600.0, 0.0, 320.0], [0.0, 600.0, 240.0], [0.0, 0.0, 1.0]])
SQUARE = 0.03


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    calibrate.add_arguments(parser)
    return parser.parse_args(words)


def draw_views(folder: Path, count: int) -> None:
    """Images of a 7x5 board (inner corners) by a pinhole camera; one more image shows nothing."""
    pixels = 40
    squares = np.indices((6, 8)).sum(axis=0) % 2 * 255
    board = np.pad(np.kron(squares, np.ones((pixels, pixels))), pixels, constant_values=255).astype(np.uint8)
    # from board pixels to metres, with the origin at the middle
    metres = np.diag([SQUARE / pixels, SQUARE / pixels, 1.0])
    metres[:2, 2] = -0.5 * SQUARE / pixels * np.array([board.shape[1], board.shape[0]])
    generator = torch.Generator().manual_seed(0)
    for view in range(count):
        turn = 0.6 * (2.0 * torch.rand(3, generator=generator, dtype=torch.float64) - 1.0)
        rotation = so3.exp(turn).numpy()
        shift = 0.04 * (2.0 * torch.rand(2, generator=generator, dtype=torch.float64) - 1.0).numpy()
        pose = np.column_stack([rotation[:, 0], rotation[:, 1], [*shift, 0.42]])
        big = np.diag([4.0, 4.0, 1.0])  # drawn at four times the size, then averaged
        image = cv2.warpPerspective(board, big @ K @ pose @ metres, (2560, 1920), borderValue=255)
        cv2.imwrite(str(folder / f"view{view}.png"), cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(folder / "empty.png"), np.full((480, 640), 255, dtype=np.uint8))


def test_from_images_to_camera_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_views(tmp_path, 8)
    out = tmp_path / "calibration" / "camera_info.yaml"
    assert (
        calibrate.run(parse(str(tmp_path), "--board", "7x5", "--square", str(SQUARE), "--out", str(out), "--fix", "k3"))
        == 0
    )
    info = read_camera_info(out)
    assert (info.width, info.height, info.distortion_model, len(info.d)) == (640, 480, "plumb_bob", 5)
    assert info.k[0] == pytest.approx(600.0, rel=0.02)
    assert info.k[4] == pytest.approx(600.0, rel=0.02)
    assert len(info.sigmas) == 4
    assert 0 < info.sigmas[0] < 6.0
    assert read_camera_info(out).camera().distortion[4] == 0
    said = capsys.readouterr().out
    assert said.count(f" px  {tmp_path}/view") == 8  # the error of each view, with the file to leave out
    assert "8 views" in said
    assert "+-" in said
    assert f"in 1 images: {tmp_path}/empty.png" in said


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    draw_views(tmp_path, 1)
    with pytest.raises(ValueError, match="--board"):
        calibrate.run(parse(str(tmp_path), "--board", "seven", "--square", "0.03"))
    with pytest.raises(ValueError, match="--fix"):
        calibrate.run(parse(str(tmp_path), "--board", "7x5", "--square", "0.03", "--fix", "k9"))
    with pytest.raises(ValueError, match="--square"):
        calibrate.run(parse(str(tmp_path), "--board", "7x5", "--square", "-1"))
    with pytest.raises(ValueError, match="no board of 11x4"):
        calibrate.run(parse(str(tmp_path), "--board", "11x4", "--square", "0.03"))


@pytest.mark.parametrize(
    ("model", "idle", "held"),
    [
        ("rational_polynomial", ["k1", "k4"], ["k4", "k5", "k6"]),
        ("rational_polynomial", ["p1"], ["p1"]),
        ("equidistant", ["k3", "k4"], ["k3", "k4"]),
        ("plumb_bob", ["k3"], ["k3"]),
    ],
)
def test_of_a_rational_lens_alone_the_denominator_is_proposed(model: str, idle: list[str], held: list[str]) -> None:
    names = {"equidistant": ["k1", "k2", "k3", "k4"], "plumb_bob": ["k1", "k2", "p1", "p2", "k3"]}
    rational = ["k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"]
    assert calibrate._to_hold(model, names.get(model, rational), idle) == held
