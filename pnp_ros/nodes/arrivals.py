"""What the counts of the arriving images say that their publisher, or a user, should change."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from pnp_ros.nodes.frame_queue import FrameCounts

_WINDOW = 4  # reports that are looked back on
_NOTABLE_SHARE, _NOTABLE_COUNT = 0.2, 3

STANDING_STAMPS = "image.header.stamp: expected the time when each image was taken, got the same again and again"
PROFILE_HINT = (
    "start the camera driver with FASTRTPS_DEFAULT_PROFILES_FILE={profile}: it is the publisher's profile that decides"
)


class Arrivals:
    """Watches the counts from report to report.

    Args:
        profile: path of the Fast DDS profile that a driver should be started with.
        keeps_info: the last CameraInfo is used for every image.
    """

    def __init__(self, profile: str, keeps_info: bool) -> None:
        self._hint = PROFILE_HINT.format(profile=profile)
        self._keeps_info = keeps_info
        self._past: deque[FrameCounts] = deque(maxlen=_WINDOW)

    def warning(self, counts: FrameCounts) -> str:
        """What went wrong during the last reports, with what helps; empty if nothing did."""
        past = self._past[0] if self._past else FrameCounts()
        self._past.append(replace(counts))
        paired, missing = counts.paired - past.paired, counts.announced - past.announced
        unpaired, received = counts.unpaired - past.unpaired, counts.received - past.received
        if received and not counts.infos:
            return "images arrive, but no CameraInfo at all: is its topic right?"
        if counts.repeated - past.repeated >= _NOTABLE_COUNT:
            return STANDING_STAMPS
        never_paired = received and not counts.paired
        if not self._keeps_info and (never_paired or (unpaired >= _NOTABLE_COUNT and not paired)):
            return "no CameraInfo has the stamp of an image; if it is published once, set keep_camera_info"
        if missing >= _NOTABLE_COUNT and not received:
            return f"CameraInfo arrives, but no image: is its topic right? If it is, {self._hint}"
        share = missing / max(missing + paired, 1)
        if missing >= _NOTABLE_COUNT and share >= _NOTABLE_SHARE:
            return f"{share:.0%} of the images that a CameraInfo came for did not arrive; {self._hint}"
        lost = counts.lost - past.lost
        if lost >= _NOTABLE_COUNT and lost >= _NOTABLE_SHARE * max(received + lost, 1):
            return f"{lost} messages were lost on the way; {self._hint}"
        return ""
