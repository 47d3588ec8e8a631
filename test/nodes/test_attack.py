"""Everything that can arrive at the estimator, spoilt by chance with fixed seeds: nothing ends, stalls or fools it.

A node is a process of its own, as users start it. After every batch of spoilt messages a good image must be answered
with its pose, which also shows that all before it were taken up; no published number may be NaN, no covariance
indefinite, and the process must not grow. ``python -m pytest -m slow test/nodes/test_attack.py``; with
``ATTACK_SHARE=0.05`` a twentieth of it, with ``--log-cli-level=INFO`` the counts. All of it is eight
minutes of CPU time, so four with two workers (``-n 2``) on two cores that nobody else uses.
"""

from __future__ import annotations

import array
import logging
import math
import os
import random
import resource as system
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from pnp_ros.io.encodings import ENCODINGS
from pnp_ros.objects.object_package import ObjectPackage

pytestmark = pytest.mark.slow

logger = logging.getLogger(__name__)
SHARE = float(os.environ.get("ATTACK_SHARE", "1"))
CHEAP = {"estimator.max_passes": 1, "estimator.max_candidates": 1}  # most images that arrive are whole
BATCH, QUEUE = 40, 8  # a service keeps ten requests, and drops more without a word
PAIRS, CORRUPTED, COMPRESSED, CALLS, PARAMETERS = 12_000, 12_000, 6_000, 12_700, 700
GROWTH_MB = 150.0  # of the resident memory, from the first tenth of an attack to its end
HUGE = (0, 1, 2, 7, 239, 241, 319, 321, 65_535, 2**31 - 1, 2**32 - 1)
NUMBERS = (0.0, -1.0, 1e-300, 1e300, 1e9, -1e9, math.nan, math.inf, -math.inf, 300.0, 120.5)
TEXTS = ("", "rgb8", "x" * 5000, "\u00e4\u4e16", "../..", "camera_optical_frame", "/camera_optical_frame", "%s%n", " ")


def _count(full: int) -> int:
    return max(BATCH, round(full * SHARE))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * system.getpagesize() / 1e6


class Attack:
    """Sends, checks what comes back, and that a good image still gets its pose."""

    def __init__(self, probe: Any, process: Any, good: Callable[[int], None]) -> None:
        self.probe, self.process, self._good = probe, process, good
        self.counts: Counter[str] = Counter()
        self._sent_good, self._memory = 0, 0.0

    def go(self, total: int, send: Callable[[int], None]) -> None:
        """``total`` times ``send``, with a good image after every batch."""
        self.alive()
        begin, used = time.process_time(), _cpu_seconds(self.process.pid)
        for index in range(total):
            send(index)
            if index % BATCH == BATCH - 1:
                self.alive()
            if index == total // 10:
                self._memory = _resident_mb(self.process.pid)
        self.alive()
        grown = _resident_mb(self.process.pid) - self._memory
        self.counts |= Counter(sent=total, good=self._sent_good, megabytes_more=max(0, round(grown)))
        seconds = f"{_cpu_seconds(self.process.pid) - used:.1f} and {time.process_time() - begin:.1f}"
        logger.info("%s; CPU time of the node and of the sender: %s s", dict(self.counts), seconds)
        assert grown < GROWTH_MB

    def alive(self) -> None:
        """A good image is answered with a pose; everything that was published since is sound."""
        self._sent_good += 1
        header = self.probe.header(100_000 + self._sent_good)
        self._good(100_000 + self._sent_good)
        objects = self.probe.received["objects"]
        poses = self.probe.received["poses"]
        self.probe.wait(lambda: any(m.header == header for m in objects), what=f"good image {self._sent_good}")
        self.probe.wait(lambda: any(m.header == header for m in poses), what="its pose")
        assert self.process.poll() is None
        self._check()

    def _check(self) -> None:
        received = self.probe.received
        for message in received["poses"]:
            _sound(message.pose)
            self.counts["poses"] += 1
        for message in received["objects"]:
            self.counts["objects"] += 1
            for item in message.objects:
                _sound(item.pose, lost=item.state == item.LOST)
                assert np.isfinite([item.score, *item.box]).all()
        for message in received["tf"]:
            for each in message.transforms:
                place, turn = each.transform.translation, each.transform.rotation
                assert np.isfinite([place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w]).all()
        for message in received["correspondences"]:
            assert np.isfinite(np.array(message.image_points)).all()
        for kept in received.values():
            kept.clear()


