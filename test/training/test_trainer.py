import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pnp_ros.cli.train import NOT_USABLE
from pnp_ros.io.images import read_image
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import save_mesh
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.estimator import PoseEstimator

pytestmark = pytest.mark.slow  # renders and trains for about half a minute each


@pytest.fixture
def mesh_path(tmp_path: Path) -> Path:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.2]], np.float32)
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32)
    save_mesh(TriangleMesh(0.05 * corners, faces, vertex_colors=colors), tmp_path / "mesh.ply")
    return tmp_path / "mesh.ply"


def _command(mesh: Path, out: Path, *options: str) -> list[str]:
    words = ["train", str(mesh), "--out", str(out), "--width", "8", "--keypoints", "6", *options]
    return [sys.executable, "-m", "pnp_ros.cli.main", *words]


def _check_package(out: Path) -> None:
    package = load_object_package(out)
    assert package.weights_path is not None
    assert package.calibration["scale"] > 0
    PoseEstimator(package)  # the weights fit
    figures = json.loads((out / "validation.json").read_text())
    assert figures["frames"]["total"] >= 20
    assert (out / "validation.jpg").stat().st_size > 10_000
    assert read_image(out / "appearances.jpg").std() > 10.0


def _check_verdict(finished: subprocess.CompletedProcess[str]) -> None:
    """The last line and the status say the same, whatever so short a training came to."""
    assert finished.returncode in (0, NOT_USABLE), finished.stderr
    last = finished.stdout.strip().splitlines()[-1]
    assert last.startswith("usable" if finished.returncode == 0 else "not usable yet"), last


def test_interrupted_training_goes_on_and_leaves_a_package(mesh_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "thing"
    command = _command(mesh_path, out, "--minutes", "0.4")
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, start_new_session=True, stderr=file)
    deadline = time.monotonic() + 200.0
    while not re.search(r"keypoints[^\r]* images", log.read_text()):  # the second network has made its first steps
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.wait(60.0)
    assert process.returncode == 130
    assert (out / "training" / "keypoints.safetensors").is_file()
    assert not (out / "object.yaml").exists(), "a package is there when it is calibrated"
    longer = _command(mesh_path, out, "--minutes", "0.5")
    finished = subprocess.run(longer, capture_output=True, text=True, timeout=900)
    _check_verdict(finished)
    assert "going on from the checkpoints" in finished.stderr
    assert "training in " in finished.stderr, "which precision"
    _check_package(out)
    other = subprocess.run([*longer, "--seed", "5"], capture_output=True, text=True, timeout=300)
    assert other.returncode == 1
    assert "seed was 0, now 5" in other.stderr


def test_two_processes_train_together(mesh_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "thing"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = _command(mesh_path, out, "--minutes", "0.3", "--devices", "2")
    finished = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    _check_verdict(finished)
    _check_package(out)
