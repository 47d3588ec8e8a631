"""The reference is written from the code: what its directives look for must be there."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from pnp_ros.types import SolveStatus

ROOT = Path(__file__).parents[2]


def reference() -> ModuleType:
    """The directives."""
    pytest.importorskip("sphinx")
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/_ext/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_members_of_an_enum_are_told_with_their_comments() -> None:
    rows = {row[0].strip("`"): row[1:] for row in reference().member_rows(SolveStatus)}
    assert list(rows) == [status.name for status in SolveStatus]
    assert rows["DEGENERATE"][1].startswith("too few or ill-placed points")
    assert all(said for name, (_, said) in rows.items() if name != "CONVERGED")


def test_every_node_has_its_parameters_in_the_reference() -> None:
    directives = reference()
    for file in (ROOT / "pnp_ros/nodes").glob("*_node.py"):
        tree = ast.parse(file.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert [row for call in calls for row in directives._parameter_rows(call, tree)], file.name
