import argparse
from pathlib import Path

import numpy as np
import pytest

from pnp_ros.cameras.camera import Camera
from pnp_ros.cli import train
from pnp_ros.cli.real_images import keep_backgrounds, report
from pnp_ros.evaluation.frames import Frame, FrameSource
from pnp_ros.io.images import read_images
from pnp_ros.io.resources import resource
from pnp_ros.objects.object_package import load_object_package, write_object_package

CAMERA = Camera.pinhole(330.0, 330.0, 159.5, 119.5, 320, 240)


def _source(count: int, width: int = 320, height: int = 240) -> FrameSource:
    def frames():
        image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        for index in range(count):
            yield Frame(index, index, image, CAMERA)

    return FrameSource(Path("place"), "images", frames, lambda: count)


def test_backgrounds_are_kept_smaller_and_only_once(tmp_path):
    folder = keep_backgrounds(_source(301, 1000, 50), tmp_path)
    files = sorted(folder.iterdir())
    assert len(files) == 150
    (_, first) = next(iter(read_images(files[0])))
    assert first.shape == (40, 800, 3)
    assert keep_backgrounds(_source(3), tmp_path) == folder
    assert len(list(folder.iterdir())) == 150
    with pytest.raises(ValueError, match="--real: place holds no image"):
        keep_backgrounds(_source(0), tmp_path / "none")


def test_the_report_says_what_the_images_give(tmp_path):
    demo = load_object_package(resource("config/objects/demo"))
    package = write_object_package(
        tmp_path / "boat", name="boat", mesh=demo.mesh, keypoints=demo.keypoints, network=demo.network,
        detector=demo.detector, weights=demo.weights_path, calibration=demo.calibration,
    )  # fmt: skip
    lines = report(_source(2), package, "cpu")
    assert "place" in lines[0]
    assert lines[1] == "0 of 2 images have a valid pose"
    assert (tmp_path / "boat" / "real.jpg").is_file()


def test_backgrounds_come_from_one_place(tmp_path):
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    words = ["mug.obj", "--out", str(tmp_path), "--real", "video.mp4", "--backgrounds", str(tmp_path)]
    with pytest.raises(ValueError, match="--real: gives the backgrounds"):
        train.run(parser.parse_args(words))
