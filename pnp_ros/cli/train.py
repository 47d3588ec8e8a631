"""``pnp-ros train MESH --out objects/NAME``, or several meshes into one folder: ``train A B C --out objects/set``."""

from __future__ import annotations

import argparse
import logging
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from tqdm import tqdm

from pnp_ros.cli.onboard import check_folder
from pnp_ros.cli.real_images import keep_backgrounds, report
from pnp_ros.cli.requirements import need_renderer
from pnp_ros.evaluation.frames import open_source
from pnp_ros.evaluation.report import table
from pnp_ros.io.camera_info import read_camera_info
from pnp_ros.networks.edges import SEES, Sees
from pnp_ros.objects.mesh_files import file_and_link, load_mesh
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.objects.symmetry import Symmetry
from pnp_ros.rendering.materials import ANY, likely_colours
from pnp_ros.training.config import SHIPPED, Network, TrainingConfig, crops_a_step, has_start
from pnp_ros.training.distributed import launch
from pnp_ros.training.likeness import symmetries_to_declare
from pnp_ros.training.optimisation import Progress
from pnp_ros.training.pose_losses import LOSSES
from pnp_ros.training.symmetries import declared_symmetry
from pnp_ros.training.trainer import train_object
from pnp_ros.training.validation import Verdict

_CAMERA_TOLERANCE = 0.15  # a given camera's focal length is varied by this much, so that another one works too


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    default = TrainingConfig()
    parser.add_argument(
        "mesh",
        type=Path,
        nargs="+",
        help="OBJ, PLY, STL, GLB, DAE, 3MF, STEP, a link of a robot: robot.urdf#LINK, or an object package; or several",
    )
    parser.add_argument(
        "--accept-missing", action="store_true", help="train without the colours of textures that are not found"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the object package; its name names the object (default: the package that is given); of several "
        "meshes, the folder of their packages, which are named as the meshes are",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=default.minutes,
        help="wall-clock budget of each object; a larger one goes on with what was trained (default %(default)s)",
    )
    parser.add_argument(
        "--units", choices=("auto", "m", "cm", "mm", "in"), default="auto", help="of the mesh (default: as it says)"
    )
    parser.add_argument("--keypoints", type=int, default=default.num_keypoints, help="default %(default)s")
    parser.add_argument(
        "--symmetries",
        help="models_info.json:ID as in BOP, or turns about axes of the mesh: z (any), z4 (quarters), z,x2 (cylinder)",
    )
    parser.add_argument(
        "--views", choices=("all", "upper"), default="all", help="orientations that occur (default all)"
    )
    parser.add_argument("--max-roll", type=float, default=180.0, help="camera's turn in degrees (default 180)")
    parser.add_argument("--backgrounds", type=Path, help="folder of images to render in front of")
    parser.add_argument(
        "--real",
        type=Path,
        help="unlabelled images of the place (folder, video or bag): backgrounds, and a report at the end",
    )
    parser.add_argument(
        "--colour",
        nargs="+",
        metavar="COLOUR",
        help="of the real object: mesh (as it says), any, or #rrggbb, several allowed "
        "(default: mesh where it has a texture or several colours, else any)",
    )
    parser.add_argument(
        "--sees",
        choices=SEES,
        help="what the networks get of an image: its colours or its edges (default: edges where any colour is trained)",
    )
    parser.add_argument("--camera", type=Path, help="camera_info YAML: train for about its focal length")
    parser.add_argument("--rectified", action="store_true", help="P of the CameraInfo holds, not K and D")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--devices", type=int, default=1, help="processes (GPUs) that train together (default 1)")
    parser.add_argument("--workers", type=int, default=0, help="processes that render (default: by the cores)")
    parser.add_argument("--width", type=int, default=default.width, help="network width (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--start-from",
        metavar="PACKAGE",
        help="object package whose networks to start with: the one trained last, or that of another object; none; or "
        "shipped: layers that come with pnp-ros (default for the usual width; by colours, if all views occur)",
    )
    parser.add_argument(
        "--network",
        choices=get_args(Network),
        default=default.network,
        help="what is found in the image: keypoints, or densely an object point for each cell (default %(default)s)",
    )
    parser.add_argument(
        "--loss",
        choices=LOSSES,
        default=default.loss,
        help="the network's own (heatmap) alone, or with one through the pose beside it (default %(default)s)",
    )
    parser.add_argument(
        "--from-poses", action="store_true", help="teach the dense network no object coordinates, only poses"
    )
    parser.add_argument("--learning-rate", type=float, default=default.learning_rate, help="default %(default)s")


