"""The gram of what a weight multiplies, against the plain product of its unfolded inputs."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.functional import conv_transpose2d, unfold
from torch.testing import assert_close

from handmade import linear_site
from pomona.collect import collect
from pomona.graph import trace
from pomona.graph.untraced import untraced
from pomona.statistics.input_gram import InputGram
from pomona.statistics.input_norm import InputNorm
from pomona.structures.weights import Weights
from pomona.vocabulary import Batch, Convolution, InputError, Member, Site, Weight
from pomona.vocabulary.layout import to_product


def gram(layer: nn.Module, x, site):
    return collect(nn.Sequential(layer), [site], [InputGram()], x if isinstance(x, list) else [x])[site.name][InputGram()]


def conv_site(layer) -> Site:
    conv = Convolution(layer.stride, layer.padding, layer.dilation, layer.groups, isinstance(layer, nn.ConvTranspose2d))
    weight = Weight("0.weight", "conv", tuple(layer.weight.shape), 0, 1, conv=conv)
    return Site("0.weight", "element", weight.shape, (Member("0.weight", "self"),), weight=weight)


def energy(site, weight, found):
    """What the gram says of the squared outputs of a weight."""
    w = to_product(site.weight, weight.detach()).double()
    return (w @ found * w).sum()


def test_tokens_and_examples_count_alike_for_linear_layers():
    x = torch.randn(3, 5, 4)
    flat = x.reshape(-1, 4).double()
    assert_close(gram(nn.Linear(4, 2), x, linear_site("0.weight", (2, 4))), (flat.T @ flat)[None], rtol=1e-6, atol=1e-6)


def test_many_columns_and_batches_give_the_whole_symmetric_product():
    x = torch.randn(40, 600)
    found = gram(nn.Linear(600, 1), list(x.split(9)), linear_site("0.weight", (1, 600)))
    assert_close(found[0], x.double().T @ x.double(), rtol=0, atol=1e-4)
    assert torch.equal(found, found.mT)


def test_double_models_are_gathered_in_double():
    x = torch.randn(50, 4, dtype=torch.float64)
    found = gram(nn.Linear(4, 2).double(), x, linear_site("0.weight", (2, 4)))
    assert_close(found, (x.T @ x)[None], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("size", [1e-24, 1e20])
def test_inputs_whose_squares_leave_float32_are_gathered_in_double(size):
    x = torch.randn(50, 4) * size
    found = collect(nn.Sequential(nn.Linear(4, 2)), [linear_site("0.weight", (2, 4))], [InputGram(), InputNorm()], [x])
    assert_close(found["0.weight"][InputGram()][0], x.double().T @ x.double(), rtol=1e-12, atol=0)
    assert_close(found["0.weight"][InputNorm()][0], x.double().norm(dim=0), rtol=1e-12, atol=0)


def test_transposed_storage_reads_the_same():
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 2))

        def forward(self, x):
            return x @ self.weight

    x = torch.randn(6, 4)
    found = gram(Transposed(), x, linear_site("0.weight", (4, 2), out_dim=1))
    assert_close(found, (x.T @ x).double()[None], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("stride", "padding", "dilation"), list(product([1, 2], [0, 1], [1, 2])))
def test_convolutions_see_unfolded_columns(stride, padding, dilation):
    layer, x = nn.Conv2d(3, 4, (3, 2), stride, padding, dilation, bias=False), torch.randn(2, 3, 9, 8)
    columns = unfold(x, (3, 2), dilation, padding, stride).double()  # (examples, in * k, positions), inputs first
    columns = columns.unflatten(1, (3, 6)).transpose(1, 2).flatten(1, 2).transpose(0, 1).flatten(1)
    found = gram(layer, x, conv_site(layer))
    assert_close(found[0], columns @ columns.T, rtol=1e-6, atol=1e-5)
    assert_close(energy(conv_site(layer), layer.weight, found), layer(x).double().square().sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_the_gram_foretells_the_energy_of_grouped_and_transposed_convolutions(kind, groups):
    layer, x = kind(4, 8, (3, 2), stride=2, padding=1, groups=groups, bias=False), torch.randn(3, 4, 7, 6)
    found = gram(layer, x, conv_site(layer))
    assert found.shape == (groups, 24 // groups, 24 // groups)
    assert_close(energy(conv_site(layer), layer.weight, found), layer(x).double().square().sum(), rtol=1e-5, atol=0)


def test_transposed_convolutions_agree_with_their_operation():
    layer, x = nn.ConvTranspose2d(3, 5, 3, stride=2, bias=False), torch.randn(2, 3, 4, 4)
    w = torch.randn_like(layer.weight)
    found = gram(layer, x, conv_site(layer))
    assert_close(energy(conv_site(layer), w, found), conv_transpose2d(x, w, stride=2).double().square().sum(), rtol=1e-5, atol=0)


RIMS = [
    nn.Conv2d(4, 6, (2, 4), padding="same", bias=False),
    nn.Conv1d(4, 6, 4, padding="same", dilation=3, groups=2, bias=False),
    nn.Conv2d(4, 6, 3, padding="valid", bias=False),
    nn.Conv2d(4, 6, (3, 2), padding=(1, 0), padding_mode="circular", bias=False),
    nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect", bias=False),
    nn.Conv1d(4, 6, 4, padding="same", padding_mode="replicate", bias=False),
    nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, bias=False),
    nn.ConvTranspose1d(4, 6, 3, stride=3, output_padding=2, groups=2, dilation=2, bias=False),
]


@pytest.mark.parametrize("layer", RIMS, ids=str)
@pytest.mark.parametrize("looked_at", [trace, lambda net, x: untraced(net, "unasked")], ids=["traced", "untraced"])
def test_the_rim_of_a_convolution_is_what_torch_pads(layer, looked_at):
    net, x = nn.Sequential(layer).eval(), torch.randn(3, 4, *[9, 8][: layer.weight.ndim - 2])
    (site,) = Weights().sites(looked_at(net, x))
    found = collect(net, [site], [InputGram(), InputNorm()], [x])[site.name]
    assert_close(energy(site, layer.weight, found[InputGram()]), net(x).double().square().sum(), rtol=1e-5, atol=0)
    if not site.weight.conv.transposed:
        norms = found[InputNorm()].expand(layer.weight.shape)
        columns = to_product(site.weight, norms)[:, 0]
        assert_close(columns.square(), found[InputGram()].diagonal(dim1=1, dim2=2), rtol=1e-5, atol=1e-4)


class Attention(nn.Module):
    """Three readers of one tensor and one of another."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x, attention_mask=None):
        return self.o(self.q(x) + self.k(x) * self.v(x))


