"""Laws of every statistic, found through the registry; a statistic without an example here fails."""

from __future__ import annotations

from functools import reduce
from itertools import permutations

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from handmade import SITES, data, net
from pomona import registry
from pomona.collect import collect
from pomona.collect.collector import split
from pomona.probes.loss_gradient import PerExampleGradient
from pomona.probes.propagation import Propagation
from pomona.statistics.activations import ActivationMean, ZeroShare
from pomona.statistics.angular_change import AngularChange
from pomona.statistics.carried_relevance import CarriedRelevance
from pomona.statistics.contributions import ContributionGram
from pomona.statistics.gate_gradient import GateGradient
from pomona.statistics.gradient import Gradient
from pomona.statistics.independence import Independence
from pomona.statistics.input_gram import InputGram
from pomona.statistics.input_moments import InputMoments
from pomona.statistics.input_norm import InputNorm
from pomona.statistics.map_rank import MapRank
from pomona.statistics.per_member import PerMember
from pomona.statistics.propagated import Propagated
from pomona.statistics.reader_gram import ReaderGram
from pomona.statistics.reader_moments import ReaderMoments
from pomona.statistics.relevance import Relevance
from pomona.statistics.rows_read import RowsRead
from pomona.statistics.run_distance import RunDistance
from pomona.statistics.second_order import SecondOrder
from pomona.statistics.squared_gradient import SquaredGradient
from pomona.statistics.squared_taylor import SquaredTaylor
from pomona.vocabulary import Batch, Statistic

EXAMPLES = [
    (Gradient(), "element"),
    # By example: with whole batches the mean of squares depends on how the data was cut, as its paper wants.
    (SquaredTaylor(PerExampleGradient()), "axis"),
    (SquaredTaylor(PerExampleGradient(), first="square"), "element"),
    (SquaredGradient(), "element"),
    (InputNorm(), "element"),
    (InputGram(), "element"),
    (RowsRead(), "element"),
    (InputMoments(), "element"),
    (MapRank(), "axis"),
    (Independence(), "axis"),
    (Propagated(Propagation("equal")), "axis"),  # other scores of responses depend on how the data was cut
    (Relevance(samples=16), "axis"),  # by sixteens, since its value depends on how the data was cut
    (PerMember(SquaredTaylor(PerExampleGradient()), roles=("out", "in", "scale")), "axis"),
    (ActivationMean(), "axis"),
    (ZeroShare(), "axis"),
    (GateGradient(), "axis"),
    (AngularChange(), "branch"),
    (RunDistance(), "branch"),
    (ContributionGram(), "axis"),
    (ReaderGram(), "axis"),
    (ReaderMoments(), "axis"),
    (CarriedRelevance(), "axis"),
    (SecondOrder(), "axis"),
    (SecondOrder(), "element"),
]

ELSEWHERE = {
    "TrialRegression": "draws its trials by the batch; its laws are in tests/methods/test_bonsai.py",
    "GateRows": "keeps a row a pass, in the order in which they come; its laws are in tests/methods/test_fast_posttrain.py",
    "Drift": "is gathered beside a dense model; its laws are in tests/statistics/test_drift.py",
    "ExpertNorms": "is gathered on experts; its laws are in tests/methods/test_reap.py",
    "StreamGram": "is gathered on residual streams; its laws are in tests/methods/test_slicegpt.py",
}


def state(statistic, site, model, x, y):
    found = None
    batch = Batch.of((x, y))
    for piece in split(batch) if statistic.probe.per_example else (batch,):
        found = statistic.update(found, site, statistic.probe.run(model, piece, cross_entropy, statistic.watch(site)))
    return found


@pytest.fixture(params=EXAMPLES, ids=lambda e: f"{type(e[0]).__name__}-{e[1]}")
def example(request):
    statistic, kind = request.param
    return statistic, SITES[kind][0]()


def test_every_statistic_has_an_example():
    assert not set(registry.parts("statistics")) - {type(s).__name__ for s, _ in EXAMPLES} - set(ELSEWHERE)


def test_one_batch_of_64_equals_four_of_16_merged_in_any_order(example):
    statistic, site = example
    model, (x, y) = net(), data(64)
    whole = statistic.value(state(statistic, site, model, x, y), site)
    quarters = [state(statistic, site, model, x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]
    for order in list(permutations(quarters))[::7]:
        assert_close(statistic.value(reduce(statistic.merge, order), site), whole, rtol=1e-4, atol=1e-7)
    pairs = statistic.merge(statistic.merge(*quarters[:2]), statistic.merge(*quarters[2:]))
    assert_close(statistic.value(pairs, site), whole, rtol=1e-4, atol=1e-7)


def test_states_are_tensors_and_the_inputs_of_merge_survive(example):
    statistic, site = example
    x, y = data(8)
    a, b = (state(statistic, site, net(), x[s], y[s]) for s in (slice(0, 4), slice(4, 8)))
    before = {name: value.clone() for name, value in a.items()}
    statistic.merge(a, b)
    assert isinstance(statistic, Statistic)
    assert all(torch.equal(before[name], a[name]) for name in before)


def test_the_collector_gathers_what_the_statistic_says(example):
    statistic, site = example
    x, y = data(8)
    gathered = collect(net(), [site], [statistic], [(x, y)], cross_entropy)[site.name][statistic]
    assert torch.equal(gathered, statistic.value(state(statistic, site, net(), x, y), site))
