"""BOP's files: scene folders with truth, and the CSV of results that its toolkit and server take.

Hodan et al., "BOP: Benchmark for 6D Object Pose Estimation" (2018); formats as in bop_toolkit's documentation. BOP's
millimetres become metres here, and back.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pnp_ros.cameras.camera import Camera
from pnp_ros.io.images import RgbImage, read_image
from pnp_ros.types import Pose

_MILLIMETRE = 1e-3
_COLUMNS = ("scene_id", "im_id", "obj_id", "score", "R", "t", "time")
_IMAGES = ("rgb", "gray")


class BopError(ValueError):
    """A BOP file cannot be read; the message names file and field."""


@dataclass(frozen=True, eq=False)
class BopResult:
    """One row of a BOP results file.

    Args:
        scene_id: of the scene.
        image_id: of the image.
        object_id: of the model.
        score: confidence, any scale.
        pose: ``T_camera_object``, metres.
        seconds: that the whole image took; -1 if not measured.
    """

    scene_id: int
    image_id: int
    object_id: int
    score: float
    pose: Pose
    seconds: float = -1.0


def write_bop_results(path: Path | str, results: Iterable[BopResult]) -> None:
    """Write ``scene_id,im_id,obj_id,score,R,t,time`` with R row-major and t in millimetres."""
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for r in results:
            rotation = " ".join(f"{v:.9g}" for v in r.pose.rotation.double().flatten().tolist())
            translation = " ".join(f"{v / _MILLIMETRE:.9g}" for v in r.pose.translation.double().tolist())
            row = (r.scene_id, r.image_id, r.object_id, f"{r.score:.6g}", rotation, translation, f"{r.seconds:.6g}")
            writer.writerow(row)


def read_bop_results(path: Path | str) -> list[BopResult]:
    """Read a results file.

    Raises:
        BopError: if it is absent or a row does not fit; the message names the line.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise BopError(f"{path}: cannot be read ({error})") from error
    return [_result(path, line, row) for line, row in enumerate(rows, start=2)]


def _result(path: Path, line: int, row: dict[str, str]) -> BopResult:
    try:
        pose = Pose(_matrix(row["R"].split()), _millimetres(row["t"].split()))
        ids = (int(row["scene_id"]), int(row["im_id"]), int(row["obj_id"]))
        return BopResult(*ids, float(row["score"]), pose, float(row["time"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BopError(f"{path}: line {line}: expected {','.join(_COLUMNS)} ({error})") from error


@dataclass(frozen=True, eq=False)
class BopInstance:
    """One object in one image: its model, true pose, and visible share (1 where the scene does not say)."""

    object_id: int
    pose: Pose
    visible: float


@dataclass(frozen=True, eq=False)
class BopImage:
    """One image of a scene: ids, RGB, camera, and the objects in it."""

    scene_id: int
    image_id: int
    rgb: RgbImage
    camera: Camera
    instances: tuple[BopInstance, ...]


class BopScene:
    """A folder with ``scene_camera.json``, ``scene_gt.json`` (and ``scene_gt_info.json``) and ``rgb/`` or ``gray/``.

    Raises:
        BopError: if a file is absent or malformed; the message names it.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.scene_id = int(self.folder.name) if self.folder.name.isdigit() else 0
        self._cameras = _read_json(self.folder / "scene_camera.json")
        self._truths = _read_json(self.folder / "scene_gt.json")
        info = self.folder / "scene_gt_info.json"
        self._infos = _read_json(info) if info.is_file() else {}
        self._images = self._find_images()

    @staticmethod
    def is_scene(folder: Path | str) -> bool:
        """Whether a folder looks like a scene."""
        return (Path(folder) / "scene_gt.json").is_file()

    @property
    def object_ids(self) -> set[int]:
        """Of all objects in the scene."""
        return {int(_entry(self.folder, truth, "obj_id")) for truths in self._truths.values() for truth in truths}

    def __len__(self) -> int:
        return len(self._cameras)

    def images(self) -> Iterator[BopImage]:
        """The images in the order of their ids."""
        for key in sorted(self._cameras, key=int):
            image_id = int(key)
            if image_id not in self._images:
                raise BopError(f"{self.folder}: no image {image_id:06d} in {' or '.join(_IMAGES)}")
            rgb = read_image(self._images[image_id])
            yield BopImage(self.scene_id, image_id, rgb, self._camera(key, rgb), self._instances(key))

    def _find_images(self) -> dict[int, Path]:
        for name in _IMAGES:
            found = {int(f.stem): f for f in (self.folder / name).glob("*.*") if f.stem.isdigit()}
            if found:
                return found
        raise BopError(f"{self.folder}: no images in {' or '.join(_IMAGES)}")

    def _camera(self, key: str, rgb: RgbImage) -> Camera:
        file = self.folder / "scene_camera.json"
        k = _matrix(_entry(file, self._cameras[key], "cam_K"), f"{file}: cam_K of {key}")
        try:
            return Camera.from_matrix(k, width=rgb.shape[1], height=rgb.shape[0])
        except ValueError as error:
            raise BopError(f"{file}: cam_K of {key}: {error}") from error

    def _instances(self, key: str) -> tuple[BopInstance, ...]:
        file, truths = self.folder / "scene_gt.json", self._truths.get(key, [])
        shares = [float(info.get("visib_fract", 1.0)) for info in self._infos.get(key, [])] or [1.0] * len(truths)
        if len(shares) != len(truths):
            raise BopError(f"{self.folder}/scene_gt_info.json: expected {len(truths)} entries of {key}")
        return tuple(
            BopInstance(
                int(_entry(file, truth, "obj_id")),
                Pose(
                    _matrix(_entry(file, truth, "cam_R_m2c"), f"{file}: cam_R_m2c of {key}"),
                    _millimetres(_entry(file, truth, "cam_t_m2c"), f"{file}: cam_t_m2c of {key}"),
                ),
                share,
            )
            for truth, share in zip(truths, shares)
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BopError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict) or not all(key.isdigit() for key in content):
        raise BopError(f"{path}: expected a mapping by image id")
    return content


def _entry(file: Path, fields: Any, name: str) -> Any:
    if not isinstance(fields, dict) or name not in fields:
        raise BopError(f"{file}: {name}: missing")
    return fields[name]


def _numbers(values: Any, count: int, what: str) -> torch.Tensor:
    try:
        numbers = torch.tensor([float(v) for v in values], dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise BopError(f"{what}: expected {count} numbers ({error})") from error
    if len(numbers) != count or not bool(numbers.isfinite().all()):
        raise BopError(f"{what}: expected {count} finite numbers, got {values}")
    return numbers


def _matrix(values: Any, what: str = "R") -> torch.Tensor:
    return _numbers(values, 9, what).reshape(3, 3)


def _millimetres(values: Any, what: str = "t") -> torch.Tensor:
    return _numbers(values, 3, what) * _MILLIMETRE
