"""Training calculates with whatever this machine is faster with, and says which."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from pnp_ros.networks import precision
from pnp_ros.networks.precision import chosen, training_precision

CPU = torch.device("cpu")


def test_the_faster_one_is_chosen_and_float32_where_it_matters_little() -> None:
    assert chosen(1.0, 0.4, "").dtype == torch.bfloat16
    assert chosen(1.0, 0.95, "").dtype == torch.float32
    assert chosen(1.0, 10.0, "").dtype == torch.float32


@pytest.mark.parametrize(("single", "half", "expected"), [(1.0, 0.4, torch.bfloat16), (1.0, 8.0, torch.float32)])
def test_a_step_is_made_in_the_chosen_type(
    monkeypatch: pytest.MonkeyPatch, single: float, half: float, expected: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "seconds", lambda dtype: single if dtype == torch.float32 else half)
    precision._measured.cache_clear()
    try:
        found = training_precision(CPU)
    finally:
        precision._measured.cache_clear()
    with found.autocast(CPU):
        assert torch.nn.Linear(4, 4)(torch.ones(1, 4)).dtype == expected
    assert str(found).startswith(str(expected).removeprefix("torch."))


def test_asking_leaves_the_seed_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    precision.seconds(torch.float32)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the variables stand in for older x86 processors")
def test_a_processor_without_bfloat16_trains_in_float32() -> None:
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from pnp_ros.networks.precision import training_precision\n"
        "print(training_precision(torch.device('cpu')))"
    )
    older = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    said = subprocess.run([sys.executable, "-c", code], env=older, capture_output=True, text=True, check=True).stdout
    assert said.startswith("float32 (bfloat16 is 0.")