SITES = [linear_site(f"{name}.weight", (4, 4)) for name in "qkvo"]


def masked(x, hidden):
    return Batch((x,), {"attention_mask": (torch.arange(x.shape[1]) < x.shape[1] - hidden).expand(len(x), -1).long()})


def test_hidden_tokens_are_left_out():
    x = torch.randn(2, 5, 4)
    found = collect(Attention(), SITES[:1], [InputGram()], [masked(x, 2)])["q.weight"][InputGram()]
    seen = x[:, :3].reshape(-1, 4).double()
    assert_close(found[0], seen.T @ seen, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("hidden", [0, 2])
def test_readers_of_one_tensor_share_one_accumulator(hidden, monkeypatch):
    calls = []
    update = InputGram.update
    monkeypatch.setattr(
        InputGram, "update", lambda self, state, site, seen: calls.append(site.name) or update(self, state, site, seen)
    )
    batches = [masked(torch.randn(2, 5, 4), hidden) for _ in range(3)]
    found = collect(Attention(), SITES, [InputGram()], batches)
    assert calls == ["q.weight", "o.weight"] * 3
    grams = [found[site.name][InputGram()] for site in SITES]
    assert grams[0].data_ptr() == grams[1].data_ptr() == grams[2].data_ptr() != grams[3].data_ptr()
    x = torch.cat([batch.args[0][:, : 5 - hidden].reshape(-1, 4) for batch in batches]).double()
    assert_close(grams[0][0], x.T @ x, rtol=1e-6, atol=1e-6)


def test_readers_that_part_company_later_keep_what_they_had():
    class Parting(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.q(x) + self.k(x if len(x) == 3 else x * 2)

    torch.manual_seed(0)
    one, two = torch.randn(3, 4), torch.randn(5, 4)
    found = collect(Parting(), SITES[:2], [InputGram()], [one, two, one])
    q, k = (found[f"{name}.weight"][InputGram()][0] for name in "qk")
    assert_close(q, (2 * one.T @ one + two.T @ two).double(), rtol=1e-5, atol=1e-5)
    assert_close(k, (2 * one.T @ one + 4 * two.T @ two).double(), rtol=1e-5, atol=1e-5)


def test_recurrent_weights_and_axes_are_refused():
    weight = Weight("lstm.weight_hh", "recurrent", (4, 4), 0, 1)
    with pytest.raises(InputError, match="unknown"):
        InputGram().watch(Site("lstm.weight_hh", "element", (4, 4), (), weight=weight))
    with pytest.raises(InputError, match="single weights"):
        InputGram().watch(Site("axis", "axis", (4,), ()))
