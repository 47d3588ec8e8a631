import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pnp_ros.training.distributed import Group, process_device
from pnp_ros.training.optimisation import Batch, Phase, PhaseConfig, Progress, learning_rate

torch.set_num_threads(1)
CPU = torch.device("cpu")


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(1.0, share / 100) for share in range(101)]
    assert rates[0] < 0.1
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert all(after <= before for before, after in itertools.pairwise(rates[3:]))


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))


def _step(network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
    loss = (network(batch["images"]).float() - batch["target"]).square().mean()
    return loss, {"loss": loss.detach()}


def _batches() -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(1)
    while True:
        images = torch.rand(8, 1, 8, 8, generator=generator)
        yield {"images": images, "target": 2.0 * images - 0.5}


def _phase(folder: Path, seconds: float, clock: Callable[[], float] = time.monotonic) -> Phase:
    return Phase(_network(), _step, PhaseConfig("toy", seconds, 2e-2), folder, CPU, Group(CPU), clock)


def test_phase_learns_within_its_budget(tmp_path: Path) -> None:
    clock = itertools.count()  # a step takes 10 ms, on every machine and under any load
    seen: list[Progress] = []
    phase = _phase(tmp_path, 4.0, lambda: 0.01 * next(clock))
    network = phase.run(_batches(), seen.append)
    assert phase.finished
    assert phase.steps == pytest.approx(400, abs=1)
    assert seen[-1].seconds > 3.9
    assert seen[-1].figures["loss"] < 0.2 * seen[0].figures["loss"]
    batch = next(_batches())
    assert float(_step(network, batch, 1.0)[0]) < 0.05  # the averaged weights, in eval mode
    assert not network.training


def test_interrupted_phase_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Batch]:
        for index, batch in enumerate(_batches()):
            if index == 20:
                raise KeyboardInterrupt
            yield batch

    first = _phase(tmp_path, 60.0)
    with pytest.raises(KeyboardInterrupt):
        first.run(interrupted(), lambda _: None)
    resumed = _phase(tmp_path, 60.0)
    assert resumed._steps == 20
    assert 0.0 < resumed._seconds < 60.0
    for kept, again in zip(first.network.state_dict().values(), resumed.network.state_dict().values()):
        torch.testing.assert_close(kept, again)
    moments = [phase._optimizer.state_dict()["state"] for phase in (first, resumed)]
    torch.testing.assert_close(moments[0][0]["exp_avg_sq"], moments[1][0]["exp_avg_sq"])
    assert float(moments[1][0]["step"]) == 20


def test_a_bad_batch_leaves_the_weights_alone(tmp_path: Path) -> None:
    def bad() -> Iterator[Batch]:
        batch = next(_batches())
        yield {"images": batch["images"], "target": torch.full_like(batch["target"], float("nan"))}
        raise KeyboardInterrupt

    phase = _phase(tmp_path, 60.0)
    with pytest.raises(KeyboardInterrupt):
        phase.run(bad(), lambda _: None)
    assert all(bool(torch.isfinite(value).all()) for value in phase.average.parameters())
    torch.testing.assert_close(phase.network[0].weight, _network()[0].weight)


@pytest.mark.parametrize("name", ["gpu", "cuda"])
def test_missing_device_is_refused(name: str) -> None:
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(ValueError, match="device"):
        process_device(name)
