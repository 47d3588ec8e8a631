"""Versions of one object's weights on disk: whatever happens to the writer, a reader gets a good one.

A version is ``NNNNNN.safetensors``, the weights of both networks, and its manifest ``NNNNNN.json``. The weights are on
the disk before the manifest is renamed into place, and that rename is what makes the version exist. A file
``NNNNNN.withdrawn`` takes it back and holds the reason. Version 0 stands for the object package's own weights and is
never stored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pnp_ros.adaptation.status import plain
from pnp_ros.io.checkpoints import read_shapes, serialised, sha256, write_bytes_atomically
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.calibration import CovarianceCalibration

logger = logging.getLogger(__name__)
WEIGHTS, MANIFEST, WITHDRAWN = ".safetensors", ".json", ".withdrawn"
_LOCK = ".lock"
_COVARIANCE = "covariance_scale", "covariance_growth", "covariance_discord"
_MISSING = {"covariance_discord": 0.0}  # in manifests of before
_MOST_DIGITS = 12  # of a version's number


class VersionError(ValueError):
    """A version that cannot be used or written; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Version:
    """Weights that were checked when they were stored, and whose file was found undamaged.

    Args:
        number: 1 or more.
        path: of the weights.
        sha256: of the weights.
        calibration: of the covariance that goes with them.
    """

    number: int
    path: Path
    sha256: str
    calibration: CovarianceCalibration

    def applied_to(self, package: ObjectPackage) -> ObjectPackage:
        """The package with these weights."""
        return dataclasses.replace(package, weights_path=self.path, calibration=self.calibration.to_plain())