def _sound(posed: Any, lost: bool = False) -> None:
    p, q = posed.pose.position, posed.pose.orientation
    assert np.isfinite([p.x, p.y, p.z, q.x, q.y, q.z, q.w]).all()
    covariance = np.array(posed.covariance).reshape(6, 6)
    assert np.isfinite(covariance).all()
    if not lost:
        assert abs(math.hypot(q.x, q.y, q.z, q.w) - 1.0) < 1e-6
        assert (np.diag(covariance) > 0).all()
        scale = np.sqrt(np.diag(covariance))
        assert np.linalg.eigvalsh(covariance / np.outer(scale, scale)).min() > -1e-6


def _pair(probe: Any, index: int) -> tuple[Image, CameraInfo]:
    return probe.image(index), probe.camera_info(index)


# --- spoilt fields ----------------------------------------------------------------------------------------------------


def _spoil_image(image: Image, chance: random.Random) -> None:
    kind = chance.randrange(9)
    if kind == 0:
        image.encoding = chance.choice([*ENCODINGS, *TEXTS, "RGB8", "32FC1", "8SC3", "64FC4"])
    elif kind == 1:
        image.width = chance.choice(HUGE)
    elif kind == 2:
        image.height = chance.choice(HUGE)
    elif kind == 3:
        image.step = chance.choice([*HUGE, 960, 961, 320, 640, 1280])
    elif kind == 4:
        image.data = image.data[: chance.choice([0, 1, 3, 960, chance.randrange(max(1, len(image.data)))])]
    elif kind == 5:
        image.data = array.array("B", chance.randbytes(len(image.data)))
    elif kind == 6:
        image.header.frame_id = chance.choice(TEXTS)
    elif kind == 7:
        image.is_bigendian = chance.choice([1, 255])
        image.encoding = chance.choice(["mono16", "16UC1", "rgb16", "bgra16", "bayer_rggb16"])
    else:
        image.width, image.height = chance.choice([(240, 320), (80, 960), (1, 76_800), (76_800, 1)])
        image.step = 3 * image.width


def _spoil_info(info: CameraInfo, chance: random.Random) -> None:
    kind = chance.randrange(9)
    if kind == 0:
        info.d = [chance.choice(NUMBERS) for _ in range(chance.randrange(20))]
    elif kind == 1:
        info.k[chance.randrange(9)] = chance.choice(NUMBERS)
    elif kind == 2:
        info.p[chance.randrange(12)] = chance.choice(NUMBERS)
    elif kind == 3:
        info.distortion_model = chance.choice(["plumb_bob", "rational_polynomial", "equidistant", "thin_prism", *TEXTS])
        info.d = [chance.uniform(-2.0, 2.0) for _ in range(chance.choice([0, 4, 5, 8, 12, 14]))]
    elif kind == 4:
        info.width, info.height = chance.choice(HUGE), chance.choice(HUGE)
    elif kind == 5:
        info.binning_x, info.binning_y = chance.choice(HUGE), chance.choice(HUGE)
    elif kind == 6:
        roi = info.roi
        roi.x_offset, roi.y_offset, roi.width, roi.height = (chance.choice(HUGE) for _ in range(4))
    elif kind == 7:
        info.header.frame_id = chance.choice(TEXTS)
    else:
        info.r[chance.randrange(9)] = chance.choice(NUMBERS)


def test_spoilt_images_and_camera_infos(start_estimator: Any, package: ObjectPackage, probe: Any) -> None:
    chance = random.Random(1)

    def send(index: int) -> None:
        image, info = _pair(probe, index)
        for _ in range(chance.choice((1, 1, 2, 3))):
            if chance.random() < 0.5:
                _spoil_image(image, chance)
            else:
                _spoil_info(info, chance)
        if chance.random() < 0.05:
            stamp = image.header.stamp = info.header.stamp
            stamp.sec = chance.choice([-(2**31), -1, 0, 2**31 - 1])
            stamp.nanosec = chance.choice([0, 2**32 - 1])
        probe.send(image, info)

    with start_estimator(package.root, **CHEAP) as process:
        probe.wait_until_connected()
        attack = Attack(probe, process, lambda index: probe.send(*_pair(probe, index)))
        attack.go(_count(PAIRS), send)
        assert attack.counts["objects"] >= attack.counts["good"]


