"""Every command line, option and import in the README and the documentation is one that exists."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from pnp_ros.cli.main import COMMANDS, command_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOREIGN = {"--system-site-packages", "--from-paths", "--ignore-src", "--packages-select", "--show-args"}  # of others


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


def inline() -> list[tuple[str, str]]:
    """Page and text of what stands in backquotes within a sentence."""
    found = []
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        found += [(page.name, " ".join(text.split())) for text in re.findall(r"`([^`]+)`", prose)]
    return found


def known_options() -> set[str]:
    """Of all commands, their actions, and the benchmarks."""

    def of(parser: argparse.ArgumentParser) -> set[str]:
        options = {option for action in parser._actions for option in action.option_strings}
        nested = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        return options.union(*(of(leaf) for choices in nested for leaf in choices.values()))

    benchmarks = "".join(file.read_text() for file in (ROOT / "test/benchmark").glob("*.py"))
    return set(re.findall(r'"(--[a-z-]+)"', benchmarks)).union(*(of(command_parser([name])) for name in COMMANDS))


def test_an_option_named_in_a_sentence_exists() -> None:
    known = known_options()
    for page, text in inline():
        if re.match(r"(pnp-ros |--[a-z])", text):
            missing = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", text)) - known - FOREIGN
            assert not missing, f"{page}: {text}"
        if text.startswith("pnp-ros "):
            assert text.split()[1] in COMMANDS, f"{page}: {text}"


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, text in [*inline(), *((page, line) for page, block in blocks("sh") for line in block.splitlines())]:
        if found := re.match(r"(?:[A-Z]+=\S+ )*make((?: [a-z][a-z-]*)+)", text):
            assert set(found[1].split()) <= targets, f"{page}: {text}"


def benchmarks() -> set[tuple[str, str, bool]]:
    """Script, options, and whether the line lets it find the tests' generators."""
    pattern = r"(PYTHONPATH=test )?(?:\S+/)?python (test/benchmark/\w+\.py)(.*)"
    return {(m[2], m[3], bool(m[1])) for _, text in inline() if (m := re.fullmatch(pattern, text))}


@pytest.mark.parametrize(("script", "words", "with_tests"), sorted(benchmarks()))
def test_benchmarks_take_what_the_pages_give_them(script: str, words: str, with_tests: bool) -> None:
    source = (ROOT / script).read_text()
    for option in re.findall(r"--[a-z-]+", words):
        assert f'"{option}"' in source
    assert with_tests or not re.search(r"^from synthetic", source, re.MULTILINE), "it needs PYTHONPATH=test"


def test_benchmarks_say_how_they_are_run() -> None:
    for script in sorted((ROOT / "test/benchmark").glob("bench_*.py")):
        source = script.read_text()
        if re.search(r"^from synthetic", source, re.MULTILINE):
            said = re.findall(rf"(\S+ )?python test/benchmark/{script.name}", source)
            assert set(said) <= {"PYTHONPATH=test ", "``PYTHONPATH=test "}, script.name


def test_launch_arguments_are_declared() -> None:
    lines = [(page, line) for page, text in blocks("sh") for line in text.replace("\\\n", " ").splitlines()] + inline()
    for page, line in lines:
        if found := re.match(r"ros2 launch pnp_ros (\w+\.launch\.py)(.*)", line):
            declared = set(re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', (ROOT / "launch" / found[1]).read_text()))
            assert set(re.findall(r"(\w+):=", found[2])) <= declared, f"{page}: {line}"


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