class VersionStore:
    """The versions of one object package's weights, in a folder. Several processes may use it at a time.

    Args:
        folder: of the versions; made if it is not there. ``~`` is the user's home, also where no shell makes it that.
        package: whose weights were adapted; versions of other weights are left alone.
        keep: the weights of so many good versions stay on the disk, the manifests of all.

    Raises:
        VersionError: if the package has no weights, or the folder cannot be made or read.
    """

    def __init__(self, folder: str | Path, package: ObjectPackage, keep: int = 10) -> None:
        if package.weights_path is None:
            raise VersionError(f"{package.root}: weights: missing; train the object first")
        if keep < 1:
            raise VersionError(f"keep: expected at least 1, got {keep}")
        self.folder, self._package, self._keep = Path(os.path.expanduser(folder)), package, keep
        self._withdrawn: dict[int, str] = {}  # in this process at once, whatever the disk does
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            next(self.folder.iterdir(), None)  # else versions that this user may not see were none
        except OSError as error:
            raise VersionError(f"{folder}: the folder of the versions cannot be used: {error}") from error
        self._package_sha256 = sha256(package.weights_path)
        self._shapes = read_shapes(package.weights_path)

    def write(
        self, tensors: Mapping[str, Tensor], calibration: CovarianceCalibration, record: Mapping[str, Any]
    ) -> Version:
        """Store new weights; when this returns, they are the newest version, also after a loss of power.

        Args:
            tensors: of both networks, as :func:`pnp_ros.pipeline.models.weights_of` gives them.
            calibration: of the covariance.
            record: why they were accepted; kept in the manifest.

        Raises:
            VersionError: if the tensors are not those of the package's networks, or not finite, or cannot be written.
        """
        self._check(tensors)
        data = serialised(tensors)
        digest = hashlib.sha256(data).hexdigest()
        with self._locked():
            number = self.next_number()
            self._clean_up()
            manifest = {
                "number": number,
                "sha256": digest,
                "package_sha256": self._package_sha256,
                **dict(zip(_COVARIANCE, dataclasses.astuple(calibration), strict=True)),
                "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
                "record": plain(record),
            }
            manifest["checksum"] = _checksum(manifest)
            try:
                write_bytes_atomically(self._path(number, WEIGHTS), data)
                write_bytes_atomically(self._path(number, MANIFEST), json.dumps(manifest, indent=1).encode())
            except OSError:  # the disk is full: what was written of this version would keep it so
                self._path(number, WEIGHTS).unlink(missing_ok=True)
                raise
        return Version(number, self._path(number, WEIGHTS), digest, calibration)

    def next_number(self) -> int:
        """The number that the next version gets."""
        return max((_number(path) for path in self.folder.glob("*")), default=0) + 1

    def newest(self) -> Version | None:
        """The newest good version; damaged, foreign and withdrawn ones are passed over. None: the package's own."""
        for number in reversed(self._numbers()):
            if self._is_withdrawn(number):
                continue
            try:
                return self.get(number)
            except VersionError as error:
                logger.warning("%s; an older version is used", error)
        return None

    def get(self, number: int) -> Version:
        """One version, its file checked.

        Raises:
            VersionError: saying that it is missing, withdrawn, damaged, or of another object package.
        """
        if self._is_withdrawn(number):
            raise VersionError(f"{self._path(number, MANIFEST)}: withdrawn: {self._reason(number)}")
        manifest, path = self._manifest(number), self._path(number, WEIGHTS)
        if manifest["package_sha256"] != self._package_sha256:
            raise VersionError(f"{path}: adapted from the weights of another object package")
        if not path.is_file():
            raise VersionError(f"{path}: missing, or no longer kept")
        try:
            found = sha256(path)
        except OSError as error:
            raise VersionError(f"{path}: cannot be read: {error}") from error
        if found != manifest["sha256"]:
            raise VersionError(f"{path}: sha256 is {found}, expected {manifest['sha256']}; the file is damaged")
        try:
            calibration = CovarianceCalibration(*((_MISSING | manifest)[name] for name in _COVARIANCE))
        except ValueError as error:
            raise VersionError(f"{self._path(number, MANIFEST)}: covariance_{error}") from error
        if "checksum" in manifest and manifest["checksum"] != _checksum(manifest):
            raise VersionError(f"{self._path(number, MANIFEST)}: checksum: does not fit; the file is damaged")
        return Version(number, path, found, calibration)

    def withdraw(self, number: int, reason: str) -> None:
        """Take a version back for good; the newest one before it is then the newest.

        Raises:
            VersionError: if there is no such version, or if the disk does not take it: then it is withdrawn for this
                store alone, until the process ends.
        """
        if number not in self._numbers():
            raise VersionError(f"{self._path(number, MANIFEST)}: no such version")
        self._withdrawn[number] = reason
        with self._locked():
            write_bytes_atomically(self._path(number, WITHDRAWN), reason.encode())

    def withdraw_all(self, reason: str) -> None:
        """Take all versions back: the package's own weights are then the newest.

        Raises:
            VersionError: as :meth:`withdraw`.
        """
        numbers = [number for number in self._numbers() if not self._path(number, WITHDRAWN).exists()]
        self._withdrawn |= dict.fromkeys(numbers, reason)
        for number in numbers:  # oldest first: if this is broken off, the newest still stands
            self.withdraw(number, reason)

    def history(self) -> list[dict[str, Any]]:
        """The manifests, oldest first, each with ``withdrawn``: the reason, or nothing. Damaged ones are left out."""
        entries = []
        for number in self._numbers():
            try:
                entries.append(self._manifest(number) | {"withdrawn": self._reason(number)})
            except VersionError as error:
                logger.warning("%s; left out of the history", error)
        return entries

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        if different := sorted(set(tensors) ^ set(self._shapes)):
            raise VersionError(f"tensors: expected those of the package's networks, {different[0]} is in one of both")
        for name, tensor in tensors.items():
            if tuple(tensor.shape) != self._shapes[name]:
                raise VersionError(f"tensors: {name}: expected shape {self._shapes[name]}, got {tuple(tensor.shape)}")
            if not bool(torch.isfinite(tensor).all()):
                raise VersionError(f"tensors: {name}: expected finite numbers")

    def _clean_up(self) -> None:
        """Make room for one version: delete what killed writers left, and weights that are no longer kept."""
        for partial in self.folder.glob(".[0-9]*.partial"):
            partial.unlink(missing_ok=True)
        kept, existing = 1, set(self._numbers())
        for path in sorted(self.folder.glob(f"*{WEIGHTS}"), reverse=True):
            number = _number(path)
            if number not in existing:
                if number:  # its writer was ended before the manifest
                    path.unlink(missing_ok=True)
            elif self._is_ours(number):
                if kept == self._keep or self._path(number, WITHDRAWN).exists():
                    path.unlink(missing_ok=True)
                else:
                    kept += 1

    def _is_ours(self, number: int) -> bool:
        try:
            return bool(self._manifest(number)["package_sha256"] == self._package_sha256)
        except VersionError:
            return False  # damaged: left for somebody to look at

    def _manifest(self, number: int) -> dict[str, Any]:
        path = self._path(number, MANIFEST)
        try:
            fields = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise VersionError(f"{path}: no such version") from error
        except (OSError, ValueError, RecursionError) as error:
            raise VersionError(f"{path}: not a readable manifest ({error})") from error
        if not isinstance(fields, dict) or fields.get("number") != number:
            raise VersionError(f"{path}: number: expected {number}; not the manifest of this version")
        for name in ("sha256", "package_sha256"):
            if not isinstance(fields.get(name), str):
                raise VersionError(f"{path}: {name}: expected a text, got {fields.get(name)!r}")
        for name in _COVARIANCE:
            if not isinstance(value := fields.get(name, _MISSING.get(name)), (int, float)):
                raise VersionError(f"{path}: {name}: expected a number, got {value!r}")
        return fields

    def _is_withdrawn(self, number: int) -> bool:
        return number in self._withdrawn or self._path(number, WITHDRAWN).exists()

    def _reason(self, number: int) -> str:
        if number in self._withdrawn:
            return self._withdrawn[number]
        try:
            return self._path(number, WITHDRAWN).read_text(errors="replace") or "without a reason"
        except FileNotFoundError:
            return ""

    def _numbers(self) -> list[int]:
        """Of the versions that exist, lowest first."""
        return sorted(_number(path) for path in self.folder.glob(f"*{MANIFEST}") if _number(path))

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:06d}{suffix}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time; the lock ends with the process that holds it, however that ends."""
        try:
            with (self.folder / _LOCK).open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise VersionError(f"{self.folder}: cannot be written: {error}") from error


def _number(path: Path) -> int:
    """The number in the name of a version's file, also of one whose manifest is missing; 0 for other files."""
    usual = path.stem.isdecimal() and len(path.stem) <= _MOST_DIGITS and path.suffix in (WEIGHTS, MANIFEST, WITHDRAWN)
    return int(path.stem) if usual else 0


def _checksum(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of all other fields: a flipped bit in a number would go unnoticed."""
    content = {name: value for name, value in manifest.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
