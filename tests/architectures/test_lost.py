"""Products that the trace does not follow to their matrices are found in its program."""

import pytest
import torch
from torch.nn import functional as F

from pomona.graph import survey
from pomona.vocabulary import InputError


class Picked(torch.nn.Module):
    """Experts of one stack, picked one by one; with `split` rows are shared out by numbers that are read from the data."""

    def __init__(self, split):
        super().__init__()
        self.weight, self.split = torch.nn.Parameter(torch.randn(2, 3, 4)), split

    def forward(self, x, sizes):
        parts = x.split(sizes.tolist() if self.split else [1, 2])
        return torch.cat([F.linear(part, self.weight[i]) for i, part in enumerate(parts)])


class Rescaled(torch.nn.Module):
    """A layer whose matrix is written to first, as RWKV does."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)

    def forward(self, x):
        with torch.no_grad():
            self.fc.weight.div_(1)
        return self.fc(x)


def test_stacks_that_are_picked_from_are_stacks():
    weight = survey(Picked(False).eval(), (torch.randn(3, 4), torch.tensor([1, 2]))).weights["weight"]
    assert (weight.kind, weight.out_dim, weight.in_dim, weight.stack) == ("linear", 1, 2, 2)


def test_a_matrix_that_is_written_to_is_still_that_of_its_layer():
    weight = survey(Rescaled().eval(), (torch.randn(3, 4),)).weights["fc.weight"]
    assert (weight.kind, weight.out_dim, weight.in_dim) == ("linear", 0, 1)


def test_lengths_that_depend_on_data_are_refused_where_there_are_shapes_alone():
    model = Picked(True).to("meta").eval()
    with pytest.raises(InputError, match="cannot be traced"):
        survey(model, (torch.randn(3, 4, device="meta"), torch.tensor([1, 2], device="meta")))
