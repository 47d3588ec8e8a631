"""Which files a bag is read from: its data files themselves, as far as they are there and whole.

The data files say all that ``metadata.yaml`` says, and where the two differ (bags of older rosbag2 versions describe
quality of service differently in each) readers that compare them take nothing. The folder is therefore opened as such
only if it is compressed, which only ``metadata.yaml`` tells.
"""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from pnp_ros.io.bag_messages import BagError
from pnp_ros.io.mcap_recovery import is_cut, recover

logger = logging.getLogger(__name__)
_DATA, _ROS1 = (".mcap", ".db3"), ".bag"


def bag_files(path: Path, scratch: ExitStack) -> list[Path]:
    """The files to open.

    Args:
        path: a bag's folder, or a single file.
        scratch: holds the folders with what is recovered of files that were cut short, until it is closed.

    Returns:
        data files; the path itself where it has none, or is compressed. What is missing is said in warnings.
    """
    if not path.is_dir():
        if path.suffix not in (*_DATA, _ROS1):
            raise BagError(f"{path}: is no bag: expected a folder, or a file named .mcap, .db3 or {_ROS1}")
        return [_whole(path, scratch)]
    information = _information(path)
    found = sorted(file for file in path.iterdir() if file.suffix in _DATA)
    if not found and not (path / "metadata.yaml").is_file():
        raise BagError(f"{path}: is no bag: expected metadata.yaml or {' or '.join(_DATA)} files in this folder")
    if str(information.get("compression_mode") or "none").lower() != "none" or not found:
        return [path]
    names = {file.name for file in found}
    listed = [Path(str(name)).name for name in information.get("relative_file_paths") or []]
    for name in sorted(set(listed) - names):
        logger.warning("%s: %s is listed in metadata.yaml but absent; what is in the other files is read", path, name)
    return [_whole(file, scratch) for file in found]


def _information(path: Path) -> dict[str, Any]:
    """What ``metadata.yaml`` says; nothing where it is absent or cannot be read."""
    file = path / "metadata.yaml"
    if not file.is_file():
        return {}
    try:
        content = yaml.safe_load(file.read_text())["rosbag2_bagfile_information"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        logger.warning("%s: cannot be read (%s); the data files are", file, str(error).partition("\n")[0])
        return {}
    return content if isinstance(content, dict) else {}


def _whole(file: Path, scratch: ExitStack) -> Path:
    if file.suffix != ".mcap" or not is_cut(file):
        return file
    whole = Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="bag-"))) / file.name
    missing = recover(file, whole)
    logger.warning("%s: cut short; the last %d bytes cannot be read", file, missing)
    return whole
