"""The commands of the documentation, run where it says: beside a video, a calibration and a trained object."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pnp_ros.cli.main import main
from pnp_ros.evaluation.frames import is_bag, open_bag
from pnp_ros.io.bag_writer import BagWriter
from pnp_ros.io.live import is_live

pytest.importorskip("moderngl")
torch.set_num_threads(1)
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = {"BAG": "out/demo/bag", "SOURCE": "out/demo/bag", "objects/NAME": "objects/mug", "old.bag": "out/demo/bag"}
RUN = ("run", "evaluate", "bag info", "bag convert")  # the others take long, need nodes, or have a test of their own
SETTINGS = ("run", "video.mp4", "--object", "objects/mug", "--camera", "camera_info.yaml", "--no-tracking")


def lines() -> list[str]:
    """What follows ``pnp-ros`` in each command that takes seconds, without what may be left out.

    Those of a mesh onboard it on the way, which is too long here; a webcam is not there.
    """
    found = set()
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("pnp-ros "):
                    words = shlex.split(re.sub(r"\[[^]]*\]", "", line), comments=True)[1:]
                    quick = words[0] in RUN or " ".join(words[:2]) in RUN
                    if quick and "mug.obj" not in words and not is_live(words[1]):
                        found.add(" ".join(NAMES.get(word, word) for word in words))
    return sorted(found)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, recorded_run: Any) -> Path:
    """Where the user is: a checkout in which ``pnp-ros demo`` was run, with files of the names that the pages use."""
    folder = tmp_path_factory.mktemp("place")
    recording = ROOT / "config/recording"
    (folder / "config").symlink_to(ROOT / "config")
    (folder / "objects").mkdir()
    (folder / "objects/mug").symlink_to(ROOT / "config/objects/demo")
    for name in ("video.mp4", "other.mp4"):
        shutil.copy(recording / "images.mp4", folder / name)
    shutil.copy(recording / "camera_info.yaml", folder)
    rename_topics(recorded_run.path, folder / "my_bag", {"/estimator/objects": "/pose_estimator/objects"})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["demo", "--no-ros", "--frames", "4"]) == 0
        for name in ("before", "after"):
            shutil.copytree("out/demo", f"out/{name}", ignore=shutil.ignore_patterns("bag"))
    return folder


def rename_topics(source: Path, target: Path, names: dict[str, str]) -> None:
    """A bag as the other one, some of its topics under other names."""
    with open_bag(source) as reader, BagWriter(target, types=reader.types) as writer:
        for topic, kind, stamp_ns, cdr in reader.serialized():
            writer.write_serialized(names.get(topic, topic), kind, cdr, stamp_ns)


@pytest.mark.parametrize("line", lines())
def test_a_documented_command_runs(
    line: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line.partition(" > ")[0].split()
    monkeypatch.chdir(place)
    if "--config" in words:  # what another line writes
        assert main([*SETTINGS, "--dump-config"]) == 0
        Path("run.yaml").write_text(capsys.readouterr().out)
    if "convert" in words:
        shutil.rmtree(words[3], ignore_errors=True)  # another page's
    is_whole = "--compare" in words or "info" in words or (words[0] == "bag" and is_bag(Path(words[2])))
    few = [] if is_whole else ["--max-frames", "2"]
    assert main([*words, *few]) == 0, capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err


def test_most_commands_are_run() -> None:
    assert len(lines()) >= 12
