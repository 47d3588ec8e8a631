"""A bounded collection of examples that keeps what differs and lets go of what repeats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pnp_ros.adaptation.examples.example import Example

_BLOCK_NS = 2_000_000_000  # images of one such stretch of time look alike: they are kept apart from the others whole
_HELD_BACK_EVERY = 4  # of these stretches, one is held back


class ReplayBuffer:
    """Examples to learn from, and others that are held back to check with.

    Which of both an example is for follows from its time alone. When one side is full, of the two examples that are
    most alike the older one goes.

    Args:
        capacity: most examples to learn from.
        held_back: most examples that are held back.
    """

    def __init__(self, capacity: int, held_back: int) -> None:
        self._learnt = _Side(capacity)
        self._held_back = _Side(held_back)
        self.added = 0

    @property
    def learnt(self) -> list[Example]:
        """To learn from."""
        return self._learnt.examples

    @property
    def held_back(self) -> list[Example]:
        """To check with."""
        return self._held_back.examples

    def __len__(self) -> int:
        return len(self.learnt) + len(self.held_back)

    def add(self, example: Example) -> None:
        """Keep an example; another one may go for it."""
        side = self._held_back if is_held_back(example.stamp_ns) else self._learnt
        side.add(example)
        self.added += 1

    def change(self, changed: Callable[[Example], Example]) -> None:
        """Put in each example's place what is made of it."""
        for side in (self._learnt, self._held_back):
            side.examples = [changed(example) for example in side.examples]

    def clear(self) -> None:
        """Forget all."""
        for side in (self._learnt, self._held_back):
            side.clear()


def is_held_back(stamp_ns: int) -> bool:
    """Whether an image of this time is one to check with."""
    return (stamp_ns // _BLOCK_NS) % _HELD_BACK_EVERY == _HELD_BACK_EVERY - 1


class _Side:
    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.examples: list[Example] = []
        self._features: list[NDArray[np.float64]] = []

    def add(self, example: Example) -> None:
        self.examples.append(example)
        self._features.append(view_features(example))
        if len(self.examples) > self._capacity:
            features = np.stack(self._features)
            distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
            np.fill_diagonal(distances, np.inf)
            older = min(np.unravel_index(int(distances.argmin()), distances.shape))
            del self.examples[older], self._features[older]

    def clear(self) -> None:
        self.examples.clear()
        self._features.clear()


def view_features(example: Example) -> NDArray[np.float64]:
    """(9,) what makes two images different: the object's orientation, distance and place, and the light on it.

    A radian, a factor of e in distance, a third of the frame and a third of the brightness weigh about the same.
    """
    rotation, translation = example.pose.rotation.double().numpy(), example.pose.translation.double().numpy()
    place = (example.box[:2] + example.box[2:] / 2).numpy() / np.array(example.frame.shape[1::-1])
    towards_camera = -rotation.T @ translation / np.linalg.norm(translation)
    brightness = 3.0 * float(example.window[::4, ::4].mean()) / 255.0
    return np.array([*towards_camera, *rotation[:2, 0], np.log(translation[2]), *(3.0 * place), brightness])
