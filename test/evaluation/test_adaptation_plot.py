import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pnp_ros.evaluation.adaptation_plot import (
    HISTORY_NAME,
    StatusEntry,
    adaptation_plots,
    history_of_bag,
    load_history,
    write_adaptation_image,
)
from pnp_ros.io.bag_messages import message_types
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.resources import resource

NAMES = ("held-back error, % of the diameter", "anchor AUC, %")


def _gates(candidate: float, passed: bool) -> list[dict[str, Any]]:
    first = {"name": NAMES[0], "active": 20.0, "candidate": candidate, "bound": 19.0, "passed": passed}
    return [first, {"name": NAMES[1], "active": 90.0, "candidate": 91.0, "bound": 89.0, "passed": True}]


def _history() -> list[dict[str, Any]]:
    """Waiting; a check that fails after 20 steps, and one after 40 that makes version 1; 10 more steps."""
    entries = [{"steps": 0, "active_version": 0, "reprojection_loss": None, "correspondence_loss": None, "gates": []}]
    for step in range(10, 70, 10):
        gates = [] if step < 20 else _gates(25.0, False) if step < 50 else _gates(12.0, True)
        fields = {"steps": step if step < 50 else step - 50, "active_version": int(step >= 50)}
        losses = {"reprojection_loss": 100.0 / step, "correspondence_loss": 50.0 / step}
        entries.append(fields | losses | {"gates": gates})  # type: ignore[arg-type]
    return entries


def _write(folder: Path) -> Path:
    path = folder / HISTORY_NAME
    path.write_text("".join(json.dumps(entry) + "\n" for entry in _history()))
    return path


def test_steps_count_from_the_start(tmp_path: Path) -> None:
    path = _write(tmp_path)
    history = load_history(path)
    assert [entry.step for entry in history] == [0, 10, 20, 30, 40, 40, 50]
    assert [entry.active_version for entry in history] == [0, 0, 0, 0, 0, 1, 1]
    assert math.isnan(history[0].reprojection_loss)
    assert [gate.passed for gate in history[-1].gates] == [True, True]
    assert len(load_history(tmp_path)) == len(history)


def test_plots_show_checks_gates_and_versions(tmp_path: Path) -> None:
    plots = adaptation_plots(load_history(_write(tmp_path)))
    assert len(plots) == 3
    for _, svg in plots:
        assert svg.startswith("<svg")
    assert [title for title, _ in plots] == [
        "Adaptation: losses",
        "Adaptation: held back",
        "Adaptation: gates of each check",
    ]


def test_nothing_to_draw_is_no_plot() -> None:
    assert adaptation_plots([]) == []
    assert adaptation_plots([StatusEntry(0, 0, math.nan, math.nan, ())]) == []


def test_image_is_written_also_of_an_empty_history(tmp_path: Path) -> None:
    for name, history in (("full", load_history(_write(tmp_path))), ("empty", [])):
        write_adaptation_image(tmp_path / f"{name}.png", history)
        image = cv2.imread(str(tmp_path / f"{name}.png"))
        assert image is not None
        assert image.std() > 5.0


def test_messages_of_a_bag_are_read(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", "mcap", message_types(resource("msg"))) as writer:
        for i, entry in enumerate(_history()):
            stamp = writer.message("builtin_interfaces/msg/Time", sec=i, nanosec=0)
            header = writer.message("std_msgs/msg/Header", stamp=stamp, frame_id="")
            gates = [writer.message("pnp_ros/msg/AdaptationGate", **gate) for gate in entry["gates"]]
            losses = {name: np.nan if entry[name] is None else entry[name] for name in list(entry)[2:4]}
            counts = {"candidate_version": 1, "buffered": 0, "refused": 0, "steps": entry["steps"]}
            fields = {"object_name": "boat", "state": 1, "reason": "", "active_version": entry["active_version"]}
            fields = {"header": header, "gates": gates} | fields | losses | counts
            message = writer.message("pnp_ros/msg/AdaptationStatus", **fields)
            writer.write("/fine_tuning/status", message, i * 1_000_000_000)
    found = history_of_bag(tmp_path / "bag")
    told = load_history(_write(tmp_path))
    assert [(e.step, e.active_version, len(e.gates)) for e in found] == [
        (e.step, e.active_version, len(e.gates)) for e in told
    ]
    assert found[-1].gates[0].name == NAMES[0]
    assert found[-1].gates[0].candidate == pytest.approx(12.0)


def test_wrong_line_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path)
    path.write_text(path.read_text() + '{"steps": 3}\n')
    with pytest.raises(ValueError, match=r"status\.jsonl, line 8"):
        load_history(path)
    with pytest.raises(ValueError, match=r"nowhere\.jsonl"):
        load_history(tmp_path / "nowhere.jsonl")
