"""The reference is written from the code: what its directives look for must be there."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_node_has_its_parameters_in_the_reference() -> None:
    pytest.importorskip("sphinx")
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/_ext/reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    for file in (ROOT / "pnp_ros/nodes").glob("*_node.py"):
        tree = ast.parse(file.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert [row for call in calls for row in reference._parameter_rows(call, tree)], file.name
