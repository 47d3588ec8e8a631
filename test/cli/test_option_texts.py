"""Options belong to the commands: what is below them names its parameters, whoever calls it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pnp_ros

PACKAGE = Path(pnp_ros.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z]")


def test_no_text_below_the_commands_names_an_option() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in ("cli", "msg")]
    assert len(files) > 150
    named = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.value!r}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and OPTION.search(node.value)
    ]
    assert not named