NOT_USABLE = 3  # exit status of a training that came to its end with an object that cannot be used


def run(arguments: argparse.Namespace) -> int:
    """Train, validate, say where the package is and whether it can be used.

    Returns:
        0, or :data:`NOT_USABLE`.

    Raises:
        ValueError: if an argument is wrong, or nothing can be rendered here.
    """
    if arguments.devices < 1:
        raise ValueError(f"--devices: expected at least 1, got {arguments.devices}")
    outs = _outs(arguments.mesh, arguments.out)
    need_renderer()
    if arguments.real is not None:
        if arguments.backgrounds is not None:
            raise ValueError("--real: gives the backgrounds, too; leave out --backgrounds, or put both into one folder")
        source = open_source(arguments.real, camera=arguments.camera, rectified=arguments.rectified)
        arguments.backgrounds = keep_backgrounds(source, arguments.out or arguments.mesh[0])
    signal.signal(signal.SIGTERM, _interrupt)  # like Ctrl-C: leave a checkpoint
    options = {name: value for name, value in vars(arguments).items() if name not in ("run", "parser")}
    verdicts = []
    for mesh, out in zip(arguments.mesh, outs):
        own = {**options, "mesh": mesh, "out": out}
        verdicts.append(launch(arguments.devices, _train, own)[0] if arguments.devices > 1 else _train(own))
    return 0 if all(verdict is None or verdict.usable for verdict in verdicts) else NOT_USABLE


def _outs(meshes: Sequence[Path], out: Path | None) -> list[Path | None]:
    """The folder of each object's package; of several, in the folder ``out``, named as the meshes are.

    Raises:
        ValueError: if two would have the same.
    """
    if len(meshes) == 1:
        return [out]
    if out is None:
        return [_own(mesh) for mesh in meshes]
    names = [link or Path(file).stem for file, link in (file_and_link(str(mesh)) for mesh in meshes)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"mesh: expected different names, as their packages get them, got {twice[0]} twice")
    return [out / name for name in names]


