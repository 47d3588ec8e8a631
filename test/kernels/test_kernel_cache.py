"""Warp starts, and says where it compiles to, where its folder for compiled kernels cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

START = """
import os
from pnp_ros.kernels import lm_launch
import warp as wp
if os.geteuid() == 0:
    os.seteuid(65534)  # root may write everywhere
for _ in range(2):
    lm_launch.initialise()
print(wp.config.kernel_cache_dir)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def folder(path: Path, mode: int) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


def start(**environment: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("WARP_CACHE_PATH", "XDG_CACHE_HOME")}
    variables = {**kept, **{name: str(value) for name, value in environment.items()}}
    return subprocess.run([sys.executable, "-c", START], env=variables, capture_output=True, text=True)


def test_a_read_only_home_gives_a_temporary_folder_and_one_line(place: Path) -> None:
    home, temporary = folder(place / "home", 0o555), folder(place / "tmp", 0o777)
    done = start(HOME=home, TMPDIR=temporary)
    assert done.returncode == 0, done.stderr
    used = Path(done.stdout.strip())
    assert used.is_relative_to(temporary)
    assert used.is_dir()
    assert used.parent.stat().st_mode & 0o077 == 0  # what lies there is run
    assert done.stderr.count("WARP_CACHE_PATH chooses a folder") == 1
    assert str(used) in done.stderr
    assert str(home) in done.stderr


def test_a_chosen_folder_is_taken_silently(place: Path) -> None:
    chosen = folder(place / "chosen", 0o777)
    done = start(HOME=folder(place / "home", 0o555), WARP_CACHE_PATH=chosen)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(chosen)
    assert done.stderr == ""


def test_kernels_of_a_read_only_cache_are_found(place: Path) -> None:
    import warp as wp

    cache, temporary = folder(place / "cache", 0o755), folder(place / "tmp", 0o777)
    kernel = folder(folder(cache / wp.config.version, 0o755) / "wp_compiled_before", 0o755) / "kernel.o"
    kernel.write_text("code")
    done = start(WARP_CACHE_PATH=cache, TMPDIR=temporary)
    assert done.returncode == 0, done.stderr
    used = Path(done.stdout.strip())
    assert used.is_relative_to(temporary)
    assert (used / "wp_compiled_before" / "kernel.o").read_text() == "code"
    with tempfile.TemporaryFile(dir=temporary):
        assert start(WARP_CACHE_PATH=cache, TMPDIR=temporary).stdout == done.stdout  # the next process's, too


def test_the_folder_of_another_user_is_not_taken(place: Path) -> None:
    temporary = folder(place / "tmp", 0o777)
    user = 65534 if os.geteuid() == 0 else os.geteuid()
    (temporary / f"pnp_ros-kernels-{user}").symlink_to(folder(place / "bait", 0o777))
    done = start(HOME=folder(place / "home", 0o555), TMPDIR=temporary)
    assert done.returncode == 0, done.stderr
    assert f"pnp_ros-kernels-{user}" not in done.stdout
    assert not any((place / "bait").iterdir())


def test_nowhere_to_write_is_one_line_with_the_cure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pnp_ros.kernels import kernel_cache

    def nothing() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", nothing)
    monkeypatch.setattr(kernel_cache, "_not_writable", lambda _: "read-only file system")
    with pytest.raises(kernel_cache.KernelCacheError, match=r"no folder .* read-only .* Set WARP_CACHE_PATH"):
        kernel_cache.start_warp()
