import dataclasses
import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pnp_ros.adaptation.versions import Version, VersionError, VersionStore
from pnp_ros.io.checkpoints import read_tensors, write_tensors
from pnp_ros.objects.object_package import ObjectPackage, load_object_package
from pnp_ros.pipeline.calibration import CovarianceCalibration
from pnp_ros.pipeline.models import calibration_of, load_networks, weights_of

CALIBRATION = CovarianceCalibration(2.5, 0.5)


@pytest.fixture(scope="module")
def package(untrained_package: Callable[..., ObjectPackage], tmp_path_factory: pytest.TempPathFactory) -> ObjectPackage:
    return untrained_package(tmp_path_factory.mktemp("package"), width=4)


@pytest.fixture
def store(package: ObjectPackage, tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "versions", package)


def _weights(package: ObjectPackage, shift: float) -> dict[str, Tensor]:
    """The package's own weights, each moved a little."""
    assert package.weights_path is not None
    tensors = read_tensors(package.weights_path)
    return {name: tensor + shift if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def test_a_version_comes_back_as_it_was_written(store: VersionStore, package: ObjectPackage) -> None:
    assert store.newest() is None
    written = store.write(_weights(package, 0.5), CALIBRATION, {"reason": "all gates passed", "loss": float("nan")})
    assert store.newest() == written == store.get(1) == VersionStore(store.folder, package).newest()
    adapted = written.applied_to(package)
    keypoints, detector = load_networks(adapted)
    assert calibration_of(adapted) == CALIBRATION
    expected = _weights(package, 0.5)
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights_of(keypoints, detector).items())
    (entry,) = store.history()
    assert entry["record"] == {"reason": "all gates passed", "loss": None}
    assert entry["number"] == 1
    assert entry["withdrawn"] == ""
    assert package.weights_path is not None
    assert load_object_package(package.root).weights_path == package.weights_path  # untouched


def test_numbers_only_grow(store: VersionStore, package: ObjectPackage) -> None:
    for expected in (1, 2):
        assert store.write(_weights(package, expected), CALIBRATION, {}).number == expected
    store.withdraw(2, "the user went back")
    assert store.newest() == store.get(1)
    with pytest.raises(VersionError, match="withdrawn: the user went back"):
        store.get(2)
    (store.folder / "000007.safetensors").write_bytes(b"a writer was killed before the manifest")
    assert store.newest() == store.get(1)
    assert store.write(_weights(package, 3.0), CALIBRATION, {}).number == 8
    assert not (store.folder / "000007.safetensors").exists()
    assert [(entry["number"], entry["withdrawn"]) for entry in store.history()] == [
        (1, ""),
        (2, "the user went back"),
        (8, ""),
    ]
    store.withdraw_all("reset")
    assert store.newest() is None
    assert [entry["withdrawn"] for entry in store.history()] == ["reset", "the user went back", "reset"]
    assert store.write(_weights(package, 4.0), CALIBRATION, {}).number == 9
    with pytest.raises(VersionError, match="no such version"):
        store.withdraw(77, "never was")
    with pytest.raises(VersionError, match="no such version"):
        store.get(77)


def _truncated(weights: Path, manifest: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1])


def _bit_flipped(weights: Path, manifest: Path) -> None:
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 0x10
    weights.write_bytes(data)


def _emptied(weights: Path, manifest: Path) -> None:
    weights.write_bytes(b"")


def _removed(weights: Path, manifest: Path) -> None:
    weights.unlink()


def _a_folder(weights: Path, manifest: Path) -> None:
    weights.unlink()
    weights.mkdir()


def _not_json(weights: Path, manifest: Path) -> None:
    manifest.write_bytes(manifest.read_bytes()[:-10])


def _not_text(weights: Path, manifest: Path) -> None:
    manifest.write_bytes(b"\xff\xfe\x00")


def _a_list(weights: Path, manifest: Path) -> None:
    manifest.write_text("[]")


def _of_another_number(weights: Path, manifest: Path) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"number": 1}))


def _of_another_package(weights: Path, manifest: Path) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"package_sha256": "0" * 64}))


def _without_sha256(weights: Path, manifest: Path) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"sha256": None}))


def _nan_scale(weights: Path, manifest: Path) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"covariance_scale": float("nan")}))


def _text_as_growth(weights: Path, manifest: Path) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"covariance_growth": "much"}))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_truncated, "sha256"),
        (_bit_flipped, "sha256"),
        (_emptied, "sha256"),
        (_removed, "missing"),
        (_a_folder, "missing"),
        (_not_json, "not a readable manifest"),
        (_not_text, "not a readable manifest"),
        (_a_list, "number"),
        (_of_another_number, "number"),
        (_of_another_package, "another object package"),
        (_without_sha256, "sha256"),
        (_nan_scale, "covariance_scale"),
        (_text_as_growth, "covariance_growth"),
    ],
)
def test_a_damaged_version_is_passed_over_with_a_warning(
    store: VersionStore,
    package: ObjectPackage,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path, Path], None],
    expected: str,
) -> None:
    good = store.write(_weights(package, 1.0), CALIBRATION, {})
    spoilt = store.write(_weights(package, 2.0), CALIBRATION, {})
    spoil(spoilt.path, store.folder / "000002.json")
    with caplog.at_level(logging.WARNING):
        assert store.newest() == good
    assert expected in caplog.text
    assert "000002" in caplog.text
    with pytest.raises(VersionError, match=expected):
        store.get(2)
    assert good.number in [entry["number"] for entry in store.history()]
    assert store.write(_weights(package, 3.0), CALIBRATION, {}).number == 3


