"""The root of a damped gram: made in its place, block by block, once for all weights that read the same inputs."""

import gc

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from handmade import linear_site
from layers import layer, random_layer
from pomona.collect import collect
from pomona.quadratic import Quadratic
from pomona.quadratic import root as module
from pomona.solvers.sparsegpt import SparseGPT
from pomona.statistics.input_gram import InputGram
from pomona.structures.weights import Weights
from pomona.vocabulary import Gathered, View


def definite(groups, size):
    x = torch.randn(groups, 2 * size, size, dtype=torch.float64)
    return x.mT @ x


@pytest.mark.parametrize("block", [1, 3, 7, 8, 64])
def test_blocks_make_the_upper_root_whatever_their_width(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    matrix = definite(2, 8)
    upper = matrix.triu()  # what is below is not read
    assert module.factorised(upper)
    assert_close(upper @ upper.mT, matrix)
    assert not upper.tril(-1).any() and (upper.diagonal(dim1=1, dim2=2) > 0).all()


@pytest.mark.parametrize("block", [2, 64])
def test_a_matrix_that_is_not_positive_definite_has_none(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    matrix = definite(1, 6)
    matrix[0, 1, 1] = -1
    assert not module.factorised(matrix)


def test_weights_that_read_one_tensor_share_one_root():
    v = random_layer(3, 9)
    gram = v.stats[InputGram()]
    other = layer(torch.randn(5, 9).double(), gram[0])
    other = type(other)(other.site, other.structure, other.tensors, other.alive, Gathered({InputGram(): gram}))
    one, two = Quadratic.of(v), Quadratic.of(other)
    assert one.root is two.root
    assert Quadratic.of(v, 0.1).root is not one.root
    gram += torch.eye(9)
    assert Quadratic.of(v).root is not one.root  # what was gathered since counts


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.o = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 8)

    def forward(self, x):
        return self.o(self.q(x)) + self.k(x).sum()


def test_what_is_gathered_of_a_model_is_factorised_once_for_each_tensor_that_is_read(monkeypatch):
    made, model = [], Attention()
    damped = module._damped
    monkeypatch.setattr(module, "_damped", lambda gram, damping: made.append(gram.shape) or damped(gram, damping))
    sites = [linear_site(f"{name}.weight", tuple(getattr(model, name).weight.shape)) for name in "qko"]
    stats = collect(model, sites, [InputGram()], [torch.randn(2, 30, 8), torch.randn(2, 30, 8)])
    for site in sites:
        weight = model.get_parameter(site.name).detach()
        whole = torch.ones(weight.shape, dtype=torch.bool)
        SparseGPT().solve(View(site, Weights(), {site.name: weight}, whole, stats[site.name]), torch.rand(weight.shape) > 0.5)
    assert len(made) == 2


def test_a_root_lives_no_longer_than_its_gram():
    v = random_layer(3, 9)
    before = len(module._made)
    SparseGPT().solve(v, torch.rand(3, 9) > 0.5)
    assert len(module._made) == before + 1
    del v
    gc.collect()
    assert len(module._made) == before
