"""The wheel in an environment without ROS, OpenGL and checkout: a user's first hour."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel
USER_SCRIPT = Path(__file__).with_name("user_script.py")
README = Path(__file__).parents[2] / "README.md"
DEMO = (
    "import pnp_ros.io.resources as r; print(r.resource('config/objects/demo')); print(r.resource('config/recording'))"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the user is."""
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def shipped(clean, place: Path) -> tuple[Path, Path]:
    """The demo's object and the recording, in the installed package."""
    demo, recording = map(Path, clean.run(clean.bin / "python", "-c", DEMO, cwd=place).split())
    assert demo.is_relative_to(clean.packages)
    return demo, recording


def test_what_the_wheel_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    weights = ("objects/demo/weights.safetensors", "start.safetensors")
    for name in ("py.typed", "share/msg/ObjectPoseArray.msg", *(f"share/config/{file}" for file in weights)):
        assert f"pnp_ros/{name}" in names
    assert not [name for name in names if name.startswith(("test", "launch", "docs"))]
    for part in ("License-Expression: Apache-2.0", "Classifier: Typing :: Typed", "# pnp_ros"):
        assert part in metadata
    assert max(map(len, names)) < 120


def test_it_is_the_declared_packages_alone(clean, place: Path) -> None:
    absent = ("moderngl", "rclpy", "rerun", "pytest")
    code = f"from importlib.util import find_spec; print([name for name in {absent} if find_spec(name)])"
    assert clean.run(clean.bin / "python", "-c", code, cwd=place).strip() == "[]"


def test_importing_is_free(clean, place: Path) -> None:
    code = (
        "import sys, pnp_ros; print(sorted({'torch', 'numpy', 'cv2', 'warp'} & set(sys.modules)), pnp_ros.__version__)"
    )
    assert clean.run(clean.bin / "python", "-c", code, cwd=place).startswith("[] 0.")


def test_run_on_a_video(clean, place: Path, shipped: tuple[Path, Path]) -> None:
    demo, recording = shipped
    words = ["run", recording / "images.mp4", "--object", demo, "--camera", recording / "camera_info.yaml"]
    said = clean.run(clean.bin / "pnp-ros", *words, "--max-frames", "12", "--out", "run", cwd=place)
    assert "moderngl" in said, "why there is no correlation"
    poses = json.loads((place / "run/poses.json").read_text())
    assert len(poses) == 12
    assert (place / "run/overlay.mp4").stat().st_size > 10_000


def test_demo_bag_and_evaluate(clean, place: Path, shipped: tuple[Path, Path]) -> None:
    pnp_ros = clean.bin / "pnp-ros"
    said = clean.run(pnp_ros, "demo", "--frames", "15", cwd=place)
    assert "the recording that comes with the package" in said
    report = json.loads((place / "out/demo/report.json").read_text())
    assert report["accuracy"]["recall_10_percent"] > 0.8
    assert "pnp_ros/msg/ObjectPoseArray" in clean.run(pnp_ros, "bag", "info", "out/demo/bag", cwd=place)
    clean.run(pnp_ros, "bag", "convert", "out/demo/bag", "small", "--compress", "jpeg", cwd=place)
    assert "CompressedImage" in clean.run(pnp_ros, "bag", "info", "small", cwd=place)
    words = ["evaluate", "small", "--object", shipped[0], "--max-frames", "5"]
    clean.run(pnp_ros, *words, "--truth", "tf", cwd=place)
    assert "overlap" in clean.run(pnp_ros, *words, "--out", "untrue", cwd=place), "without truth and OpenGL"


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["train", "mesh.ply", "--out", "thing"], "pnp-ros[train]"),
        (["view", "out/demo/bag", "--object", "DEMO"], "pnp-ros[view]"),
        (["bag", "record", "new"], "pnp-ros[ros]"),
        (["replay", "out/demo/bag", "--object", "DEMO"], "pnp-ros[ros]"),
    ],
)
def test_what_needs_an_extra_says_which(words, extra, clean, place: Path, shipped: tuple[Path, Path]) -> None:
    (place / "mesh.ply").write_bytes((shipped[0] / "mesh.ply").read_bytes())
    given = [shipped[0] if word == "DEMO" else word for word in words]
    (line,) = clean.run(clean.bin / "pnp-ros", *given, cwd=place, expect=1).strip().splitlines()
    assert extra in line


@pytest.mark.parametrize(
    ("checker", "words"),
    [
        ("mypy", ["--strict", "--cache-dir=/dev/null", "--python-executable"]),
        ("basedpyright", ["--level", "error", "--pythonpath"]),  # pyright, with a node of its own
    ],
)
def test_a_users_script_and_the_readmes_are_typed_against_the_wheel(
    checker: str, words: list[str], clean, tmp_path: Path
) -> None:
    texts = [
        USER_SCRIPT.read_text(),
        *re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE),
    ]
    assert len(texts) > 2
    scripts = [tmp_path / f"script_{index}.py" for index in range(len(texts))]
    for script, text in zip(scripts, texts):
        script.write_text(text)
    command = [sys.executable, "-m", checker, *words, str(clean.bin / "python"), *scripts]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
