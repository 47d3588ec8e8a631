"""The pose over time: position and angles of the object in the camera's frame, each with its 90 % band."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pnp_ros.evaluation.svg import BLUE, GREEN, ORANGE, legend, svg_of_rows
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.types import Pose

_BAND = 1.6448536  # standard deviations on either side that hold 90 % of a Gaussian
_NAMES = (("x, m", "y, m", "z, m"), ("roll, deg", "pitch, deg", "yaw, deg"))
_UNITS = ((1000.0, "mm"), (1.0, "deg"))
_MARGIN = (0.002, 0.5)  # m, deg
Column = NDArray[np.float64]


def pose_plots(records: Sequence[FrameResult], time: Column) -> list[tuple[str, str]]:
    """Title and SVG of position and angles over the ``time`` (s); none if no record has a pose.

    Lines break where the pose is not valid, not at images that were dropped.
    """
    taken = [i for i, record in enumerate(records) if record.state is not ObjectState.DROPPED]
    records, time = [records[i] for i in taken], time[taken]
    found = [coordinates(record) for record in records]
    truths = [angles_of(record.truth) if record.truth is not None else np.full(6, np.nan) for record in records]
    values, sigmas = (np.array([pair[i] for pair in found]).reshape(-1, 6) for i in (0, 1))
    truth = np.array(truths).reshape(-1, 6)
    valid = np.array([record.is_valid for record in records], bool)
    drawn = []
    for part, title in enumerate(("Position over time, 90 % band", "Angles over time, 90 % band")):
        columns, scale = slice(3 * part, 3 * part + 3), (1.0, 180.0 / np.pi)[part]
        value, sigma, true = (scale * table[:, columns] for table in (values, sigmas, truth))
        svg = svg_of_rows(partial(_draw, part, time, valid, value, sigma, true), 3)
        if svg is not None:
            drawn.append((title, svg))
    return drawn


def coordinates(record: FrameResult) -> tuple[Column, Column]:
    """(6,) x, y, z (m), roll, pitch, yaw (rad) of the estimate, and their standard deviations; NaN where not known.

    The covariance is that of [dt, dtheta] about the camera's fixed axes; with R = Rz(yaw) Ry(pitch) Rx(roll) a small
    turn of the object is dtheta = E(pitch, yaw) d(roll, pitch, yaw), so that the angles have E^-1 S E^-T. Where the
    pitch is near 90 degrees roll and yaw are hardly determined, and their bands are as wide.
    """
    if record.pose is None:
        return np.full(6, np.nan), np.full(6, np.nan)
    values, sigmas = angles_of(record.pose), np.full(6, np.nan)
    if record.covariance is not None:
        covariance = record.covariance.detach().cpu().double().numpy()
        cp, sp, cy, sy = np.cos(values[4]), np.sin(values[4]), np.cos(values[5]), np.sin(values[5])
        turn = np.array([[cy * cp, -sy, 0.0], [sy * cp, cy, 0.0], [-sp, 0.0, 1.0]])
        angles_by_turn = np.linalg.pinv(turn)
        sigmas[:3] = np.sqrt(np.diagonal(covariance)[:3])
        sigmas[3:] = np.sqrt(np.diagonal(angles_by_turn @ covariance[3:, 3:] @ angles_by_turn.T))
    return values, sigmas


def angles_of(pose: Pose) -> Column:
    """(6,) x, y, z (m), roll, pitch, yaw (rad) about the camera's fixed axes."""
    r = pose.rotation.detach().cpu().double().numpy()
    roll, yaw = np.arctan2(r[2, 1], r[2, 2]), np.arctan2(r[1, 0], r[0, 0])
    pitch = np.arctan2(-r[2, 0], np.hypot(r[2, 1], r[2, 2]))
    return np.concatenate([pose.translation.detach().cpu().double().numpy(), [roll, pitch, yaw]])


def _draw(
    part: int, time: Column, valid: NDArray[np.bool_], values: Column, sigmas: Column, truth: Column, rows: list[Axes]
) -> bool:
    if not np.isfinite(values).any():
        return False
    scale, unit = _UNITS[part]
    for i, axes in enumerate(rows):
        value, true, half = values[:, i], truth[:, i], _BAND * sigmas[:, i]
        if part == 1:  # what turns through 180 degrees does not jump
            value = _unwrapped(value)
            true = value - (value - true + 180.0) % 360.0 + 180.0 if _known(value - true) else _unwrapped(true)
        kept = np.where(valid, value, np.nan)
        axes.fill_between(time, kept - half, kept + half, color=BLUE, alpha=0.25, lw=0)
        axes.plot(time, kept, ".-", ms=2, lw=0.8, color=BLUE, label="valid")
        if (np.isfinite(value) & ~valid).any():
            axes.plot(time[~valid], value[~valid], ".", ms=3, color=ORANGE, label="not valid")
        if _known(true):
            axes.plot(time, true, "--", lw=0.8, color=GREEN, label="truth")
        axes.set_ylabel(_NAMES[part][i])
        axes.set_ylim(*_range(np.concatenate([value, true]), _MARGIN[part]))
        if _known(half[valid]):
            told = f"\u00b1 {scale * np.nanmedian(half[valid]):.2g} {unit}"
            axes.text(0.995, 0.04, told, ha="right", fontsize=7, transform=axes.transAxes)
    legend(rows[0])
    rows[-1].set_xlabel("time, s      (on the right: median half width of the band)")
    return True


def _known(values: Column) -> bool:
    return bool(np.isfinite(values).any())


def _unwrapped(degrees: Column) -> Column:
    """Neighbours differ by less than half a turn; over gaps, too."""
    found = degrees.copy()
    known = np.isfinite(found)
    found[known] = np.unwrap(found[known], period=360.0)
    return found


def _range(values: Column, margin: float) -> tuple[float, float]:
    """Of the axis: that of the values; a band as wide as the world must not flatten them."""
    low, high = np.percentile(values[np.isfinite(values)], (1, 99))
    margin += 0.25 * (high - low)
    return float(low - margin), float(high + margin)
