"""What the bag of a run of the nodes says: what became of every image, and how old the poses were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pnp_ros.evaluation.evaluator import Evaluation, check_truth, evaluate_one
from pnp_ros.evaluation.frames import FrameSource, open_bag
from pnp_ros.evaluation.report import measure
from pnp_ros.evaluation.told import recorded
from pnp_ros.evaluation.truth import TruthOf, load_recorded
from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.result import ObjectState

POSE, OBJECTS, DIAGNOSTICS = "/pose_estimator/pose", "/pose_estimator/objects", "/diagnostics"
_STATUS = "pose_estimator: pose"
_COUNTS = {  # in /diagnostics: here
    "images received": "received",
    "images taken up": "taken_up",
    "images dropped for newer ones": "dropped_for_newer_ones",
    "images skipped": "skipped",
    "images without CameraInfo": "without_camera_info",
    "messages lost on the way": "reported_lost_on_the_way",
    "errors": "errors",
}


def evaluate_run(
    source: FrameSource, image: str, package: ObjectPackage, truth_of: TruthOf | None
) -> tuple[Evaluation, dict[str, dict[str, Any]]]:
    """The evaluation of the poses that lie in the images' own bag, and what became of the images: as the bag shows
    it (``run``), and as the estimator counted it (``in_diagnostics``).

    Args:
        source: the bag.
        image: topic of the images.
        package: of the object.
        truth_of: the true poses, where they are known.

    Raises:
        ValueError: if they are known in no image.
    """
    bag = source.path
    with open_bag(bag) as reader:
        counts = reader.counts
    found = load_recorded(OBJECTS, bag, since=image) if OBJECTS in counts else {}
    done = evaluate_one(source.frames(), package, recorded(found, package.name), truth_of)
    if truth_of is not None:
        check_truth(done.records)
    published = load_recorded(POSE, bag) if POSE in counts else {}
    figures: dict[str, Any] = {
        "images_recorded": len(done.records),
        "images_processed": len(found),
        "poses_published": counts.get(POSE, 0),
        "poses_with_the_stamp_of_a_image": len(published.keys() & set(done.stamps_ns)),
    }
    processed = [record for record in done.records if record.state is not ObjectState.DROPPED]
    accuracy = measure(processed, package)[0]["accuracy"] if truth_of is not None else None
    if accuracy is not None:
        figures["recall_10_percent_of_processed"] = accuracy["recall_10_percent"]
    return done, {"run": figures, "in_diagnostics": counted_by_the_node(bag)}


def counted_by_the_node(bag: Path) -> dict[str, int]:
    """The last counts of images that the estimator published; empty where the bag has none."""
    last: Mapping[str, str] = {}
    with open_bag(bag) as reader:
        if DIAGNOSTICS not in reader.counts:
            return {}
        for _, _, message in reader.messages(DIAGNOSTICS):
            for status in message.status:
                if status.name.endswith(_STATUS):
                    last = {value.key: value.value for value in status.values}
    return {name: int(last[key]) for key, name in _COUNTS.items() if key in last}
