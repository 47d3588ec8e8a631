"""The folder of a bag that a command records, and records anew when it runs again; nothing else is replaced."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOTE = "recorded_by_pnp_ros.txt"
_NOTE_TEXT = "The next run with this --out replaces this bag. Remove this file to keep the bag as it is.\n"
_STORAGE = {".mcap", ".db3"}


def check_place(place: Path, *played: Path) -> None:
    """Refuse a place where something lies that a recording must not replace.

    Args:
        place: folder of the new bag.
        played: bags that the command reads.

    Raises:
        ValueError: if the place is, holds or is inside a bag that is read, or holds anything but an earlier recording.
    """
    there = place.resolve()
    for bag in played:
        source = bag.resolve()
        if there == source or there in source.parents or source in there.parents:
            raise ValueError(
                f"--out: the recording in {place} would damage {bag}, which is read; choose another folder"
            )
    if place.is_symlink() or (place.exists() and not _is_replaceable(place)):
        raise ValueError(f"--out: {place} is there and no earlier recording; move it, or choose another folder")


def _is_replaceable(place: Path) -> bool:
    """Whether this is an empty folder, or a bag with the note and nothing else beside it."""
    if not place.is_dir():
        return False
    names = {file.name for file in place.iterdir()}
    others = {name for name in names - {_NOTE, "metadata.yaml"} if Path(name).suffix not in _STORAGE}
    return not names or (_NOTE in names and not others)


@contextmanager
def new_recording(place: Path, *played: Path) -> Iterator[Path]:
    """Where to record to. At the end the bag takes the place of the earlier one, which stays if there was an error.

    Args:
        place, played: as of :func:`check_place`.

    Raises:
        ValueError: as :func:`check_place`.
    """
    check_place(place, *played)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".recording-") as folder:
        new = Path(folder) / "new" / place.name  # a bag's files are named as its folder
        new.parent.mkdir()
        yield new
        (new / _NOTE).write_text(_NOTE_TEXT)
        check_place(place, *played)
        if place.exists():
            place.rename(Path(folder) / "earlier")
        new.rename(place)
