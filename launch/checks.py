"""What both launch files ask of the command line before they start anything; loaded by path, it needs ROS alone."""

import sys
from difflib import get_close_matches
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction


def refuse_unknown(file: str, description: LaunchDescription) -> OpaqueFunction:
    """An action that fails where ``ros2 launch`` was given arguments which its launch file does not declare.

    Args:
        file: the launch file. Included by another one it says nothing: the arguments are then that one's.
        description: of the same file, all of it.

    Raises:
        RuntimeError: when the action runs; it names the argument and those like it.
    """

    def check(context: LaunchContext) -> None:
        if not any(Path(word).name == Path(file).name for word in sys.argv):
            return
        known = [argument.name for argument in description.get_launch_arguments()]
        for name in (word.partition(":=")[0] for word in context.argv if ":=" in word):
            if name not in known:
                like = get_close_matches(name, known) or known
                raise RuntimeError(f"{name}: no such launch argument, expected {' or '.join(like)}")

    return OpaqueFunction(function=check)
