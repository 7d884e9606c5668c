"""The bias gives what the weight lost on average, and nothing could give more."""

from dataclasses import replace

import torch
from torch import nn
from torch.testing import assert_close

from handmade import linear_site
from pomona.collect import collect
from pomona.solvers.compensated import Compensated
from pomona.solvers.keep import Keep
from pomona.solvers.least_squares import LeastSquares
from pomona.structures.weights import Weights
from pomona.vocabulary import View


def solved(solver, bias=True):
    torch.manual_seed(0)
    x, layer = torch.randn(200, 6) + 2, nn.Linear(6, 3)
    site = linear_site("0.weight", (3, 6))
    site = replace(site, weight=replace(site.weight, bias="0.bias" if bias else None))
    stats = collect(nn.Sequential(layer), [site], solver.needs, [x])["0.weight"]
    tensors = {"0.weight": layer.weight.detach(), "0.bias": layer.bias.detach()}
    proposal = layer.weight.abs() > layer.weight.abs().median()
    view = View(site, Weights(), tensors, torch.ones(3, 6, dtype=torch.bool), stats)
    return x, layer, solver.solve(view, proposal)


def residual(x, layer, decision):
    weight = decision.tensors.get("0.weight", layer.weight) * decision.keep
    return layer(x) - (x @ weight.T + decision.tensors.get("0.bias", layer.bias))


def test_outputs_keep_their_mean_and_lose_less():
    for solver in (Keep(), LeastSquares()):
        alone, together = residual(*solved(solver)), residual(*solved(Compensated(solver)))
        assert_close(together.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
        assert_close(together.square().mean(0), alone.var(0, correction=0), rtol=1e-4, atol=1e-6)
        assert together.square().mean() < alone.square().mean()


def test_no_bias_is_made_where_there_is_none():
    assert set(solved(Compensated(), bias=False)[2].tensors) == {"0.weight"}
