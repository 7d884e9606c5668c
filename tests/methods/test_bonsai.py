"""Forward passes without many units, and a regression (Bonsai, Dery et al., 2024)."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import pomona
import tinylm
from pomona.collect import collect
from pomona.criteria.perturbative import Perturbative
from pomona.criteria.random import Random
from pomona.probes.perturbed import Perturbed, drawn
from pomona.recipes.forward_only import bonsai
from pomona.schedules.slices import Slices
from pomona.statistics.trial_regression import TrialRegression, coefficients, completed, kendall
from pomona.structures.axes import Axes
from pomona.vocabulary import Batch, Clock, Goal, InputError, Prune, Recover


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_where_loss_is_a_sum_over_units_the_regression_finds_what_each_is_worth():
    g = random()
    worth = [torch.rand(n, generator=g).double() + 0.1 for n in (4, 30, 50)]
    signs = torch.cat([drawn(w, 0.1, 60, g) for w in worth], 1)
    tried = signs.any(0)
    true = torch.randn(84, generator=g).double()
    found = coefficients(signs, signs.double() @ true, torch.cat(worth))
    assert 10 < int(tried.sum()) < 40
    assert_close(found[tried], true[tried], rtol=1e-4, atol=1e-4)  # levels too: sites can be compared


def test_where_gains_are_noise_the_prior_alone_speaks():
    g = random(3)
    prior = torch.rand(40, generator=g).double() + 0.1
    signs = drawn(prior, 0.25, 30, g)
    alone = 0
    for seed in range(10):
        found = coefficients(signs, torch.randn(30, generator=random(seed)).double(), prior)
        alone += bool((found / prior).std() < 1e-9)
    assert alone >= 3  # noise is taken for a signal as often as not, and then by little


def test_few_pairs_refine_the_prior_instead_of_replacing_it():
    g = random(1)
    prior = torch.rand(60, generator=g).double() + 0.1
    true = prior * (1 + 0.3 * torch.randn(60, generator=g).double())
    signs = drawn(prior, 1.0, 20, g)
    tried = signs.any(0)
    found = coefficients(signs, signs.double() @ true, prior)
    assert kendall(found[tried], true[tried]) > kendall(prior[tried], true[tried]) - 0.02
    assert (found - true)[tried].norm() < (prior - true)[tried].norm() * 1.05


def test_candidates_are_missing_from_half_of_all_passes_and_the_others_from_none():
    worth = torch.arange(40).double()  # the first is dead
    signs = drawn(worth, 0.05, 200, random())
    assert (signs[:, 1:5].abs() == 1).all()  # 2 * (int(0.05 * 39) + 1) of the least
    assert not signs[:, 0].any() and not signs[:, 5:].any()
    first = (signs == -1).sum(1)
    assert first.unique().tolist() == [0, 1, 2, 3, 4]  # the numbers vary, or sites could not be compared
    assert not drawn(torch.tensor([1.0, 0.0]), 0.5, 3, random()).any()  # the last of its kind
    assert drawn(torch.tensor([1.0, 2.0]), 0.5, 3, random()).abs().sum(0).tolist() == [3, 0]


def test_those_of_less_worth_are_dropped_sooner_by_the_first():
    worth = torch.cat([torch.tensor([0.1, 0.1, 9.0, 9.0]), torch.full((20,), 10.0)]).double()
    signs = drawn(worth, 0.05, 4000, random())
    share = (signs[:, :4] == -1).double().mean(0)
    assert share[:2].min() > 0.6 and share[2:].max() < 0.4


class Sum(nn.Module):
    """Each hidden unit adds a number of its own to the mean output."""

    def __init__(self):
        super().__init__()
        self.make, self.read = nn.Linear(3, 10), nn.Linear(10, 2)

    def forward(self, x):
        return self.read(torch.relu(self.make(x)))


def mean_output(output, target):
    return output.mean()


def of_sum(pairs=40, share=0.4):
    torch.manual_seed(0)
    model, x = Sum().eval(), torch.randn(6, 3)
    nn.init.constant_(model.make.bias, 3.0)  # or a unit may be dead
    site = Axes(("neuron",)).sites(pomona.trace(model, x))[0]
    return model, x, site, TrialRegression(Perturbed(pairs, share))


def test_trials_of_a_model_that_is_a_sum_tell_what_each_unit_adds_to_the_loss():
    model, x, site, need = of_sum()
    found = collect(model, [site], [need], [(x, x)], mean_output)[site.name][need]
    adds = (torch.relu(model.make(x)).mean(0) * model.read.weight.mean(0)).detach().double()
    trials = need.probe.run(model, Batch.of((x, x)), mean_output, need.watch(site)).trials
    tried = trials.signs[site.name].any(0)
    assert int(tried.sum()) == 9 and bool((adds != 0).all())
    assert_close(found[tried], -adds[tried], rtol=1e-3, atol=1e-6)
    assert found[~tried].min() > found[tried].max()


def test_no_weight_changes_and_no_gradient_is_made_even_on_error():
    model, x, site, need = of_sum(pairs=3)
    before, calls = [p.clone() for p in model.parameters()], []

    def breaks(output, target):
        calls.append(output)
        assert not output.requires_grad
        if len(calls) == 4:
            raise RuntimeError("enough")
        return output.mean()

    with pytest.raises(RuntimeError, match="enough"):
        need.probe.run(model, Batch.of((x, x)), breaks, need.watch(site))
    assert len(calls) == 4 and not torch.equal(calls[0], calls[3])
    assert all(torch.equal(p, b) and p.grad is None for p, b in zip(model.parameters(), before, strict=True))


def test_batches_are_tried_without_other_units_and_their_trials_join():
    model, x, site, need = of_sum()
    one, two = (need.probe.run(model, Batch.of((x + shift, x)), mean_output, need.watch(site)) for shift in (0, 1))
    assert not torch.equal(one.trials.signs[site.name], two.trials.signs[site.name])
    again = need.probe.run(model, Batch.of((x, x)), mean_output, need.watch(site)).trials
    assert torch.equal(one.trials.signs[site.name], again.signs[site.name]) and torch.equal(one.trials.gains, again.gains)
    state = need.merge(need.update(None, site, one), need.update(None, site, two))
    assert len(state["gains"]) == 80 and state[f"signs/{site.name}"].shape == (80, 10)
    other = need.merge(need.update(None, site, two), need.update(None, site, one))
    assert_close(need.value(state, site), need.value(other, site))


def test_those_never_tried_stay_before_those_who_were_and_the_dead_leave_first():
    found = completed(
        torch.tensor([3.0, -1.0, 0.0, 0.0, 0.0]),
        torch.tensor([True, True, False, False, False]),
        torch.tensor([1.0, 2.0, 5.0, 4.0, 0.0]),
    )
    assert found.argsort().tolist() == [4, 1, 0, 3, 2]


def test_a_slice_of_the_dense_price_goes_in_every_round():
    rounds = [Slices(0.2).actions(Clock(round=n), Goal("params", 0.5)) for n in range(4)]
    assert [a.ratio for r in rounds for a in r if isinstance(a, Prune)] == pytest.approx([0.8, 0.6, 0.5])
    assert rounds[2][1:] == (Recover(),) and not rounds[3]
    assert len([n for n in range(30) if Slices().actions(Clock(round=n), Goal("params", 0.5))]) == 10
    with pytest.raises(InputError, match="share of the dense price"):
        Slices(0)
    with pytest.raises(InputError, match="at least one pair"):
        Perturbative(pairs=0)


@pytest.mark.slow
def test_what_was_tried_loses_less_than_the_prior_and_than_chance():
    model, data, test = tinylm.trained(), tinylm.text(2, seed=7), tinylm.text(6, seed=99)
    recipes = {
        "bonsai": bonsai.but(criterion=Perturbative(pairs=40)),
        **{f"chance {n}": bonsai.but(criterion=Random()) for n in range(3)},
    }
    losses = {}
    for seed, (name, recipe) in enumerate(recipes.items()):
        result = pomona.prune(model, data[0], method=recipe, goal="params=0.85x", data=data, latency=False, seed=seed)
        assert result.report.proof.passed and result.report.params["after"] <= 0.85 * result.report.params["before"]
        losses[name] = tinylm.loss(result.model, test)
    assert losses["bonsai"] < min(loss for name, loss in losses.items() if name != "bonsai")
