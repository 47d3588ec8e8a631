"""Every command line and every import in the README and the documentation is one that exists."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from pnp_ros.cli.main import COMMANDS, command_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """Page and text of each code block of a language."""
    found = []
    for page in PAGES:
        for text in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            found.append((page.name, text))
    return found


def command_lines() -> list[tuple[str, str]]:
    lines = []
    for page, text in blocks("sh"):
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("pnp-ros "):
                plain = re.sub(r"\[[^]]*\]| > \S+", "", line)  # what may be left out, and where the output goes
                lines.append((page, " ".join(shlex.split(plain, comments=True)[1:])))
    return sorted(set(lines))


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_a_documented_command_is_understood(page: str, line: str) -> None:
    words = line.split()
    assert words[0] in COMMANDS
    if "--config" not in words:  # that file is not there
        command_parser(words).parse_args(words)


def test_the_pages_show_commands() -> None:
    shown = {line.split()[0] for _, line in command_lines()}
    assert shown >= {"train", "run", "evaluate", "replay", "bag", "view", "calibrate", "reconstruct"}


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_documented_python_imports_what_exists(page: str, text: str) -> None:
    compile(text, page, "exec")
    for line in text.splitlines():
        if match := re.fullmatch(r"from (pnp_ros[\w.]*) import ([\w, ]+)", line.partition("  #")[0].strip()):
            module = importlib.import_module(match[1])
            for name in match[2].split(","):
                assert hasattr(module, name.strip()), line


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            if not target.endswith("solvers.png"):  # a plot that `make bench-solvers` draws
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_generated_pages_are_written_in_what_the_directives_write() -> None:
    """They write reStructuredText, which a Markdown page would show as it stands."""
    assert not [page.name for page in PAGES if "{pnp-" in page.read_text()]
    assert len([page for page in (ROOT / "docs/reference").glob("*.rst") if ".. pnp-" in page.read_text()]) == 4
