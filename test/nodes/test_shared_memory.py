import fcntl
import os
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from pnp_ros.nodes.shared_memory import remove_dead_segments


def _segment(folder: Path, name: str, age_s: float) -> tuple[Path, Path]:
    files = folder / name, folder / f"{name}_el"
    for file in files:
        file.write_bytes(b"x")
        os.utime(file, (time.time() - age_s,) * 2)
    return files


def test_only_what_a_dead_owner_left_goes(tmp_path: Path) -> None:
    dead = _segment(tmp_path, "fastrtps_0123456789abcdef", 100.0)
    alone = tmp_path / "fastdds_00000000deadbeef_el"  # its segment went before
    alone.touch()
    os.utime(alone, (0, 0))
    living = _segment(tmp_path, "fastrtps_1111111111111111", 100.0)
    starting = _segment(tmp_path, "fastrtps_2222222222222222", 0.0)
    others = _segment(tmp_path, "somebody_3333333333333333", 100.0)
    port = _segment(tmp_path, "fastrtps_port7410", 100.0)
    with living[1].open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert remove_dead_segments(tmp_path) == 2
    assert not [file for file in (*dead, alone) if file.exists()]
    assert all(file.exists() for file in (*living, *starting, *others, *port))
    assert remove_dead_segments(tmp_path / "nothing") == 0