def _own(mesh: Path) -> Path:
    if not mesh.is_dir():
        raise ValueError(f"--out: missing, where {mesh} shall go; only an object package is trained in its place")
    return mesh


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _train(arguments: dict[str, Any]) -> Verdict | None:
    """One of the processes that train; the verdict in the first."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    known = load_object_package(arguments["mesh"]) if arguments["mesh"].is_dir() else None
    if known is None and arguments["out"] is None:
        raise ValueError("--out: missing; it is left out only where an object package is given")
    out: Path = arguments["out"] or arguments["mesh"]
    check_folder(out)
    if known is not None:
        mesh = known.mesh
    else:
        mesh = load_mesh(arguments["mesh"], arguments["units"], accept_missing=arguments["accept_missing"])
    reporter = _ProgressBar()
    reporter.say(f"{arguments['mesh']}: {mesh.describe()}")
    symmetry = known.symmetry if known is not None else Symmetry()
    if arguments["symmetries"]:
        symmetry = declared_symmetry(arguments["symmetries"], mesh)
    elif known is None and (turns := symmetries_to_declare(mesh)) is not None:
        reporter.say(
            f"it looks alike under turns about its axes: use --symmetries {turns}, if nothing else tells them apart"
        )
    colour = tuple(arguments["colour"] or likely_colours(mesh))
    if not arguments["colour"] and colour == (ANY,):
        reporter.say("its colour is not known from the mesh: training for any (--colour '#e0b020' or mesh, if it is)")
    sees: Sees = arguments["sees"] or ("edges" if ANY in colour else "colours")
    config = TrainingConfig(
        colour=colour,
        minutes=arguments["minutes"],
        num_keypoints=arguments["keypoints"],
        views=arguments["views"],
        max_roll=arguments["max_roll"],
        backgrounds=arguments["backgrounds"],
        focal_range=_focal_range(arguments["camera"], arguments["rectified"]),
        device=arguments["device"],
        workers=arguments["workers"],
        width=arguments["width"],
        seed=arguments["seed"],
        start_from=_start(arguments, sees),
        sees=sees,
        crop_batch=crops_a_step(sees, arguments["device"]),
        network=arguments["network"],
        loss=arguments["loss"],
        from_poses=arguments["from_poses"],
        learning_rate=arguments["learning_rate"],
    )
    trained = train_object(out.resolve().name, mesh, symmetry, out, config, reporter)
    if trained is None:
        return None
    if arguments["real"] is not None:
        source = open_source(arguments["real"], camera=arguments["camera"], rectified=arguments["rectified"])
        reporter.say("\n".join(report(source, trained.package, arguments["device"])))
    reporter.say("validation on held-out images:\n" + table(trained.validation))
    reporter.say(f"object package: {out}, validation image: {out / 'validation.jpg'}")
    found = trained.verdict
    longer = "" if found.minutes is None else f"; the same command with --minutes {found.minutes:g} goes on from here"
    plain = not found.usable and trained.package.features_path is None
    reporter.say(found.text + longer + ("; without networks (pnp-ros onboard) its edges are searched" if plain else ""))
    return found


def _start(arguments: dict[str, Any], sees: Sees) -> Path | Literal["shipped"] | None:
    told = arguments["start_from"]
    if told == SHIPPED:
        return SHIPPED
    if told is not None:
        return None if told == "none" else Path(told)
    easy = sees == "colours" and arguments["views"] == "upper"  # learnt as soon without
    return SHIPPED if has_start(arguments["network"], arguments["width"]) and not easy else None


def _focal_range(camera_path: Path | None, rectified: bool) -> tuple[float, float]:
    if camera_path is None:
        return TrainingConfig().focal_range
    info = read_camera_info(camera_path)
    relative = (info.p if rectified else info.k)[0] / info.width
    return relative * (1.0 - _CAMERA_TOLERANCE), relative * (1.0 + _CAMERA_TOLERANCE)


class _ProgressBar:
    """Shows the trainer's progress with tqdm, in seconds of the budget."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._samples, self._began = 0, 0.0

    def say(self, text: str) -> None:
        """A line of text."""
        print(text, flush=True)

    def begin(self, phase: str, seconds: float) -> None:
        """A phase starts with a budget."""
        layout = "{l_bar}{bar}| {n:.0f} of {total:.0f} s{postfix}"
        self._bar = tqdm(total=round(seconds, 1), desc=f"{phase:<10}", bar_format=layout, mininterval=0.5)
        self._samples, self._began = 0, 0.0

    def progress(self, progress: Progress) -> None:
        """A step was made."""
        assert self._bar is not None
        now = time.monotonic()
        if not self._began:
            self._began, self._samples = now, progress.samples
            rate = 0.0
        else:
            rate = (progress.samples - self._samples) / max(now - self._began, 1e-6)
        figures = " ".join(f"{name} {value:.2f}" for name, value in progress.figures.items())
        self._bar.n = min(progress.seconds, self._bar.total)
        self._bar.set_postfix_str(f"{progress.samples} images, {rate:.0f}/s, {figures}", refresh=False)
        self._bar.update(0)

    def begin_images(self, phase: str, count: int) -> None:
        """A phase starts that goes through so many images, at most."""
        self._bar = tqdm(total=count, desc=f"{phase:<10}", unit=" images", mininterval=0.5)

    def image(self) -> None:
        """An image is done."""
        assert self._bar is not None
        self._bar.update(1)

    def end(self) -> None:
        """The phase is over."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
