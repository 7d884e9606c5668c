"""What the proof cannot see: whether the small model runs in its own precision."""

import pytest
import torch
from torch import nn

import pomona
from pomona.vocabulary import InputError


class WantsEven(nn.Module):
    """Like kernels that ask for aligned rows, but only below float64."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.first(x).relu()
        if h.dtype == torch.float32 and h.shape[1] % 2:
            raise RuntimeError("strides must be even")
        return self.last(h)


def test_widths_that_no_kernel_takes_are_refused_with_what_would_do():
    model, x = WantsEven().eval(), torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    wish = {"method": "magnitude", "structure": "neurons", "goal": "params=0.9x", "latency": False}
    with pytest.raises(InputError, match=r"strides must be even.*multiple"):
        pomona.prune(model, x, **wish)
    assert pomona.prune(model, x, limits=pomona.Limits(multiple=2), **wish).report.proof.passed


def test_a_dear_model_is_run_on_other_inputs_only_where_it_is_timed_anyway(monkeypatch):
    monkeypatch.setattr("pomona.face.carry_out.DEAR", 1)
    model, x = WantsEven().eval(), torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    wish = {"method": "magnitude", "structure": "neurons", "goal": "params=0.9x"}
    found = pomona.prune(model, x, **wish, latency=False).report.proof
    assert found.passed and found.sensitivity is None and "was not tried" in found.notes[0]
    with pytest.raises(InputError, match=r"strides must be even"):
        pomona.prune(model, x, **wish, latency={"rounds": 1})
