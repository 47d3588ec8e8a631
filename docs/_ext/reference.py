"""Directives that write the reference from the code itself, in reStructuredText: for pages that are written in it.

``pnp-modules PACKAGE``: every module of a package, by its docstrings. ``pnp-parameters``: every node's parameters, by
their descriptions, read from the source so that no ROS is needed. ``pnp-commands``: the command line's help.
``pnp-messages``: the message files.
"""

from __future__ import annotations

import argparse
import ast
import enum
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

ROOT = Path(__file__).parents[2]


class _Written(SphinxDirective):
    """A directive that is a piece of reStructuredText: what its ``lines`` gives."""

    lines: Callable[[], list[str]]

    def run(self) -> list[nodes.Node]:
        """Parse it in place."""
        self.env.note_reread()  # what it is written from is no file of the documentation
        section = nodes.section()
        section.document = self.state.document
        nested_parse_with_titles(self.state, StringList(self.lines(), source="reference"), section)
        return section.children


class Modules(_Written):
    """One heading and all public members a module."""

    required_arguments = 1

    def lines(self) -> list[str]:
        package = importlib.import_module(self.arguments[0])
        found = [package.__name__]
        if hasattr(package, "__path__"):
            found += [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
        lines: list[str] = []
        for name in found:
            title = f"``{name}``"
            lines += [
                title,
                "-" * len(title),
                "",
                f".. automodule:: {name}",
                "   :members:",
                "   :show-inheritance:",
                "",
            ]
            for each in vars(importlib.import_module(name)).values():
                if isinstance(each, type) and issubclass(each, enum.Enum) and each.__module__ == name:
                    lines += _table((f"``{each.__name__}``", "Value", "What it says"), member_rows(each))
        return lines


def member_rows(kind: type[enum.Enum]) -> list[tuple[str, ...]]:
    """Name, value and comment of each member of an enum."""
    source = inspect.getsource(kind)
    rows = []
    for member in kind:
        told = re.search(rf"^    {member.name} = (?:\(\s*)?[^#\n]*(?:#\s*(.+))?", source, re.MULTILINE)
        rows.append((f"``{member.name}``", f"``{member.value!r}``", (told[1] or "") if told else ""))
    return rows


class Parameters(_Written):
    """A table a node: name, type, default, what it is."""

    def lines(self) -> list[str]:
        lines: list[str] = []
        for file in sorted((ROOT / "pnp_ros/nodes").glob("*_node.py")):
            tree = ast.parse(file.read_text())
            title = file.stem
            lines += [title, "-" * len(title), "", *(ast.get_docstring(tree) or "").splitlines(), ""]
            calls = [call for call in ast.walk(tree) if isinstance(call, ast.Call)]
            rows = [row for call in calls for row in _parameter_rows(call, tree)]
            lines += _table(("Parameter", "Default", "What it is"), rows)
        return lines


def _parameter_rows(call: ast.Call, module: ast.Module) -> list[tuple[str, ...]]:
    """The parameters that one call of ``declare`` or ``declare_config`` in a module declares."""
    name = ast.unparse(call.func).rpartition(".")[2]
    if name == "declare" and isinstance(call.args[0], ast.Constant):
        text = ast.literal_eval(call.args[2])
        limits = {k.arg: ast.unparse(k.value) for k in call.keywords}
        if "low" in limits:
            text += f" ({limits['low']} to {limits['high']})"
        if "choices" in limits:
            choices = limits["choices"]
            words = _imported(choices, module) if choices.isidentifier() else ast.literal_eval(choices)
            text += f" (one of {', '.join(words)})"
        return [(f"``{call.args[0].value}``", f"``{ast.unparse(call.args[1])}``", text)]
    if name == "declare_config" and isinstance(call.args[0], ast.Constant):
        return _config_rows(call.args[0].value, _imported(ast.unparse(call.args[1]), module))
    return []


def _imported(name: str, module: ast.Module) -> Any:
    """What a module imports under a name; the module itself may need ROS."""
    sources = [node for node in ast.walk(module) if isinstance(node, ast.ImportFrom)]
    (source,) = [node.module for node in sources if name in [alias.name for alias in node.names]]
    return getattr(importlib.import_module(str(source)), name)


def _config_rows(prefix: str, config: Any) -> list[tuple[str, ...]]:
    section = (inspect.getdoc(config) or "").partition("Args:\n")[2].partition("\n\n")[0]
    texts: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", section):
        names, _, text = entry.strip().partition(": ")
        texts |= {name: " ".join(text.split()) for name in names.split(", ")}
    fields: dict[str, Any] = config.__dataclass_fields__
    return [(f"``{prefix}.{name}``", f"``{field.default!r}``", texts.get(name, "")) for name, field in fields.items()]


class Commands(_Written):
    """Usage and options of every command."""

    def lines(self) -> list[str]:
        from pnp_ros.cli.main import COMMANDS

        lines: list[str] = []
        for name, summary in COMMANDS.items():
            title = f"pnp-ros {name}"
            lines += [title, "-" * len(title), "", f"{summary[0].upper()}{summary[1:]}.", ""]
            parser = argparse.ArgumentParser(prog=title, formatter_class=_Wide)
            importlib.import_module(f"pnp_ros.cli.{name.replace('-', '_')}").add_arguments(parser)
            parsers = [parser]
            for action in parser._actions:
                if isinstance(action, argparse._SubParsersAction):
                    parsers = list(action.choices.values())
            for each in parsers:
                each.formatter_class = _Wide
                lines += [".. code-block:: text", "", *(f"   {line}" for line in each.format_help().splitlines()), ""]
        return lines


class _Wide(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=92)


class Messages(_Written):
    """Each message file as it is: its comments are its documentation."""

    def lines(self) -> list[str]:
        lines: list[str] = []
        for file in sorted((ROOT / "msg").glob("*.msg")):
            lines += [file.stem, "-" * len(file.stem), "", ".. code-block:: text", ""]
            lines += [f"   {line}" for line in file.read_text().splitlines()] + [""]
        return lines


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 25 15 60", ""]
    for row in [head, *rows]:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return [*lines, ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    directives = {"modules": Modules, "parameters": Parameters, "commands": Commands, "messages": Messages}
    for name, directive in directives.items():
        app.add_directive(f"pnp-{name}", directive)
    return {"parallel_read_safe": True}
