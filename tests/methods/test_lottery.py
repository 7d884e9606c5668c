import pytest
import torch
from torch.nn.functional import cross_entropy

import digits
import pomona
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


def ticket(recover, rounds=5, seed=0):
    """The public way on digits; also the weights that each training started from, seen by a hook in the copies of the model."""
    model, starts, steps = digits.mlp(seed), [], recover.epochs * len(DATA)
    seen = []

    def look(module, _):
        if module.training:
            if len(seen) % steps == 0:
                starts.append(values(module))
            seen.append(None)

    handle = model.register_forward_pre_hook(look)
    goal = f"sparsity={1 - 0.8**rounds:.12f}"
    result = pomona.prune(
        model, DATA[0].args, method="lottery", goal=goal, recover=recover, data=DATA, loss=cross_entropy, latency=False
    )
    handle.remove()
    return model, result, starts


def test_through_the_face_tickets_are_nested_meet_their_density_and_start_from_the_first_weights():
    model, result, starts = ticket(Retrain(2, optimizer="sgd", lr=0.1))
    total = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    names = list(result.plan.sites)
    first = values(model)
    assert len(starts) == 6 and all(torch.equal(starts[0][n], first[n]) for n in first)  # the dense training, then five rounds
    before = {name: torch.ones_like(first[name], dtype=torch.bool) for name in names}
    for number, start in enumerate(starts[1:], 1):
        masks = {name: start[name] != 0 for name in names}
        assert abs(sum(int(m.sum()) for m in masks.values()) - 0.8**number * total) <= 1
        assert not any((masks[name] & ~before[name]).any() for name in names)
        assert all(torch.equal(start[n], first[n] * masks[n] if n in masks else first[n]) for n in first)
        before = masks
    assert all(torch.equal(result.plan.keep(name), before[name]) for name in names)
    assert all(not result.model.get_parameter(name)[~before[name]].any() for name in names)
    assert result.report.recovery is None and result.report.proof.passed and len(result.report.rounds) == 5


@pytest.mark.slow
def test_on_digits_a_ticket_learns_what_its_mask_on_other_first_weights_does_not():
    """The direction of Frankle and Carbin's figure 4, at 4 % of the weights, for three nets of different first weights."""
    gains = []
    for seed in range(3):
        _, result, _ = ticket(Retrain(12, optimizer="sgd", lr=0.1), rounds=14, seed=seed)
        again = Retrain(12, start="here", optimizer="sgd", lr=0.1)
        other = pomona.replay(
            digits.mlp(seed + 50), result.plan, DATA[0].args, data=DATA, loss=cross_entropy, recover=again, latency=False
        )
        gains.append(digits.accuracy(result.model) - digits.accuracy(other.model))
    assert min(gains) > 0, gains
