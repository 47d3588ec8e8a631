import pytest

from pnp_ros.evaluation.time_blocks import TimeBlocks


def test_every_third_block_of_time_is_held_out() -> None:
    blocks = TimeBlocks.of(range(0, 900, 10), 9)
    held_out = [stamp // 10 for stamp in range(0, 900, 10) if blocks.is_held_out(stamp)]
    assert held_out == [*range(20, 30), *range(50, 60), *range(80, 90)]
    halves = TimeBlocks.of([0, 99], 2)
    assert [halves.is_held_out(stamp) for stamp in (0, 49, 50, 99)] == [False, False, True, True]


def test_wrong_blocks_are_named() -> None:
    for stamps, count in (([0, 10], 1), ([5], 3), ([], 3)):
        with pytest.raises(ValueError, match="blocks"):
            TimeBlocks.of(stamps, count)
