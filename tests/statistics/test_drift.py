"""How many rows each weight was multiplied with, and what is missing where its product goes."""

import torch
from torch import nn
from torch.testing import assert_close

import pomona
from pomona.collect import collect
from pomona.probes.paired import Paired
from pomona.probes.tapping import groups
from pomona.statistics.drift import Drift
from pomona.statistics.rows_read import RowsRead
from pomona.structures.weights import Weights
from pomona.vocabulary import Batch
from pomona.vocabulary.beside import Twin


def test_tokens_and_positions_are_counted():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(2), nn.Linear(36, 5)).eval()
    batches = [torch.randn(n, 3, 8, 8) for n in (2, 5)]
    sites = Weights().sites(pomona.trace(net, batches[0]))
    found = collect(net, sites, [RowsRead()], batches)
    assert {name: int(stats[RowsRead()]) for name, stats in found.items()} == {"0.weight": 7 * 36, "3.weight": 7 * 4}


def test_what_is_missing_is_the_dense_product_less_this_one_and_nothing_without_a_tap():
    torch.manual_seed(0)
    net, dense, x = nn.Sequential(nn.Linear(6, 4)).eval(), nn.Sequential(nn.Linear(6, 4)).eval(), torch.randn(9, 6)
    (site,) = Weights().sites(pomona.trace(net, x))
    need = Drift(Paired(stream=False))
    (taps,) = groups(net, Batch((x,)), [site.name])

    def drift(known):
        return collect(net, [site], [need], [Batch((x,), target=Twin(dense, Batch((x,)), known))])[site.name][need]

    assert_close(drift(taps)[0], (x.mT @ (dense(x) - net(x))).detach().double(), atol=1e-5, rtol=1e-5)
    assert drift({}).shape == (1, 6, 4) and not drift({}).any()
    halves = [Batch((part,), target=Twin(dense, Batch((part,)), taps)) for part in x.split([4, 5])]
    assert_close(collect(net, [site], [need], halves)[site.name][need], drift(taps), atol=1e-5, rtol=1e-5)
