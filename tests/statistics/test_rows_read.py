"""How many rows each weight was multiplied with, and what is missing where nothing is compared."""

import torch
from torch import nn

import pomona
from pomona.collect import collect
from pomona.probes.paired import Paired
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


def test_nothing_is_missing_without_a_tap_and_between_a_model_and_itself():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(6, 4)).eval(), torch.randn(9, 6)
    (site,) = Weights().sites(pomona.trace(net, x))
    need = Drift(Paired(stream=False))
    call = Batch((x,), target=Twin(net, Batch((x,)), {}))
    assert collect(net, [site], [need], [call])[site.name][need].shape == (1, 6, 4)
    assert not collect(net, [site], [need], [call])[site.name][need].any()
