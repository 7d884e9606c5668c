"""SparseGPT (Frantar and Alistarh, 2023): the worked example by hand, and what the method is between its neighbours."""

import pytest
import torch
from torch.testing import assert_close

from layers import fitted, half, layer, lost, optimum, random_layer
from pomona.quadratic import Quadratic
from pomona.solvers.alps import Alps
from pomona.solvers.least_squares import LeastSquares
from pomona.solvers.obc import Obc
from pomona.solvers.sparsegpt import SparseGPT, scales
from pomona.statistics.input_gram import InputGram
from pomona.structures.n_m import NM

H = torch.tensor([[4.0, 2, 0], [2, 3, 1], [0, 1, 2]])
W = torch.tensor([[1.0, 2, 3]], dtype=torch.float64)


def solved(v, proposal, **settings):
    return SparseGPT(**{"damping": 0.0, **settings}).solve(v, proposal)


def authors(w, gram, share, block, damping):
    """The published procedure as it is written: the factor of the inverse, updates to the right, a threshold in each block."""
    w, gram = w.clone(), gram + damping * gram.diagonal().mean() * torch.eye(len(gram))
    upper = torch.linalg.cholesky(torch.linalg.inv(gram), upper=True)
    for start in range(0, len(gram), block):
        here = slice(start, start + block)
        worth = (w[:, here] / upper.diagonal()[here]).square()
        leaves = worth <= worth.flatten().sort().values[int(worth.numel() * share) - 1]
        for j in range(start, min(start + block, len(gram))):
            left = torch.where(leaves[:, j - start], 0.0, w[:, j])
            w[:, j:] -= ((w[:, j] - left) / upper[j, j])[:, None] * upper[j, j:]
            w[:, j] = left
    return w


def test_the_columns_are_scored_by_what_their_loss_costs_once_those_before_are_settled():
    problem = Quadratic.of(layer(W, H), 0.0)
    assert_close(problem.upper[0].diagonal() ** -1, torch.tensor([0.645497, 0.632456, 0.707107]).double(), rtol=0, atol=1e-6)
    assert_close((W * problem.upper[0].diagonal()).square()[0], torch.tensor([2.4, 10.0, 18.0]).double())


def test_the_first_column_goes_as_by_brain_surgery_and_a_later_one_leaves_those_before_it_alone():
    v = layer(W, H)
    first = solved(v, torch.tensor([[False, True, True]]), mask="given")
    assert_close(first.tensors["w"], torch.tensor([[0.0, 2.8, 2.6]]).double())
    second = solved(v, torch.tensor([[True, False, True]]), mask="given")
    assert_close(second.tensors["w"], torch.tensor([[1.0, 0.0, 4.0]]).double())
    assert lost(W, second.tensors["w"], H.double()) == pytest.approx(10)
    free = LeastSquares(damping=0.0).solve(v, torch.tensor([[True, False, True]]))
    assert_close(free.tensors["w"], torch.tensor([[2.0, 0.0, 4.0]]).double())
    assert lost(W, free.tensors["w"], H.double()) == pytest.approx(6)


def test_alike_and_unrelated_inputs_give_magnitude_by_block():
    w = torch.randn(6, 32)
    decision = solved(layer(w, 3 * torch.eye(32)), half(layer(w, torch.eye(32))), block=8)
    for start in range(0, 32, 8):
        size = w[:, start : start + 8].abs()
        assert torch.equal(decision.keep[:, start : start + 8], size > size.flatten().sort().values[23])
    assert_close(decision.tensors["w"], w * decision.keep)


@pytest.mark.parametrize(("share", "block"), [(0.5, 16), (0.25, 16), (0.75, 64)])
def test_it_is_the_published_procedure(share, block):
    v = random_layer(12, 48, dtype=torch.float64)
    found = solved(v, half(v, share), block=block, damping=0.01).tensors["w"]
    assert_close(found, authors(v.tensors["w"], v.stats[InputGram()][0], share, block, 0.01), rtol=1e-8, atol=1e-8)


def test_the_block_does_not_matter_to_a_given_mask():
    v = random_layer(12, 48, dtype=torch.float64)
    found = [solved(v, half(v), mask="given", block=block).tensors["w"] for block in (1, 7, 48, 128)]
    for other in found[1:]:
        assert_close(other, found[0], rtol=1e-8, atol=1e-8)


def test_every_row_keeps_its_own_count_when_rows_are_apart():
    v = random_layer(12, 48)
    proposal = half(v, 0.5)
    proposal[3] = half(v, 0.25)[3]
    decision = SparseGPT(per="row", block=16).solve(v, proposal)
    assert torch.equal(decision.keep.sum(1), proposal.sum(1))
    together = SparseGPT(block=16).solve(v, proposal)
    assert int(together.keep.sum()) == int(proposal.sum()) and not torch.equal(together.keep.sum(1), proposal.sum(1))


