"""What all launch files ask of their arguments before they start anything; loaded by path, it needs ROS alone."""

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import yaml
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.utilities import perform_substitutions

EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "texts, as [a, b, c]",
}  # by the kind of an argument's default; any other may be any text


def refuse_wrong(file: str, description: LaunchDescription) -> OpaqueFunction:
    """An action that fails where an argument is not declared, or is of another kind than its default.

    Args:
        file: the launch file. Included by another one it leaves unknown arguments alone: they are then that one's.
        description: of the same file, all of it.

    Raises:
        RuntimeError: when the action runs; it names the argument and what is expected.
    """

    def check(context: LaunchContext) -> None:
        declared = description.get_launch_arguments()
        if any(Path(word).name == Path(file).name for word in sys.argv):
            _refuse_unknown([argument.name for argument in declared], context.argv)
        for argument in declared:
            _refuse_other_kind(argument, context)

    return OpaqueFunction(function=check)


def _refuse_unknown(known: list[str], words: Iterable[str]) -> None:
    for name in (word.partition(":=")[0] for word in words if ":=" in word):
        if name not in known:
            like = get_close_matches(name, known) or known
            raise RuntimeError(f"{name}: no such launch argument, expected {' or '.join(like)}")


def _refuse_other_kind(argument: DeclareLaunchArgument, context: LaunchContext) -> None:
    given = context.launch_configurations.get(argument.name)
    if given is None or argument.default_value is None:
        return
    kind = type(yaml.safe_load(perform_substitutions(context, argument.default_value)))
    if kind in EXPECTED and not _is_of(kind, given):
        raise RuntimeError(f"{argument.name}: expected {EXPECTED[kind]}, got {given!r}")


def _is_of(kind: type, text: str) -> bool:
    """Whether a text is one of a kind, as launch reads it."""
    if kind is bool:
        return text.strip().lower() in ("true", "false", "1", "0")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    if kind is list:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return type(value) is int or type(value) is kind
