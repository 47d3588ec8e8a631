"""Real images: corners of chessboards, and matches of a video, where they are at hand."""

from __future__ import annotations

import pytest

import real_solves
from compared_solvers import Answers, one_by_one, solve_poselib
from pnp_ros.solvers.pnp import solve_pnp
from synthetic.problems import Problems

FOLDER = real_solves.SHARED
pytestmark = pytest.mark.skipif(not (FOLDER / "chessboard").is_dir(), reason=f"no recordings in {FOLDER}")


def ours(problems: Problems) -> Answers:
    estimate = solve_pnp(problems.correspondences(), problems.lens.camera())
    return Answers(estimate.pose, estimate.usable.numpy(), 0.0)


@pytest.mark.parametrize(("few", "swapped"), [(8, 0), (20, 8), (30, 15)])
def test_some_corners_of_a_board_and_swapped_ones(few: int, swapped: int) -> None:
    real = real_solves.chessboard_set(FOLDER / "chessboard", few, swapped, repeats=10)
    answers = ours(real.problems)
    near = real_solves.near(real.problems, answers.pose)
    assert (answers.usable & near).mean() > 0.98
    assert not (answers.usable & ~near).any()


def test_matches_of_a_video() -> None:
    solvers = {"ours": ours, "PoseLib": one_by_one(solve_poselib)}
    real = real_solves.video_set(FOLDER / "cookie_box", 0.8, solvers, every=15)
    assert real.solvable.sum() > 20
    answers = ours(real.problems)
    near = real_solves.near(real.problems, answers.pose)[real.solvable]
    usable = answers.usable[real.solvable]
    assert (usable & near).mean() > 0.95
    assert (usable & ~near).sum() <= 1  # of a box whose sides are flat