def test_groups_are_chosen_with_the_weights_as_they_are_by_then():
    v = random_layer(12, 48, structure=NM(2, 4), dtype=torch.float64)
    decision = solved(v, half(v), damping=0.01, block=10)  # a block of whole groups all the same
    assert (decision.keep.view(12, 12, 4).sum(2) == 2).all()
    w, problem = v.tensors["w"].clone(), Quadratic.of(v)
    upper = torch.linalg.cholesky(problem.inverse[0], upper=True)
    for j in range(48):
        if j % 4 == 0:
            worst = (w[:, j : j + 4] / upper.diagonal()[j : j + 4]).square().topk(2, dim=1, largest=False).indices + j
        left = torch.where((worst == j).any(1), 0.0, w[:, j])
        w[:, j:] -= ((w[:, j] - left) / upper[j, j])[:, None] * upper[j, j:]
        w[:, j] = left
    assert_close(decision.tensors["w"], w, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("bits", [4, 8])
def test_survivors_are_rounded_in_the_same_sweep(bits):
    v = random_layer(12, 48, dtype=torch.float64)
    w, gram, most = v.tensors["w"], v.stats[InputGram()][0], 2 ** (bits - 1) - 1
    scale = w.abs().amax(1, keepdim=True) / most
    found = SparseGPT(bits=bits, block=16).solve(v, half(v))
    whole = found.tensors["w"] / scale
    assert_close(whole, whole.round())
    assert whole.abs().max() <= most + 1e-9
    assert int(found.keep.sum()) == 288 and not found.tensors["w"][~found.keep].any()
    after = SparseGPT(block=16).solve(v, half(v)).tensors["w"]
    rounded = (after / scale).round().clamp(-most, most) * scale
    assert lost(w, found.tensors["w"], gram) < lost(w, rounded, gram)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_rounded_is_integers_times_the_scale_to_the_last_digit(bits, dtype):
    v = random_layer(12, 48, dtype=dtype)
    for proposal in (half(v), torch.ones_like(half(v))):
        found = SparseGPT(bits=bits, block=16).solve(v, proposal).tensors["w"]
        scale = scales(v.tensors["w"].float(), bits, dtype)[:, None]
        codes = found.float() / scale
        assert torch.equal(codes, codes.round()) and codes.abs().max() <= 2 ** (bits - 1) - 1
        assert torch.equal((codes * scale).to(dtype), found)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_rounded_grid_is_no_coarser_than_the_type_asks_for(bits):
    w = random_layer(12, 48, dtype=torch.float32).tensors["w"]
    finest = w.abs().amax(1) / (2 ** (bits - 1) - 1)
    for dtype, most in ((torch.float32, 1 + 1e-4), (torch.float16, 9 / 8), (torch.bfloat16, 17 / 16 if bits == 4 else 2)):
        coarser = scales(w, bits, dtype) / finest
        assert coarser.min() >= 1 - 1e-6 and coarser.max() <= most


@pytest.mark.parametrize("seed", range(5))
def test_on_one_mask_it_lies_between_doing_nothing_and_least_squares(seed):
    v = random_layer(12, 48, seed, dtype=torch.float64)
    w, gram, mask = v.tensors["w"], v.stats[InputGram()][0], half(v)
    found = lost(w, solved(v, mask, mask="given").tensors["w"], gram)
    assert lost(w, fitted(w, gram, mask), gram) <= found * (1 + 1e-9) <= lost(w, w * mask, gram)


def test_the_order_of_the_published_tables_down_to_the_best_support():
    """Small problems whose best support can be found by trying all; medians of the losses over that of the best."""
    over: dict[str, list[float]] = {"sweep": [], "walk": [], "splitting": []}
    for seed in range(21):
        v = random_layer(1, 10, seed, dtype=torch.float64)
        w, gram, proposal = v.tensors["w"], v.stats[InputGram()][0], half(v)
        best = optimum(w[0], gram, 5)
        for name, solver in {"sweep": SparseGPT(damping=0.0), "walk": Obc(0.0), "splitting": Alps(0.0)}.items():
            over[name].append(lost(w, solver.solve(v, proposal).tensors["w"], gram) / best)
    assert min(min(found) for found in over.values()) >= 1 - 1e-9
    middle = {name: sorted(found)[10] for name, found in over.items()}
    assert middle["sweep"] > 2 and middle["splitting"] < 1.2 and middle["walk"] < 1.2
