"""``--dump-config`` prints a command's options as YAML, ``--config FILE`` takes them back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

_NOT_SETTINGS = ("help", "config", "dump_config", "quiet", "verbose")


def _settings(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {a.dest: a for a in parser._actions if a.option_strings and a.dest not in _NOT_SETTINGS}


def dumped(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> str:
    """The options of a command, those left at their defaults too, as YAML."""
    return yaml.safe_dump({name: _plain(getattr(parsed, name)) for name in _settings(parser)}, sort_keys=False)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def preset(parser: argparse.ArgumentParser, path: Path) -> None:
    """Let the options of a file stand in for the parser's defaults; what the command line says still wins.

    Raises:
        ValueError: if the file cannot be read or is not a mapping, or an option is unknown or has a value that it does
            not take.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(f"--config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"--config {path}: expected options and values, as --dump-config prints them")
    known = _settings(parser)
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"--config {path}: {name}: no such option; there are {', '.join(known)}")
        action = known[name]
        if value is not None:
            action.default = _converted(action, value, f"--config {path}: {name}")
            action.required = False


def _converted(action: argparse.Action, value: Any, where: str) -> Any:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError(f"{where}: expected true or false, got {value!r}")
        return value
    if isinstance(action.nargs, int) or action.nargs in ("+", "*"):
        if not isinstance(value, list) and action.nargs != "+":
            raise ValueError(f"{where}: expected a list, got {value!r}")
        return [_one(action, item, where) for item in (value if isinstance(value, list) else [value])]
    return _one(action, value, where)


def _one(action: argparse.Action, value: Any, where: str) -> Any:
    try:
        found = action.type(str(value)) if callable(action.type) else value
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise ValueError(f"{where}: {error}") from error
    if action.choices is not None and found not in action.choices:
        raise ValueError(f"{where}: expected one of {', '.join(map(str, action.choices))}, got {value!r}")
    return found
