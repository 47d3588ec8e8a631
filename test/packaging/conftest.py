"""An environment that holds the wheel and what it declares, and nothing else."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SOURCES = ("pnp_ros", "config", "msg", "pyproject.toml", "setup.py", "setup.cfg", "README.md", "LICENSE")


class Environment:
    """A virtual environment with some of this one's packages, linked: no network, no minutes.

    Args:
        folder: of the new environment.
    """

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.bin = folder / "bin"
        self.packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
        self._held: set[str] = set()

    def link(self, requirement: Requirement) -> None:
        """Put a distribution of the running environment there, and what it requires."""
        name = requirement.name.lower().replace("_", "-")
        if name in self._held or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            return
        self._held.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            pytest.fail(f"{name} is declared but not installed here: make")
        assert requirement.specifier.contains(found.version, prereleases=True), (
            f"{requirement}: {found.version} is here"
        )
        for top in sorted({file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}):
            source, target = Path(str(found.locate_file(top))), self.packages / top
            if source.exists() and not target.exists():
                target.symlink_to(source)
        for text in found.requires or ():
            self.link(Requirement(text))

    def run(self, *words: str | Path, cwd: Path, expect: int = 0) -> str:
        """What a command says; it sees no checkout, no ROS and no other packages."""
        environment = {
            name: value for name, value in os.environ.items() if name in ("HOME", "TMPDIR", "WARP_CACHE_PATH")
        }
        environment |= {"PATH": f"{self.bin}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == expect, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout, as pip does it where there is no ROS."""
    folder = tmp_path_factory.mktemp("wheel")
    builder = Environment(folder / "builder")
    builder.link(Requirement("setuptools"))
    source = folder / "source"
    source.mkdir()
    for part in SOURCES:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source / part)
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    builder.run(builder.bin / "python", "-c", code, cwd=source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel without extras: no ROS, no OpenGL."""
    made = Environment(tmp_path_factory.mktemp("clean") / "env")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    for text in metadata.get_all("Requires-Dist", []):
        made.link(Requirement(text))
    install = [sys.executable, "-m", "pip", "--python", str(made.bin / "python"), "install", "-q", "--ignore-installed"]
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    return made
