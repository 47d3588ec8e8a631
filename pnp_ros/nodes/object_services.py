"""Objects added and removed while the node works: ``~/add_object``, ``~/remove_object``."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

from pnp_ros.nodes.lifecycle import ManagedNode
from pnp_ros.objects.object_package import load_object_package
from pnp_ros.pipeline.estimator import PoseEstimator
from pnp_ros.pipeline.scene import Scene
from pnp_ros.srv import AddObject, RemoveObject

_MOST = 64  # instances that anybody on the network can ask for


class Host(Protocol):
    """What the services need of the node; all of it is called by its executor."""

    @property
    def scene(self) -> Scene | None:
        """The objects; None while the node is not configured."""

    @property
    def instances(self) -> int:
        """Of an object, where the request does not say."""

    def single(self) -> str:
        """What the node was asked for that only one object can have, in words; else empty."""

    def change(self, how: Callable[[Scene], object], back: Callable[[Scene], object]) -> Mapping[str, str]:
        """Change the scene between two images; the topic of each instance then.

        Where its outputs cannot be made, ``back`` undoes the change, and the error is raised again.
        """


class ObjectServices:
    """Adds and removes objects; what cannot be done is said in the answer, and changes nothing.

    Networks and features are loaded on a thread of their own, so that images are processed meanwhile.
    """

    def __init__(self, node: ManagedNode, host: Host) -> None:
        self._node, self._host = node, host
        self._loading = ""
        group = MutuallyExclusiveCallbackGroup()  # of its own: else nothing is served while it waits
        node.create_service(AddObject, "~/add_object", self._on_add, callback_group=group)
        node.create_service(RemoveObject, "~/remove_object", self._on_remove)

    async def _on_add(self, request: AddObject.Request, response: AddObject.Response) -> AddObject.Response:
        scene, single = self._host.scene, self._host.single()
        if scene is None:
            response.message = f"not configured: {self._node.lifecycle_state}"
        elif single:
            response.message = f"{single}: expected nothing with several objects"
        elif not request.folder:
            response.message = "folder: expected that of an object package, got nothing"
        elif len(scene.estimators) + (count := request.instances or self._host.instances) > _MOST:
            response.message = f"instances: expected {_MOST} of all objects at most, got {count} more"
        elif self._loading:
            response.message = f"{self._loading} is being loaded, try again after it"
        else:
            await self._add(scene, request, response)
        return self._answered(response)

    async def _add(self, scene: Scene, request: AddObject.Request, response: AddObject.Response) -> None:
        outcome: list[dict[str, PoseEstimator] | str] = []

        def load() -> None:
            try:
                package = load_object_package(request.folder)
                outcome.append(scene.prepare(package, request.instances or self._host.instances))
            except Exception as error:  # whatever it is, the caller is told
                outcome.append(_words(error))
            if self._node.executor is not None:
                self._node.executor.wake()

        self._loading = request.folder
        threading.Thread(target=load, name="loading", daemon=True).start()
        try:
            while not outcome:
                await _others_first()
        finally:
            self._loading = ""
        (prepared,) = outcome
        if isinstance(prepared, str):
            response.message = prepared
            return
        if self._host.scene is not scene:
            response.message = "the node was cleaned up meanwhile"
            return
        (name,) = {estimator.package.name for estimator in prepared.values()}
        try:
            topics = self._host.change(lambda scene: scene.include(prepared), lambda scene: scene.remove(name))
        except Exception as error:  # whatever it is, the node goes on without the object
            response.message = _words(error)
            return
        response.success, response.message = True, f"{', '.join(prepared)}: searched from the next image on"
        response.object_ids, response.topics = list(prepared), [topics[name] for name in prepared]

    def _on_remove(self, request: RemoveObject.Request, response: RemoveObject.Response) -> RemoveObject.Response:
        if (scene := self._host.scene) is None:
            response.message = f"not configured: {self._node.lifecycle_state}"
            return self._answered(response)
        name = request.object_name
        gone = {each: found for each, found in scene.estimators.items() if found.package.name == name}
        try:
            self._host.change(lambda scene: scene.remove(name), lambda scene: scene.include(gone))
            response.success = True
        except Exception as error:  # whatever it is, the node goes on with the object
            response.message = f"object_{_words(error)}" if not gone else _words(error)
        return self._answered(response)

    def _answered(self, response: Any) -> Any:
        log = self._node.get_logger()
        if not response.success:
            log.warning(response.message)
        elif response.message:
            log.info(response.message)
        return response


def _words(error: Exception) -> str:
    """What an error says to the caller."""
    return str(error) if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {error}"


@types.coroutine
def _others_first() -> Generator[None, None, None]:
    """Let the executor serve the others, and come back when it is woken by anything."""
    yield
