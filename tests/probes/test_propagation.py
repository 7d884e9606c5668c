"""The absolute network and what is carried back through it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from pomona.probes.absolute import absolute
from pomona.probes.inf_fs import infinite_selection, rank_correlation
from pomona.probes.propagation import Propagation, final_responses, propagated
from pomona.vocabulary import Batch, InputError, Watch


def test_curves_are_straight_and_weights_absolute():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(3), nn.GELU())
    with torch.no_grad():
        model[4].weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
    x = torch.randn(2, 2, 4, 4)
    maps = F.conv2d(x.double(), model[0].weight.double().abs(), model[0].bias.double().abs())
    expected = maps.mean((2, 3)) * torch.tensor([1.0, 2.0, 0.5])
    assert_close(absolute(model, (x.double(),), {}), expected)


@pytest.mark.parametrize(
    "layer",
    [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.AdaptiveMaxPool2d(1), nn.Hardswish(), nn.PReLU(), nn.Softplus(),
     nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(), nn.LocalResponseNorm(2)],
)  # fmt: skip
def test_what_models_are_made_of_is_straight(layer):
    x, y = torch.randn(2, 1, 4, 6, 6, dtype=torch.float64)
    model = layer.eval()
    mean = absolute(model, ((x + y) / 2,), {})
    assert_close(mean, (absolute(model, (x,), {}) + absolute(model, (y,), {})) / 2)


def test_the_last_layer_called_reads_the_final_responses():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    name, found = final_responses(model, Batch((x,)))
    assert name == "2.weight"
    assert_close(found, model[:2](x).detach())
    assert final_responses(model, Batch((x,)), "0")[0] == final_responses(model, Batch((x,)), "0.weight")[0] == "0.weight"
    with pytest.raises(InputError, match="No weight 1 is read"):
        final_responses(model, Batch((x,)), "1")


def test_arguments_by_name_are_understood():
    class Named(nn.Module):
        def forward(self, x):
            x = F.max_pool2d(input=x, kernel_size=2, stride=2)
            x = F.layer_norm(F.relu(x), normalized_shape=x.shape[1:], weight=torch.full(x.shape[1:], 3.0).double())
            return F.adaptive_max_pool2d(x, output_size=1)

    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert_close(absolute(Named(), (x,), {}), 3 * x.mean((2, 3), keepdim=True))


class Gate(nn.Module):
    def __init__(self, squash=torch.sigmoid):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4, bias=False), nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)
        self.squash = squash

    def forward(self, x):
        return self.c(self.a(x) * self.squash(self.b(x)))


class Attention(nn.Module):
    def __init__(self, fused):
        super().__init__()
        self.fused, self.q, self.v, self.head = fused, nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        q, v = self.q(x), self.v(x)
        found = F.scaled_dot_product_attention(q, x, v) if self.fused else F.softmax(q @ x.transpose(1, 2), dim=-1) @ v
        return self.head(found)


class Norm(nn.Module):
    """A root mean square written out, computed in float32 as language models do."""

    def __init__(self):
        super().__init__()
        self.scale, self.fc, self.head = nn.Parameter(torch.tensor([2.0, -3.0])), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        y = self.fc(x).to(torch.float32)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.head(self.scale * y.type_as(x))


def worth(model, shape, name, response, *scores):
    found = propagated(model, Batch((torch.randn(shape),)), [name], response, torch.tensor(scores))[name]
    return found[0]


def test_factors_of_a_product_count_as_ones():
    model = Gate()
    a, b, s = (t.double() for t in (model.a.weight.detach().abs(), model.b.weight.detach().abs(), torch.arange(4.0)))
    assert_close(worth(model, (5, 3), "a.weight", "c.weight", 0.0, 1.0, 2.0, 3.0), s @ a)  # each reader has a share of its own
    assert_close(worth(model, (5, 3), "b.weight", "c.weight", 0.0, 1.0, 2.0, 3.0), s @ b)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_looks_at_all_tokens_alike(fused):
    model = Attention(fused)
    v, s = model.v.weight.detach().abs().double(), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert_close(worth(model, (2, 5, 3), "v.weight", "head.weight", 1.0, 2.0, 3.0), (s @ v).expand(5, 3))
    assert not worth(model, (2, 5, 3), "q.weight", "head.weight", 1.0, 2.0, 3.0).any()


def test_a_normalisation_written_out_only_scales():
    model = Norm()
    expected = torch.tensor([2.0, 12.0], dtype=torch.float64) @ model.fc.weight.detach().abs().double()
    assert_close(worth(model, (4, 2), "fc.weight", "head.weight", 1.0, 4.0), expected)


@pytest.mark.parametrize(
    "scaled",
    [
        lambda x: x * x.norm(dim=1, keepdim=True),
        lambda x: x / torch.linalg.vector_norm(x, dim=1, keepdim=True),
        lambda x: (x - x.mean()) * (1 / x.std()) - x.mean(),
        F.normalize,
    ],
)
def test_what_is_measured_of_activations_counts_as_one(scaled):
    class Measured(nn.Module):
        def forward(self, x):
            return scaled(x)

    x, y = torch.randn(2, 3, 4, dtype=torch.float64)
    both = (absolute(Measured(), (x,), {}) + absolute(Measured(), (y,), {})) / 2
    assert_close(absolute(Measured(), ((x + y) / 2,), {}), both)


class Signs(nn.Module):
    """Differences, negative constants, and a convolution whose kernel is standardised before use."""

    def __init__(self):
        super().__init__()
        self.kernel, self.out = nn.Conv1d(2, 2, 1), nn.Conv1d(2, 1, 1)

    def forward(self, x):
        w = self.kernel.weight
        x = F.conv1d(x, (w - w.mean((1, 2), keepdim=True)) / w.std((1, 2), keepdim=True))
        return self.out(1 - (-0.5 * x - x / -4))


def test_signs_are_dropped_where_a_weight_is_used_and_differences_add():
    model = Signs()
    x = torch.randn(2, 2, 3, dtype=torch.float64)
    w, b = (p.detach().double() for p in (model.out.weight, model.out.bias))
    kernel = model.kernel.weight.detach().double()
    kernel = ((kernel - kernel.mean((1, 2), keepdim=True)) / kernel.std((1, 2), keepdim=True)).abs()
    expected = 0.75 * F.conv1d(F.conv1d(x, kernel), w.abs(), b.abs())
    found = absolute(model, (x,), {})
    assert_close(found - found[:1, :, :1], expected - expected[:1, :, :1])  # constants do not matter


def test_what_is_computed_without_activations_is_computed_as_it_is():
    class Table(nn.Module):
        def forward(self, x):
            index = torch.clamp(torch.arange(-2, 2), min=0)
            return x[:, index] * torch.relu(torch.tensor([-1.0, 2.0, 3.0, 4.0])) ** 2

    x = torch.randn(2, 3, dtype=torch.float64)
    assert_close(absolute(Table(), (x,), {}), x[:, [0, 0, 0, 1]] * torch.tensor([0.0, 4.0, 9.0, 16.0]))


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.cell, self.head = nn.Linear(3, 4), nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.cell(self.fc(x))[0])


@pytest.mark.parametrize(("model", "shape", "name"), [(Cell(), (4, 5, 3), "fc.weight"), (Gate(torch.exp), (4, 3), "b.weight")])
def test_what_has_no_straight_line_is_refused(model, shape, name):
    with pytest.raises(InputError, match=f"cannot be propagated back to what {name} reads.*no straight line"):
        Propagation().run(model, Batch((torch.randn(shape),)), None, Watch(inputs=frozenset({name})))


def test_a_shared_layer_hands_back_the_scores_of_all_its_calls():
    shared = nn.Linear(2, 2, bias=False)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(2, 1))
    found = propagated(model, Batch((torch.randn(1, 2),)), ["0.weight"], "3.weight", torch.tensor([1.0, 3.0]))["0.weight"]
    w, s = shared.weight.detach().abs().double(), torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert_close(found[::2], torch.stack([s @ w @ w, s @ w]))  # per call, of the first example


def test_rank_correlation_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    x = torch.relu(torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert_close(rank_correlation(x), torch.tensor(stats.spearmanr(x.numpy()).statistic))


def test_infinite_selection_is_the_sum_over_paths():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = x.std(0, correction=0)
    spread = (spread - spread.min()) / (spread.max() - spread.min())
    edges = 0.3 * torch.maximum(spread[:, None], spread) + 0.7 * (1 - rank_correlation(x).abs())
    step = 0.9 * edges / torch.linalg.eigvalsh(edges).abs().max()
    power, paths = torch.eye(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)
    for _ in range(400):
        power = power @ step
        paths += power
    assert_close(infinite_selection(x, 0.3), paths.sum(1))


def test_a_feature_that_others_repeat_and_one_that_never_moves_score_low():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    x[:, 1] = x[:, 0]
    scores = infinite_selection(x)
    assert scores[:2].max() < scores[2:].min()
    assert torch.isfinite(infinite_selection(torch.zeros(6, 3))).all()
    assert infinite_selection(torch.cat([x[:, :3] * 5, torch.ones(50, 1)], 1), mix=1.0).argmin() == 3


def test_words_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match="'l1' scores no responses"):
        Propagation("l1")
    with pytest.raises(InputError, match="between 0 and 1"):
        Propagation(mix=2.0)
