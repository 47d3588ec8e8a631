"""A node that is started wrongly ends with status 1 and one line that says why."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

FILES = {"broken": "/**:\n  ros__parameters:\n    patience: [\n", "flat": "patience: [1.0]\n"}
FUSION = ("-p", "poses:=[/a, /b]", "-p", "fixed_frame:=cell")


@pytest.mark.parametrize(
    ("node", "words", "expected"),
    [
        ("backlog", ("--params-file", "absent.yaml"), "absent.yaml"),
        ("backlog", ("--params-file", "broken.yaml"), "broken.yaml"),
        ("backlog", ("--params-file", "flat.yaml"), "flat.yaml"),
        ("backlog", ("-r", "image:=/foo bar"), "image:=/foo bar"),
        ("backlog", ("-r", "__ns:=1abc"), "__ns:=1abc"),
        ("backlog", ("-p", "patience"), "-p patience"),
        ("backlog", ("-p", "patience:=soon"), "parameter patience: expected a number, got 'soon'"),
        ("backlog", ("-p", "use_sim_time:=maybe"), "use_sim_time"),
        ("pose_fusion", (*FUSION, "-p", "qos_overrides./a.subscription.reliability:=mostly"), "`mostly`"),
    ],
)
def test_it_says_why(tmp_path: Path, node: str, words: tuple[str, ...], expected: str) -> None:
    for name, text in FILES.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    command = [sys.executable, "-m", f"pnp_ros.nodes.{node}_node", "--ros-args", *words]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert expected in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("[FATAL]") == 1