def test_versions_of_another_package_in_the_same_folder_are_left_alone(
    store: VersionStore, package: ObjectPackage, untrained_package: Callable[..., ObjectPackage], tmp_path: Path
) -> None:
    mine = store.write(_weights(package, 1.0), CALIBRATION, {})
    other = untrained_package(tmp_path / "other", seed=1, width=4)
    theirs = VersionStore(store.folder, other, keep=1)
    assert theirs.newest() is None
    for shift in (1.0, 2.0):
        theirs.write(_weights(other, shift), CALIBRATION, {})
    assert store.newest() == mine
    found = theirs.newest()
    assert found is not None
    assert found.number == 3
    assert sorted(path.name for path in store.folder.glob("*.safetensors")) == [
        "000001.safetensors",
        "000003.safetensors",
    ]


def test_only_the_newest_weights_are_kept_but_all_manifests(package: ObjectPackage, tmp_path: Path) -> None:
    store = VersionStore(tmp_path, package, keep=3)
    (tmp_path / "notes.safetensors").write_bytes(b"somebody else's")
    (tmp_path / ".000009.json.1.partial").write_bytes(b"a killed writer's")
    for shift in range(1, 6):
        store.write(_weights(package, float(shift)), CALIBRATION, {})
    store.withdraw(5, "worse")
    store.write(_weights(package, 6.0), CALIBRATION, {})
    names = [path.name for path in sorted(tmp_path.glob("*.safetensors"))]
    assert names == ["000003.safetensors", "000004.safetensors", "000006.safetensors", "notes.safetensors"]
    assert [entry["number"] for entry in store.history()] == [1, 2, 3, 4, 5, 6]
    assert not list(tmp_path.glob(".*.partial"))


def test_unfit_weights_are_not_written(store: VersionStore, package: ObjectPackage, tmp_path: Path) -> None:
    good = _weights(package, 1.0)
    name = next(name for name, tensor in good.items() if tensor.is_floating_point())
    for spoilt, expected in (
        ({**good, name: torch.full_like(good[name], torch.nan)}, "finite"),
        ({**good, name: good[name][..., None]}, "shape"),
        ({**good, "more": torch.zeros(1)}, "more"),
        ({key: tensor for key, tensor in good.items() if key != name}, "expected those"),
    ):
        with pytest.raises(VersionError, match=expected):
            store.write(spoilt, CALIBRATION, {})
    with pytest.raises(ValueError, match="scale"):
        CovarianceCalibration(float("nan"), 0.0)
    assert not list(store.folder.glob("*.json"))
    with pytest.raises(VersionError, match="train"):
        VersionStore(tmp_path, dataclasses.replace(package, weights_path=None))
    (tmp_path / "file").write_text("")
    with pytest.raises(VersionError, match="cannot be used"):
        VersionStore(tmp_path / "file" / "versions", package)


_WRITER = """
import itertools, sys
from test_versions import CALIBRATION, VersionStore, _weights, load_object_package
package = load_object_package(sys.argv[1])
store = VersionStore(sys.argv[2], package)
print("ready", flush=True)
for shift in itertools.count(1):
    number = store.write(_weights(package, float(shift)), CALIBRATION, {}).number
    print(number, flush=True)
    if number % 5 == 0:
        store.withdraw(number, "each fifth")
"""


