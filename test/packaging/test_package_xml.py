"""What package.xml declares is what the sources import and the launch files start: rosdep installs nothing less."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEYS = {  # of modules that are not called as their package
    "cv2": "python3-opencv",
    "PIL": "python3-pil",
    "tf2_ros": "tf2_ros_py",
    **{name: f"python3-{name}" for name in ("matplotlib", "numpy", "scipy", "tqdm", "yaml")},
}


def declared(*kinds: str) -> set[str]:
    package = ET.parse(ROOT / "package.xml").getroot()
    return {entry.text or "" for kind in kinds for entry in package.findall(kind)}


def imported(*folders: str) -> set[str]:
    found: set[str] = set()
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"pnp_ros"}


def by_pip() -> set[str]:
    """The distributions that pyproject.toml names, as modules are written."""
    text = (ROOT / "pyproject.toml").read_text()
    names = {name.lower().replace("-", "_") for name in re.findall(r'"([A-Za-z][\w.-]*)', text)}
    return names | {"cv2", "yaml", "PIL", "warp", "collada", "rerun"}


def test_every_import_of_the_nodes_is_declared() -> None:
    modules = imported("pnp_ros/nodes", "launch")
    assert {"rclpy", "launch_ros", "tf2_ros"} <= modules
    keys = {KEYS.get(module, module) for module in modules - (by_pip() - KEYS.keys())}
    assert keys - declared("depend", "exec_depend") == set()


def test_what_rosdep_packages_is_declared() -> None:
    used = {KEYS[module] for module in imported("pnp_ros") & KEYS.keys() if KEYS[module].startswith("python3-")}
    assert used - declared("exec_depend") == set()


def test_what_the_launch_files_run_is_declared_and_no_window() -> None:
    keys = declared("depend", "exec_depend")
    assert {"ros2bag", "rosbag2_storage_mcap", "ros2launch"} <= keys
    assert not [key for key in keys if key.startswith("rviz")]


@pytest.mark.parametrize("package", ["ament_cmake_pytest"])
def test_colcon_test_runs_the_quick_tests(package: str) -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    assert re.search(
        rf"if\(BUILD_TESTING.*find_package\({package} REQUIRED\).*ament_add_pytest_test\(", text, re.DOTALL
    )
    assert {package, "python3-pytest"} <= declared("test_depend")


def test_the_requirements_file_is_what_rosdep_lacks() -> None:
    """With package.xml it makes all run-time dependencies of pyproject.toml, in the same versions."""
    text = (ROOT / "pyproject.toml").read_text()
    section = re.search(r"^dependencies = \[.*?\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert section
    wanted = set(re.findall(r'^\s*"([^"]+)"', section[1], re.MULTILINE))
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    lacking = {line for line in lines if line and not line.startswith("#")}
    assert lacking < wanted
    rosdep = {"numpy", "opencv-python-headless", "scipy", "pyyaml", "pillow", "tqdm", "matplotlib"}
    assert {re.split(r"[<>=]", each)[0] for each in wanted - lacking} == rosdep
