"""pyproject.toml, package.xml, the package itself and the changelog name one version."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import yaml

import pnp_ros

ROOT = Path(__file__).parents[2]


def version_of_pyproject() -> str:
    """No tomllib before Python 3.11."""
    (found,) = re.findall(r'^version = "([^"]+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return found


def test_one_version_everywhere() -> None:
    xml = ElementTree.parse(ROOT / "package.xml").getroot().findtext("version")
    releases = re.findall(
        r"^(\d+\.\d+\.\d+) \(\d{4}-\d{2}-\d{2}\)$", (ROOT / "CHANGELOG.rst").read_text(), re.MULTILINE
    )
    assert version_of_pyproject() == xml == pnp_ros.__version__ == releases[0]


def test_the_package_file_names_what_pip_names() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    project = (ROOT / "pyproject.toml").read_text()
    assert f'license = "{package.findtext("license")}"' in project
    description = (package.findtext("description") or "").rstrip(".")
    assert f'description = "{description}"' in project


def test_addresses_are_one_everywhere() -> None:
    """There are none before the project has a public address; then all of them are told."""
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    section = re.search(r"^\[project\.urls\]\n(.*?)(?:\n\[|\Z)", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    urls = set(re.findall(r'= "(.+)"$', section[1], re.MULTILINE)) if section else set()
    assert {url.text for url in package.iter("url")} <= urls
    maintainers = [each.get("email") or "" for each in package.iter("maintainer")]
    is_unnamed = "clone URL" in (ROOT / "docs/install.md").read_text()
    assert bool(urls) == bool(list(package.iter("url"))) == (not is_unnamed)
    assert bool(urls) != any(address.endswith(".invalid") for address in maintainers)


def test_hooks_for_commits_are_readable() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    names = {hook["id"] for repository in hooks["repos"] for hook in repository["hooks"]}
    assert {"ruff-check", "ruff-format", "codespell"} <= names


def test_cleaning_keeps_what_was_learnt() -> None:
    """`make clean` removes what `make` can make again; trained objects, recordings and reports stay."""
    recipe = (ROOT / "Makefile").read_text().split("\nclean:")[1].split("\n\n")[0]
    assert not {"out", "objects"} & set(recipe.split())