# --- corrupted bytes --------------------------------------------------------------------------------------------------


def _corrupted(data: bytes, chance: random.Random) -> bytes:
    spoilt = bytearray(data)
    kind = chance.randrange(6)
    if kind == 0:
        return bytes(spoilt[: chance.randrange(len(spoilt))])
    if kind == 1:
        return bytes(spoilt) + chance.randbytes(chance.randrange(1, 64))
    if kind == 2:
        return chance.randbytes(chance.randrange(64))
    header = min(len(spoilt), 400 if kind == 3 else len(spoilt))  # lengths and names stand in front
    for _ in range(chance.choice((1, 2, 8, 64))):
        place = chance.randrange(header)
        if kind == 5:
            spoilt[place : place + 4] = chance.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"])
        else:
            spoilt[place] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def test_corrupted_messages(start_estimator: Any, package: ObjectPackage, probe: Any) -> None:
    chance = random.Random(2)
    images = probe.node.create_publisher(Image, "/camera/image_raw", QoSProfile(depth=100))
    infos = probe.node.create_publisher(CameraInfo, "/camera/camera_info", QoSProfile(depth=100))

    def send(index: int) -> None:
        image, info = (serialize_message(each) for each in _pair(probe, index))
        if chance.random() < 0.5:
            image = _corrupted(image, chance)
        else:
            info = _corrupted(info, chance)
        images.publish(image)
        infos.publish(info)

    with start_estimator(package.root, **CHEAP) as process:
        probe.wait_until_connected()
        Attack(probe, process, lambda index: probe.send(*_pair(probe, index))).go(_count(CORRUPTED), send)


# --- compressed images ------------------------------------------------------------------------------------------------


def _claims(data: bytes, chance: random.Random) -> bytes:
    """A JPEG whose header claims another size."""
    place = data.find(b"\xff\xc0")
    size = chance.choice([b"\xff\xff\xff\xff", b"\x75\x30\x75\x30", b"\0\1\0\1", b"\0\0\0\0"])
    return data[: place + 5] + size + data[place + 9 :]


def test_compressed_images(start_estimator: Any, package: ObjectPackage, probe: Any) -> None:
    import cv2

    chance = random.Random(3)
    compressed = probe.node.create_publisher(CompressedImage, "/camera/image_raw/compressed", QoSProfile(depth=100))
    infos = probe.node.create_publisher(CameraInfo, "/camera/camera_info", QoSProfile(depth=100))
    formats = (".jpg", ".png", ".bmp", ".webp", ".tif")
    files = [
        [cv2.imencode(suffix, probe.pixels(index)[..., ::-1])[1].tobytes() for suffix in formats] for index in range(8)
    ]

    def publish(index: int, data: bytes, name: str = "jpeg") -> None:
        compressed.publish(CompressedImage(header=probe.header(index), format=name, data=array.array("B", data)))
        infos.publish(probe.camera_info(index))

    def send(index: int) -> None:
        data = chance.choice(files[index % 8])
        kind = chance.random()
        data = _claims(files[index % 8][0], chance) if kind < 0.1 else _corrupted(data, chance)
        publish(index, data, chance.choice(["jpeg", "png", "", "rgb8; jpeg compressed bgr8", *TEXTS]))

    with start_estimator(package.root, image_transport="compressed", **CHEAP) as process:
        probe.wait(compressed.get_subscription_count, 300.0, "an active estimator")
        probe.wait(infos.get_subscription_count, what="it to listen to CameraInfo")
        probe.wait(lambda: probe.node.count_publishers("/pose_estimator/pose"), what="its publishers")
        Attack(probe, process, lambda index: publish(index, files[index % 8][1])).go(_count(COMPRESSED), send)


# --- services and parameters ------------------------------------------------------------------------------------------


def _value(chance: random.Random) -> Any:
    return chance.choice(
        [
            chance.choice(NUMBERS),
            chance.choice([0, 1, -1, 2**62, -(2**63), 257]),
            chance.choice(TEXTS),
            chance.random() < 0.5,
            [],
            [chance.choice(NUMBERS) for _ in range(3)],
            ["keypoints", "x"],
            [True, False],
            [1, 2**62],
            None,
        ]
    )