def _kill_writers(package: ObjectPackage, folder: Path, writes: int, longest_s: float) -> int:
    """Kill writers at random moments until so many versions were written, while reading; the number of kills."""
    chance = random.Random(writes)
    reader, written, last, kills = VersionStore(folder, package), 0, 0, 0
    while written < writes:
        command = [sys.executable, "-c", _WRITER, str(package.root), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            end = time.monotonic() + chance.uniform(0.0, longest_s)
            while time.monotonic() < end:
                last = _checked(reader.newest(), last)
            process.send_signal(signal.SIGKILL)
            said = [int(line) for line in process.stdout.read().split()]
        kills += 1
        longest_s *= 1.0 if said else 2.0  # a machine so busy that none is written in that time
        found = VersionStore(folder, package).newest()
        number = _checked(found, last)
        assert number >= max((n for n in (last, *said) if n % 5), default=0)  # each fifth may be withdrawn by now
        last, written = number, max([number, *said])
    return kills


def _checked(version: Version | None, last: int) -> int:
    """Every version that is given out is whole and newer than those before, unless that one was withdrawn."""
    if version is None:
        assert last == 0
        return 0
    first = next(iter(read_tensors(version.path, version.sha256)), None)  # raises if the file is not whole
    assert first is not None
    assert version.number >= last or last % 5 == 0
    return version.number


def test_a_killed_writer_leaves_the_newest_good_version(package: ObjectPackage, tmp_path: Path) -> None:
    assert _kill_writers(package, tmp_path, writes=8, longest_s=0.2) >= 1


@pytest.mark.slow
def test_writers_killed_during_200_writes_leave_the_newest_good_version(package: ObjectPackage, tmp_path: Path) -> None:
    assert _kill_writers(package, tmp_path, writes=200, longest_s=1.5) >= 5


def test_no_flipped_bit_of_a_manifest_changes_what_is_used(store: VersionStore, package: ObjectPackage) -> None:
    written = store.write(_weights(package, 0.5), CALIBRATION, {"reason": "test"})
    path = store.folder / "000001.json"
    good = path.read_bytes()
    logging.disable(logging.CRITICAL)
    for place in range(0, 8 * len(good), 5):
        spoilt = bytearray(good)
        spoilt[place // 8] ^= 1 << place % 8
        path.write_bytes(spoilt)
        assert store.newest() in (None, written)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("name", "content"),
    [("000002.json", "[" * 100_000), ("9" * 200 + ".json", "{}"), ("000002.json", '{"number": ' + "9" * 5000 + "}")],
)
def test_strange_manifests_are_passed_over(
    store: VersionStore, package: ObjectPackage, name: str, content: str
) -> None:
    written = store.write(_weights(package, 0.5), CALIBRATION, {"reason": "test"})
    (store.folder / name).write_text(content)
    assert store.newest() == written
    assert store.history()[0]["number"] == 1


def test_a_full_disk_leaves_no_parts_and_rolls_back_in_memory(
    store: VersionStore, package: ObjectPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.write(_weights(package, 0.5), CALIBRATION, {"reason": "test"})
    second = store.write(_weights(package, 0.6), CALIBRATION, {"reason": "test"})
    files = sorted(store.folder.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(VersionError, match="No space left"):
        store.write(_weights(package, 0.7), CALIBRATION, {"reason": "test"})
    assert sorted(store.folder.iterdir()) == files
    assert store.newest() == second
    with pytest.raises(VersionError, match="No space left"):
        store.withdraw(second.number, "worse")
    assert store.newest() == first  # at once, though the disk did not take it
    with pytest.raises(VersionError, match="No space left"):
        store.withdraw_all("reset")
    assert store.newest() is None
    assert sorted(store.folder.iterdir()) == files
    monkeypatch.undo()
    store.withdraw(second.number, "worse")
    assert VersionStore(store.folder, package).newest() == first


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or _mount("-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)):
        pytest.skip("no right to mount a disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def _mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode


def test_on_a_disk_that_is_really_full_and_then_read_only(small_disk: Path, package: ObjectPackage) -> None:
    store = VersionStore(small_disk, package)
    first = store.write(_weights(package, 0.5), CALIBRATION, {"reason": "test"})
    second = store.write(_weights(package, 0.6), CALIBRATION, {"reason": "test"})
    files = sorted(small_disk.iterdir())
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(VersionError, match="No space left"):
        store.write(_weights(package, 0.7), CALIBRATION, {"reason": "test"})
    with pytest.raises(VersionError, match="No space left"):
        store.withdraw(second.number, "worse")
    assert store.newest() == first
    filler.unlink()
    assert sorted(small_disk.iterdir()) == files
    assert VersionStore(small_disk, package).newest() == second  # it could not be made lasting, and that was said
    assert _mount("-o", "remount,ro", str(small_disk)) == 0
    store = VersionStore(small_disk, package)
    with pytest.raises(VersionError, match="Read-only"):
        store.write(_weights(package, 0.7), CALIBRATION, {"reason": "test"})
    with pytest.raises(VersionError, match="Read-only"):
        store.withdraw(second.number, "worse")
    assert store.newest() == first
    assert sorted(small_disk.iterdir()) == files


def test_weights_that_are_not_finite_are_refused_by_the_estimator(
    store: VersionStore, package: ObjectPackage, tmp_path: Path
) -> None:
    weights = _weights(package, 0.0)
    next(tensor for tensor in weights.values() if tensor.is_floating_point()).view(-1)[0] = float("nan")
    path = tmp_path / "weights.safetensors"
    write_tensors(path, weights)
    with pytest.raises(ValueError, match="expected finite numbers"):
        load_networks(dataclasses.replace(package, weights_path=path))


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, package: ObjectPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not taken for one without versions. A test may run as root, who may read all."""

    def forbidden(path: Path) -> Iterator[Path]:
        raise PermissionError(f"Permission denied: '{path}'")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(VersionError, match="cannot be used: Permission denied"):
        VersionStore(tmp_path, package)


def test_a_home_that_no_shell_wrote_out_is_no_folder_of_that_name(
    tmp_path: Path, package: ObjectPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(package.root, tmp_path / "object")
    assert VersionStore("~/versions", load_object_package("~/object")).folder == tmp_path / "versions"
    assert (tmp_path / "versions").is_dir()
    assert not (tmp_path / "~").exists()
