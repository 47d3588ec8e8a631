"""What we wrote is read back by our own reader exactly as trimesh reads it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pnp_ros.io.resources import resource
from pnp_ros.objects import mesh_import
from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.objects.mesh_files import load_mesh, save_mesh
from pnp_ros.objects.saved_mesh import read_saved

VERTICES = 0.05 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.2]], np.float32)
FACES = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32)
COLORS = np.array([[1, 2, 3], [200, 100, 0], [255, 255, 255], [0, 9, 90]], np.uint8)
UV = np.array([[0, 0], [1, 0], [0.25, 1], [0.5, 0.5]], np.float32)
TEXTURE = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)


@pytest.mark.parametrize("extra", [{}, {"vertex_colors": COLORS}, {"uv": UV, "texture": TEXTURE}])
def test_it_is_what_trimesh_reads(tmp_path: Path, extra: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, path = save_mesh(TriangleMesh(VERTICES, FACES, **extra), tmp_path / "mesh.ply")
    assert read_saved(path, path.read_bytes()) is not None
    ours = load_mesh(path)
    monkeypatch.setattr(mesh_import, "read_saved", lambda *_: None)
    theirs = load_mesh(path)
    for name in ("vertices", "faces", "uv", "texture", "vertex_colors"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=name)
            assert one.dtype == other.dtype, name


def test_every_other_file_takes_the_long_way(tmp_path: Path) -> None:
    *_, path = save_mesh(TriangleMesh(VERTICES, FACES), tmp_path / "mesh.ply")
    whole = path.read_bytes()
    outside = whole[:-4] + (4).to_bytes(4, "little")
    spoilt = [whole[:-1], whole + b"\0", outside, whole.replace(b"1.0\n", b"1.0\ncomment by hand\n")]
    spoilt += [whole.replace(b"little", b"big"), b"", b"ply\n", whole.replace(b"vertex 4", b"vertex 999999999")]
    assert [read_saved(path, content) for content in spoilt] == [None] * len(spoilt)


def test_a_package_loads_without_trimesh() -> None:
    script = (
        "import sys; from pnp_ros import load_object; load_object(sys.argv[1]); assert 'trimesh' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(resource("config/objects/demo"))], check=True)
