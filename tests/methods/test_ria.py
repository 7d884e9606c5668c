"""RIA (Zhang et al., 2024): relative importance by hand."""

import torch
from torch.testing import assert_close

from handmade import linear_site
from pomona.criteria.ria import Ria
from pomona.statistics.input_norm import InputNorm
from pomona.structures.weights import Weights
from pomona.vocabulary import Gathered, View

W = torch.tensor([[1.0, -2.0], [3.0, 4.0]])


def view(weight, norms, out_dim=0):
    norms = torch.tensor(norms).double()
    stats = Gathered({InputNorm(): norms[None] if out_dim == 0 else norms[:, None]})
    site = linear_site("w", tuple(weight.shape), out_dim)
    return View(site, Weights(), {"w": weight}, torch.ones(weight.shape, dtype=torch.bool), stats)


def test_shares_of_row_and_column_add_up():
    found = Ria().score(view(W, [1.0, 1.0])).value
    assert_close(found, torch.tensor([[0.58333, 1.0], [1.17857, 1.23810]]), rtol=0, atol=1e-5)


def test_the_root_of_the_inputs_norm_weighs_and_power_zero_leaves_it_out():
    plain = Ria().score(view(W, [1.0, 1.0])).value
    assert_close(Ria().score(view(W, [4.0, 9.0])).value, plain * torch.tensor([2.0, 3.0]))
    assert_close(Ria(0.0).score(view(W, [4.0, 9.0])).value, plain)


def test_storage_the_other_way_round_scores_the_same():
    assert_close(Ria().score(view(W.T.contiguous(), [4.0, 9.0], 1)).value, Ria().score(view(W, [4.0, 9.0])).value.T)


def test_a_channel_that_is_small_throughout_keeps_what_its_weights_are_to_each_other():
    small = W * torch.tensor([[1e-6], [1.0]])
    found = Ria().score(view(small, [1.0, 1.0])).value
    assert_close(found[0], torch.tensor([1 / 3, 2 / 3]), rtol=1e-4, atol=0)


def test_zeros_are_worth_nothing_where_all_of_a_row_is_zero():
    assert not Ria().score(view(W * torch.tensor([[0.0], [1.0]]), [1.0, 1.0])).value[0].any()
