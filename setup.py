"""Builds the ROS messages into the wheel where the generators are at hand; pyproject.toml has all else.

With rosidl in the build environment (``pip install --no-build-isolation .`` beside the ``ros`` extra, or in a sourced
ROS) the wheel carries messages and nodes' executables; elsewhere it is the library and the command line alone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class BuildMessages(build_ext):
    """Runs cmake on the package and puts what it installs into the wheel."""

    def run(self) -> None:
        if self.editable_mode:  # the messages go straight into the environment: see the Makefile
            return
        prefix = Path(self.build_temp).resolve() / "prefix"
        build = Path(self.build_temp).resolve() / "cmake"
        options = [f"-DCMAKE_INSTALL_PREFIX={prefix}", f"-DCMAKE_PREFIX_PATH={sys.prefix}", "-DBUILD_TESTING=OFF"]
        options += [f"-DPython3_EXECUTABLE={sys.executable}", "-DPNP_ROS_MESSAGES_ONLY=ON"]
        subprocess.run(["cmake", "-S", str(Path(__file__).parent), "-B", str(build), *options], check=True)
        subprocess.run(["cmake", "--build", str(build), "--target", "install", "--parallel"], check=True)

        (package,) = prefix.glob("lib/python*/site-packages/pnp_ros")
        shutil.copytree(package, Path(self.build_lib) / "pnp_ros", dirs_exist_ok=True)
        data: dict[str, list[str]] = {}
        for file in [*prefix.glob("lib/*.so"), *prefix.glob("lib/pnp_ros/*"), *prefix.glob("share/**/*")]:
            if file.is_file():
                data.setdefault(str(file.parent.relative_to(prefix)), []).append(str(file))
        self.distribution.data_files = list(data.items())


if find_spec("rosidl_adapter") and find_spec("ament_package"):
    setup(ext_modules=[Extension("pnp_ros.msg", sources=[])], cmdclass={"build_ext": BuildMessages})
else:
    setup()
