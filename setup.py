"""Builds the ROS messages into the wheel where the generators are at hand; pyproject.toml has all else.

The wheel also carries what the code reads at run time: the demo's object, and the messages' definitions for bags.

With rosidl in the build environment (``pip install --no-build-isolation .`` beside the ``ros`` extra, or in a sourced
ROS) the wheel carries messages and nodes' executables; elsewhere it is the library and the command line alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SOURCES = ("CMakeLists.txt", "package.xml", "action", "cmake", "msg", "srv", "config", "launch")
SHARED = ("config", "msg")


class BuildPython(build_py):
    """Puts what :func:`pnp_ros.io.resources.resource` finds into the package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for part in SHARED:
                shutil.copytree(part, Path(self.build_lib, "pnp_ros/share", part), dirs_exist_ok=True)


class BuildMessages(build_ext):
    """Runs cmake on the package and puts what it installs into the wheel."""

    def run(self) -> None:
        if self.editable_mode:  # the messages go straight into the environment: see the Makefile
            return
        scratch = Path(self.build_temp).resolve()
        source, build, prefix = scratch / "source", scratch / "cmake", scratch / "prefix"
        shutil.rmtree(scratch, ignore_errors=True)
        source.mkdir(parents=True)  # not the checkout: cmake refuses an environment that lies inside the source
        for part in map(Path, SOURCES):
            (shutil.copytree if part.is_dir() else shutil.copy)(part, source / part)
        options = [f"-DCMAKE_INSTALL_PREFIX={prefix}", f"-DCMAKE_PREFIX_PATH={sys.prefix}", "-DBUILD_TESTING=OFF"]
        options += [f"-DPython3_EXECUTABLE={sys.executable}", "-DPNP_ROS_MESSAGES_ONLY=ON"]
        found = os.pathsep.join(filter(None, [sys.prefix, os.environ.get("AMENT_PREFIX_PATH")]))
        environment = os.environ | {"AMENT_PREFIX_PATH": found}
        for command in (["-S", source, "-B", build, *options], ["--build", build, "--target", "install", "--parallel"]):
            subprocess.run(["cmake", *map(str, command)], check=True, env=environment)

        (package,) = prefix.glob("lib/python*/site-packages/pnp_ros")
        shutil.copytree(package, Path(self.build_lib) / "pnp_ros", dirs_exist_ok=True)
        data: dict[str, list[str]] = {}
        for file in [*prefix.glob("lib/*.so"), *prefix.glob("lib/pnp_ros/*"), *prefix.glob("share/**/*")]:
            if file.is_file():
                data.setdefault(str(file.parent.relative_to(prefix)), []).append(str(file))
        self.distribution.data_files = list(data.items())


if find_spec("rosidl_adapter") and find_spec("ament_package"):
    setup(ext_modules=[Extension("pnp_ros.msg", sources=[])], cmdclass={"build_ext": BuildMessages})
else:  # with ROS these files are in the prefix's share/pnp_ros
    setup(cmdclass={"build_py": BuildPython})