def _parameter(name: str, value: Any) -> ParameterMsg:
    if value == [] and isinstance(value, list):
        message = ParameterMsg(name=name)
        message.value.type = ParameterType.PARAMETER_DOUBLE_ARRAY
        return message
    return Parameter(name, value=value).to_parameter_msg()


def _all_at_once(probe: Any, calls: list[tuple[Any, Any]]) -> list[Any]:
    answers = [client.call_async(request) for client, request in calls]
    probe.wait(lambda: all(answer.done() for answer in answers), what="all answers")
    return [answer.result() for answer in answers]


def test_services(start_estimator: Any, package: ObjectPackage, probe: Any) -> None:
    chance = random.Random(4)
    inactive = [*range(4), *range(9, 256)]  # all but those that shut down and destroy
    requests: list[tuple[type, str, Callable[[], Any]]] = [
        (Trigger, "reset", Trigger.Request),
        (Trigger, "detect_once", Trigger.Request),
        (SetBool, "enable", lambda: SetBool.Request(data=True)),
        (GetState, "get_state", GetState.Request),
        (GetAvailableTransitions, "get_available_transitions", GetAvailableTransitions.Request),
        (ListParameters, "list_parameters", lambda: ListParameters.Request(prefixes=[chance.choice(TEXTS)], depth=3)),
        (GetParameters, "get_parameters", lambda: GetParameters.Request(names=[chance.choice([*TEXTS, "object"])])),
        (DescribeParameters, "describe_parameters", lambda: DescribeParameters.Request(names=["device", "nothing"])),
        (
            ChangeState,
            "change_state",
            lambda: ChangeState.Request(
                transition=Transition(
                    id=chance.choice(inactive) if chance.random() < 0.98 else Transition.TRANSITION_DEACTIVATE,
                    label=chance.choice([*TEXTS, "activate"]),
                )
            ),
        ),
    ]
    with start_estimator(package.root, **CHEAP) as process:
        probe.wait_until_connected()
        clients = [probe.node.create_client(kind, f"/pose_estimator/{name}") for kind, name, _ in requests]
        assert all(client.wait_for_service(timeout_sec=60.0) for client in clients)
        changing = clients[-1]
        waiting: list[tuple[Any, Any]] = []

        def up_again() -> None:
            for start in range(0, len(waiting), QUEUE):
                _all_at_once(probe, waiting[start : start + QUEUE])
            waiting.clear()
            for step in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                _all_at_once(probe, [(changing, ChangeState.Request(transition=Transition(id=step)))])
            probe.wait_until_connected()

        def good(index: int) -> None:
            up_again()
            probe.send(*_pair(probe, index))

        def send(index: int) -> None:
            number = chance.randrange(len(requests))
            waiting.append((clients[number], requests[number][2]()))

        Attack(probe, process, good).go(_count(CALLS), send)
        for client in clients:
            probe.node.destroy_client(client)


def test_parameters(start_estimator: Any, package: ObjectPackage, probe: Any) -> None:
    chance = random.Random(5)
    with start_estimator(package.root, **CHEAP) as process:
        probe.wait_until_connected()
        names = list(probe.call(ListParameters, "list_parameters", ListParameters.Request()).result.names)
        before = probe.call(GetParameters, "get_parameters", GetParameters.Request(names=names)).values
        client = probe.node.create_client(SetParameters, "/pose_estimator/set_parameters")
        accepted: set[str] = set()

        def good(index: int) -> None:
            kept = [ParameterMsg(name=n, value=v) for n, v in zip(names, before, strict=True) if n in accepted]
            (answer,) = _all_at_once(probe, [(client, SetParameters.Request(parameters=kept))])
            assert all(result.successful for result in answer.results), answer.results
            accepted.clear()
            probe.send(*_pair(probe, index))

        def send(index: int) -> None:
            name = chance.choice([*names, "nothing", ""])
            changed = _parameter(name, _value(chance))
            (answer,) = _all_at_once(probe, [(client, SetParameters.Request(parameters=[changed]))])
            for result in answer.results:
                if result.successful:
                    accepted.add(name)
                    value = changed.value
                    assert not math.isnan(value.double_value), name
                else:
                    assert result.reason, name
            probe.send(*_pair(probe, index))

        Attack(probe, process, good).go(_count(PARAMETERS), send)
        probe.node.destroy_client(client)
