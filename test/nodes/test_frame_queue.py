import threading

from pnp_ros.nodes.frame_queue import FrameQueue


def test_image_and_info_pair_by_stamp_in_either_order() -> None:
    queue = FrameQueue(keep_all=True)
    queue.put_image(1, "image 1")
    queue.put_info(2, "info 2")
    queue.put_info(1, "info 1")
    queue.put_image(2, "image 2")
    assert queue.get() == ("image 1", "info 1")
    assert queue.get() == ("image 2", "info 2")
    assert (queue.counts.received, queue.counts.paired, queue.counts.dropped) == (2, 2, 0)


def test_newest_first_drops_and_counts() -> None:
    queue = FrameQueue(keep_all=False)
    for stamp in range(5):
        queue.put_info(stamp, stamp)
        queue.put_image(stamp, stamp)
    assert queue.get() == (4, 4)
    assert (queue.counts.received, queue.counts.dropped) == (5, 4)
    assert queue.counts.received == queue.counts.taken + queue.counts.dropped


def test_images_without_info_are_counted_once_given_up() -> None:
    queue = FrameQueue(keep_all=True)
    for stamp in range(25):
        queue.put_image(stamp, stamp)
    assert queue.counts.paired == 0
    assert queue.counts.unpaired == 25 - 10
    queue.put_info(0, "too late")
    assert queue.counts.paired == 0


def test_close_ends_a_waiting_reader() -> None:
    queue = FrameQueue(keep_all=False)
    got: list[object] = ["nothing yet"]
    reader = threading.Thread(target=lambda: got.append(queue.get()))
    reader.start()
    queue.close()
    reader.join(timeout=60.0)
    assert not reader.is_alive()
    assert got[-1] is None
