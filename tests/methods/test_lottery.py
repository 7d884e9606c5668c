import pytest
import torch
from torch.nn.functional import cross_entropy

import digits
from loops import HandGraph
from pomona.engines.decide import Ground
from pomona.engines.oneshot import run
from pomona.engines.prices import price
from pomona.recipes.lottery import late_rewinding, lottery
from pomona.recovery.retrain import Retrain
from pomona.schedules.rounds import Rounds
from pomona.training.checkpoint import values
from pomona.vocabulary import Batch, Goal, Training

DATA = [Batch((x,), target=y) for x, y in (digits.batch(k) for k in range(20))]


def search(recipe, rounds):
    """Tickets of a digits MLP at density .8^rounds, and the weights that every recovery held: its start, then every step."""
    model, goal, visits = digits.mlp(), Goal("sparsity", 0.8**rounds), []

    def training(hold, snapshots):
        seen = []

        def watched(m):
            hold(m)
            seen.append(values(m))

        visits.append(seen)
        return Training(DATA, cross_entropy, watched, snapshots=snapshots)

    graph = HandGraph.of(model)
    sites = tuple(recipe.structure.sites(graph))
    ground = Ground(recipe, sites, price(goal, graph, sites, recipe.structure), goal)
    return model, run(model, ground, batches=DATA, loss=cross_entropy, training=training), visits, sites


@pytest.mark.parametrize("start", ["start", "step 7"])
def test_rounds_of_a_fifth_with_nested_masks_and_survivors_back_to_the_bit(start):
    recipe = lottery.but(schedule=Rounds(n=3, first_train=True), recovery=Retrain(2, start=start, optimizer="sgd", lr=0.1))
    model, outcome, visits, sites = search(recipe, 3)
    origin = values(model) if start == "start" else None
    assert len(visits) == 4  # the dense training and one after each cut
    total, before = sum(site.units for site in sites), None
    for number, seen in enumerate(visits[1:], 1):
        first = seen[0]
        masks = {site.name: first[site.name] != 0 for site in sites}
        alive = sum(int(m.sum()) for m in masks.values())
        assert abs(alive - 0.8**number * total) <= 1
        assert before is None or not any((masks[n] & ~before[n]).any() for n in masks)
        origin = origin or visits[0][6]  # after seven steps of the dense training
        for name, mask in masks.items():
            assert torch.equal(first[name], origin[name] * mask)
        assert all(torch.equal(v, origin[n]) for n, v in first.items() if n not in masks)
        before = masks
    assert outcome.plan.removes == total - sum(int(m.sum()) for m in before.values()) and not outcome.recover


def test_the_published_variants_differ_in_where_they_rewind_to():
    assert lottery.recovery.start == "start" and late_rewinding.recovery.start == "step 100"
    assert lottery.schedule.first_train and lottery.at == "init"


def test_on_digits_a_ticket_trains_where_the_cut_net_without_training_fails():
    recipe = lottery.but(schedule=Rounds(n=4, first_train=True), recovery=Retrain(12, optimizer="sgd", lr=0.1))
    _, outcome, visits, _ = search(recipe, 10)
    reset = digits.mlp()
    reset.load_state_dict(visits[-1][0])
    assert digits.accuracy(outcome.model) > 0.85 > digits.accuracy(reset) + 0.2
