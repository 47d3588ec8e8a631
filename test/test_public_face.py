"""The names that users import, the README's snippets as type checkers see them, and the examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pnp_ros

ROOT = Path(__file__).parents[1]
USER_SCRIPT = Path(__file__).parent / "packaging" / "user_script.py"
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "pnp_ros").rglob("*.py")
    if ">>> " in path.read_text()
)


def test_every_name_is_there_and_is_the_one_of_its_module() -> None:
    assert sorted(pnp_ros.__all__) == sorted(pnp_ros._PLACES) == list(pnp_ros.__all__)
    for name in pnp_ros.__all__:
        module, _, there = pnp_ros._PLACES[name].partition(":")
        assert getattr(pnp_ros, name) is getattr(importlib.import_module(f"pnp_ros.{module}"), there or name)
    assert set(pnp_ros.__all__) <= set(dir(pnp_ros))
    with pytest.raises(AttributeError, match="no attribute 'Cameras'"):
        pnp_ros.Cameras  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    block = (ROOT / "pnp_ros/__init__.py").read_text().split("if TYPE_CHECKING:")[1].split("\n\n")[0]
    names: list[str] = []
    for line in re.findall(r"import (.+)", block):
        names += [part.split(" as ")[-1].strip() for part in line.split(",")]
    assert sorted(names) == sorted(pnp_ros.__all__)


def test_importing_is_free() -> None:
    code = "import sys, pnp_ros; print(sorted({'torch', 'numpy', 'cv2', 'warp', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0


def test_the_package_itself_shows_an_example() -> None:
    assert "pnp_ros" in WITH_EXAMPLES


def snippets() -> list[str]:
    readme = (ROOT / "README.md").read_text()
    return re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)


def test_snippets_and_a_users_script_are_typed(tmp_path: Path) -> None:
    """``mypy --strict`` finds no error in code that uses the public face alone."""
    pytest.importorskip("mypy")
    files = [USER_SCRIPT]
    for index, text in enumerate(snippets()):
        files.append(tmp_path / f"snippet_{index}.py")
        files[-1].write_text(text)
    assert len(files) > 1
    words = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", *map(str, files)]
    done = subprocess.run(
        [*words, "--cache-dir=/dev/null", "--ignore-missing-imports", "--disable-error-code=unused-ignore"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
