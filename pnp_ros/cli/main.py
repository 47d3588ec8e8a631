"""``pnp-ros COMMAND ...``; also ``python -m pnp_ros.cli.main``."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from pnp_ros import __version__
from pnp_ros.cli.requirements import check_device, load, use_threads
from pnp_ros.cli.settings_file import dumped, preset

# command: what it does; its module is pnp_ros.cli.<command>, with _ for -, imported only when it is called
COMMANDS = {
    "demo": "run a simulated camera and the estimator as ROS 2 nodes, and measure",
    "onboard": "make an object package of a mesh, in seconds and without training",
    "train": "train the networks of an object, from its mesh or its package",
    "run": "estimate poses in a video, a folder of images or an image",
    "evaluate": "measure accuracy and consistency on a bag, a BOP scene, a video or images",
    "doctor": "say why an object is not found or its pose is off, in words and images",
    "replay": "play a bag through the nodes: what became of each image, and how old the poses were",
    "adapt": "adapt an object's networks to recorded images of the robot's own camera",
    "bag": "record, play, inspect, convert bags",
    "view": "look at a bag's images, poses and covariances in rerun",
    "calibrate": "calibrate a camera from images of a chessboard",
    "reconstruct": "structure and motion from tracked points: keypoints of an object without a mesh",
    "compile": "compile the estimator's kernels now, for this machine, not at the first image",
    "train-pnpnet": "train PnP-Net, the network that starts a robust solve, on synthetic correspondences",
}


_WRITTEN = {  # names of files that commands leave in --out
    *(f"poses.{kind}" for kind in ("csv", "json", "tum")),
    *("report.json", "report.html", "overlay.mp4", "overlay.png", "contact_sheet.png", "doctor.jpg", "doctor.json"),
}
_OUT_IS_A_FOLDER = ("demo", "train", "run", "evaluate", "doctor", "replay", "adapt", "onboard", "reconstruct")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 if all went well, 1 for wrong input (said on stderr in one line), 130 if interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if {"-q", "--quiet"} & set(words):
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
    chosen, parsed = _command(words), None
    try:
        parser = command_parser(words)
        if not words:
            parser.print_help(sys.stderr)
            return 2
        parsed = parser.parse_args(words)
        if parsed.dump_config:
            print(dumped(parsed.parser, parsed), end="")
            return 0
        level = logging.DEBUG if parsed.verbose else logging.WARNING if parsed.quiet else logging.INFO
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        _check(parsed)
        return int(parsed.run(parsed))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if "--verbose" in words or "-v" in words:
            logging.exception("where it happened")
        print(f"pnp-ros {chosen}: {_with_options(str(error), parsed)}", file=sys.stderr)
        return 1


def command_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command line; only the module of the command that it names is loaded.

    Raises:
        ValueError: if a package that the command needs is missing, or its ``--config`` is wrong.
    """
    parser = argparse.ArgumentParser(prog="pnp-ros", description="6-DoF object poses with covariance from one camera.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == _command(words):
            module = load(f"pnp_ros.cli.{name.replace('-', '_')}")
            module.add_arguments(command)
            _add_common(command)
            command.set_defaults(run=module.run)
            if file := _config_of(words):
                preset(_leaf(command, words), file)
    return parser


def _command(words: Sequence[str]) -> str | None:
    return next((word for word in words if word in COMMANDS), None)


def _add_common(command: argparse.ArgumentParser) -> None:
    """What every command understands; one with actions, as bag has, leaves it to them."""
    nested = [action.choices for action in command._actions if isinstance(action, argparse._SubParsersAction)]
    for leaf in nested[0].values() if nested else (command,):
        common = leaf.add_argument_group("common")
        common.add_argument("-q", "--quiet", action="store_true", help="no progress bars, warnings and results alone")
        common.add_argument("-v", "--verbose", action="store_true", help="debug messages, and where an error arose")
        common.add_argument("--config", type=Path, help="YAML of options, as --dump-config prints them")
        common.add_argument("--dump-config", action="store_true", help="print all options as YAML and end")
        leaf.set_defaults(parser=leaf)


def _leaf(command: argparse.ArgumentParser, words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the action, or of the command that has none."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            return next((action.choices[word] for word in words if word in action.choices), command)
    return command


def _config_of(words: Sequence[str]) -> Path | None:
    """The file of options: it must be known before the other words can be judged."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    found: Path | None = finder.parse_known_args(words)[0].config
    return found


def _with_options(message: str, parsed: argparse.Namespace | None) -> str:
    """Rooms below name their parameters, ``start: ...`` or ``... (accept_missing)``: here these are options."""
    if parsed is None:
        return message
    known = {action.dest for action in parsed.parser._actions if action.option_strings}

    def option(found: re.Match[str]) -> str:
        before, name, after = found.groups()
        return f"{before}--{name.replace('_', '-')}{after}" if name in known else found[0]

    return re.sub(r"(\A|\()([a-z_]+)(: |\)\Z)", option, message)


def _check(parsed: argparse.Namespace) -> None:
    """What several commands ask for alike."""
    if isinstance(getattr(parsed, "device", None), str):
        check_device(parsed.device)
    if isinstance(getattr(parsed, "threads", None), int):
        use_threads(parsed.threads)
    if (instances := getattr(parsed, "instances", 1)) < 1:
        raise ValueError(f"--instances: expected at least 1, got {instances}")
    objects = getattr(parsed, "object", None)
    if isinstance(objects, list) and len(objects) > 1 and getattr(parsed, "versions", None):
        raise ValueError(f"--versions: expected one --object, got {len(objects)}")
    out, is_folder = getattr(parsed, "out", None), parsed.command in _OUT_IS_A_FOLDER
    if isinstance(out, Path) and not getattr(parsed, "compare", None):
        _check_out(out, is_folder)
        for file in _named_as_written(parsed) if is_folder else ():
            if file.is_file() and file.resolve().parent == out.resolve():
                raise ValueError(f"--out: {file} is read and would be overwritten; choose another folder")


def _check_out(out: Path, is_folder: bool) -> None:
    """Whether what takes minutes or hours can be written in the end."""
    there = next(place for place in (out, *out.parents) if place.exists())
    if there == out and there.is_dir() and not is_folder:
        raise ValueError(f"--out {out}: is a folder, expected a file")
    if not there.is_dir() and (is_folder or there != out):
        raise ValueError(f"--out {out}: {'' if there == out else f'{there} '}is a file, expected a folder")
    if not os.access(there, os.W_OK):
        raise ValueError(f"--out {out}: no right to write into {there}")


def _named_as_written(parsed: argparse.Namespace) -> list[Path]:
    """What a command line gives to be read and is named as a file that commands leave."""
    given = [value for name, value in vars(parsed).items() if name != "compare"]  # which writes nothing
    values = [value for each in given for value in (each if isinstance(each, list) else [each])]
    named = [Path(str(value).removeprefix("file:")) for value in values if isinstance(value, str | Path)]
    return [path for path in named if path.name in _WRITTEN]


if __name__ == "__main__":
    sys.exit(main())
