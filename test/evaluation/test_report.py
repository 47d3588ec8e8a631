"""The report's figures on a run whose figures are known beforehand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pnp_ros.evaluation.report import summarise, table
from pnp_ros.geometry import se3, so3
from pnp_ros.pipeline.result import FrameResult, ObjectState
from pnp_ros.types import Pose

POINTS = 0.05 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
DIAMETER = 0.2
TRUTH = Pose(so3.exp(torch.tensor([0.3, 0.2, 0.1])), torch.tensor([0.0, 0.1, 0.7]))
COV = torch.diag(torch.tensor([1e-6] * 3 + [1e-4] * 3))


def moved(metres: float, state: ObjectState = ObjectState.VALID, **fields: object) -> FrameResult:
    """An estimate off by a shift along x: ADD is the shift."""
    estimate = se3.retract(TRUTH, torch.tensor([metres, 0.0, 0.0, 0.0, 0.0, 0.0]))
    record = FrameResult(state, estimate, COV, TRUTH, latency={"network": 0.01, "solve": 0.002}, ncc=0.8)
    return replace(record, **fields)  # type: ignore[arg-type]


def run() -> list[FrameResult]:
    return [
        *[moved(0.001)] * 6,  # 0.5 % of the diameter, NEES 1
        *[moved(0.015)] * 2,  # 7.5 %, NEES 225
        moved(0.1, ncc=0.2),  # 50 %: valid, and wrong
        moved(0.001, ObjectState.UNCERTAIN),  # good, but not given out
        FrameResult(ObjectState.LOST, truth=TRUTH),
        replace(moved(0.001), truth=None, visible=False),  # a pose of nothing
        FrameResult(ObjectState.LOST, visible=False),
    ]


def test_the_figures_of_a_known_run() -> None:
    summary = summarise(run(), POINTS, DIAMETER)
    assert summary["frames"] == {"total": 13, "visible": 11, "valid": 10, "uncertain": 1, "lost": 2}
    accuracy = summary["accuracy"]
    assert accuracy["metric"] == "ADD"
    assert accuracy["recall_5_percent"] == pytest.approx(6 / 11)
    assert accuracy["recall_10_percent"] == pytest.approx(8 / 11)
    assert accuracy["recall_5cm_5deg"] == pytest.approx(8 / 11)
    assert accuracy["auc_10_percent"] == pytest.approx((6 * 0.95 + 2 * 0.25) / 11, abs=1e-4)
    assert accuracy["translation_mm"]["median"] == pytest.approx(1.0, abs=1e-3)
    assert accuracy["translation_mm"]["p90"] == pytest.approx(
        np.quantile([1.0] * 6 + [15.0] * 2 + [100.0], 0.9), rel=1e-4
    )
    assert accuracy["rotation_deg"]["median"] == pytest.approx(0.0, abs=1e-4)
    assert accuracy["add_percent"]["median"] == pytest.approx(0.5, abs=1e-3)
    assert summary["false_poses"] == {"valid_while_not_visible": 1, "valid_beyond_10_percent": 1}


def test_consistency_overlap_and_latency() -> None:
    summary = summarise(run(), POINTS, DIAMETER)
    consistency = summary["consistency"]
    mean = (6 * 1 + 2 * 225 + 10000) / 9
    assert consistency["count"] == 9
    assert consistency["mean_nees"] == pytest.approx(mean, rel=1e-3)
    assert consistency["anees"] == pytest.approx(mean / 6, rel=1e-3)
    assert consistency["coverage"] == {level: pytest.approx(6 / 9) for level in ("0.5", "0.9", "0.95")}
    low, high = consistency["coverage_0.9_bounds_95"]
    assert low < 6 / 9 < high
    assert consistency["factor_that_covers_0.9"] > 10  # the largest of nine
    reach = math.sqrt(10.645)  # sigmas, of six degrees of freedom
    expected = {"translation_mm": reach, "rotation_deg": math.degrees(0.01 * reach)}
    assert consistency["region_0.9"] == pytest.approx(expected, rel=1e-3)
    low, high = consistency["mean_nees_bounds_95"]
    assert low < 6 < high
    assert summary["overlap"]["share_of_all_frames"] == pytest.approx(9 / 13)
    assert summary["overlap"]["share_of_valid_poses"] == pytest.approx(9 / 10)
    assert list(summary["latency_ms"]) == ["network", "solve"]
    assert summary["latency_ms"]["network"] == pytest.approx({"median": 10.0, "p99": 10.0})


def test_symmetric_objects_are_measured_with_adds() -> None:
    half_turn = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    half_turn[1, :3, :3] = so3.exp(torch.tensor([0.0, 0.0, math.pi], dtype=torch.float64))
    points = torch.cat([POINTS, POINTS * torch.tensor([-1.0, -1.0, 1.0])])
    turned = se3.compose(Pose(TRUTH.rotation.double(), TRUTH.translation.double()), Pose.from_matrix(half_turn[1]))
    records = [FrameResult(ObjectState.VALID, turned, COV, TRUTH)]
    assert summarise(records, points, DIAMETER)["accuracy"]["recall_10_percent"] == 0.0
    accuracy = summarise(records, points, DIAMETER, half_turn)["accuracy"]
    assert accuracy["metric"] == "ADD-S"
    assert accuracy["recall_5_percent"] == 1.0
    assert accuracy["rotation_deg"]["median"] == pytest.approx(0.0, abs=1e-3)


def test_an_invalid_covariance_is_counted_and_spoils_nothing() -> None:
    consistency = summarise([moved(0.001), moved(0.001, covariance=torch.zeros(6, 6))], POINTS, DIAMETER)["consistency"]
    assert consistency["invalid_covariances"] == 1
    assert consistency["mean_nees"] == pytest.approx(1.0, rel=1e-3)
    assert consistency["coverage"]["0.95"] == 0.5


@pytest.mark.parametrize(
    "records",
    [
        [],
        [FrameResult(ObjectState.LOST, truth=TRUTH)],
        [FrameResult(ObjectState.VALID, TRUTH, ncc=0.7)],
        [FrameResult(ObjectState.LOST)],
        run(),
    ],
    ids=["nothing", "only missed", "no truth", "no truth, lost", "run"],
)
def test_every_summary_is_strict_json_and_prints(records: list[FrameResult]) -> None:
    summary = summarise(records, POINTS, DIAMETER)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    lines = table(summary).splitlines()
    assert any(line.startswith("frames / total") and line.endswith(f"  {len(records)}") for line in lines)


def test_table_shows_every_figure() -> None:
    text = table(summarise(run(), POINTS, DIAMETER))
    for part in ("accuracy / recall 10 percent", "0.7273", "latency ms / solve / p99", "coverage / 0.95", " .. "):
        assert part in text


def test_what_no_truth_tells_is_not_claimed() -> None:
    summary = summarise(
        [FrameResult(ObjectState.VALID, TRUTH, ncc=0.7), FrameResult(ObjectState.LOST)], POINTS, DIAMETER
    )
    assert summary["false_poses"] is None
    assert "visible" not in summary["frames"]
    assert summary["accuracy"] is None
