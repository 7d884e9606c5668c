import copy
from math import nan

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from pomona.training.checkpoint import values
from pomona.training.descent import Descent
from pomona.training.fit import CHECKPOINT, fit
from pomona.training.objectives import supervised
from pomona.vocabulary import InputError

OBJECTIVE = supervised(cross_entropy)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def data(batches: int = 6) -> list[tuple[torch.Tensor, torch.Tensor]]:
    made = torch.Generator().manual_seed(1)
    x = torch.randn(batches * 16, 4, generator=made)
    return list(zip(x.split(16), x[:, :3].argmax(1).split(16), strict=True))


class Shuffled:
    """Another order every epoch."""

    def __init__(self):
        self.asked = []

    def at(self, epoch):
        self.asked.append(epoch)
        order = torch.randperm(6, generator=torch.Generator().manual_seed(epoch)).tolist()
        return [data()[i] for i in order]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(values(a).values(), values(b).values(), strict=True))


def test_the_loss_falls():
    history = fit(net(), data(), OBJECTIVE, Descent(lr=1e-2), epochs=12)
    assert history["loss"][-1] < 0.7 * history["loss"][0] and history["steps"] == 72


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_killed_run_ends_bit_identical(tmp_path, optimizer):
    descent = Descent(optimizer, lr=1e-2, clip=1.0)
    whole, parts = net(), net()
    fit(whole, Shuffled(), OBJECTIVE, descent, epochs=4, seed=3)

    def die(step, model):
        if step == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(parts, Shuffled(), OBJECTIVE, descent, epochs=4, seed=3, folder=tmp_path, watch=die)
    resumed, seen = net(), []
    fit(resumed, Shuffled(), OBJECTIVE, descent, epochs=4, seed=3, folder=tmp_path, watch=lambda step, _: seen.append(step))
    assert same(whole, resumed)
    assert seen[0] == 12  # the two finished epochs were not repeated


def test_dataloader_order_and_dropout_follow_the_seed():
    pairs = [(x[i], y[i]) for x, y in data() for i in range(len(x))]

    def run(seed: int, spoil: int) -> nn.Module:
        model = net()
        loader = torch.utils.data.DataLoader(pairs, batch_size=16, shuffle=True)
        torch.manual_seed(spoil)
        fit(model, loader, OBJECTIVE, epochs=2, seed=seed)
        return model

    assert same(run(0, 1), run(0, 2)) and not same(run(0, 1), run(5, 1))


def test_a_checkpoint_of_another_run_is_not_continued(tmp_path):
    fit(net(), data(), OBJECTIVE, epochs=1, folder=tmp_path)
    other = net()
    with torch.no_grad():
        other[0].weight.add_(1)
    fresh = copy.deepcopy(other)
    history = fit(other, data(), OBJECTIVE, epochs=1, folder=tmp_path)
    fit(fresh, data(), OBJECTIVE, epochs=1)
    assert history["steps"] == 6 and same(other, fresh)


def test_other_data_are_another_run(tmp_path):
    fit(net(), data(), OBJECTIVE, epochs=1, folder=tmp_path)
    relabelled = [(x, (y + 1) % 3) for x, y in data()]
    again, fresh = net(), net()
    fit(again, relabelled, OBJECTIVE, epochs=1, folder=tmp_path)
    fit(fresh, relabelled, OBJECTIVE, epochs=1)
    assert same(again, fresh)


def test_a_truncated_checkpoint_is_named(tmp_path):
    fit(net(), data(), OBJECTIVE, epochs=1, folder=tmp_path)
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:50])
    with pytest.raises(InputError, match="not a readable checkpoint"):
        fit(net(), data(), OBJECTIVE, epochs=1, folder=tmp_path)


def test_nan_stops_and_the_model_is_back_in_its_best_state():
    model = net()
    spoiled = [*data()[:5], (data()[5][0] * nan, data()[5][1])]
    before = values(model)
    with pytest.raises(InputError, match="nan at step 5; lower the learning rate"):
        fit(model, spoiled, OBJECTIVE, epochs=1)
    assert all(torch.equal(v, before[n]) for n, v in values(model).items())


def test_a_batch_without_a_label_is_named():
    spoiled = [*data()[:2], (data()[2][0], torch.full((16,), -100))]
    with pytest.raises(InputError, match="batch of step 2 has no labelled token"):
        fit(net(), spoiled, OBJECTIVE, epochs=1)


def test_float16_is_refused_by_name():
    model = net().half()
    with pytest.raises(InputError, match=r"weight is in float16, whose range is too small to train in.*bfloat16"):
        fit(model, data(), OBJECTIVE, epochs=1)


def test_the_best_state_by_validation_stays_and_the_start_competes():
    model = net()
    qualities = iter([5.0, 1.0, 9.0, 2.0])
    states = []

    def validate(m):
        states.append(values(m))
        return next(qualities)

    history = fit(model, data(), OBJECTIVE, epochs=3, validate=validate)
    assert history["best_epoch"] == 1 and all(torch.equal(v, states[2][n]) for n, v in values(model).items())
    worse = net()
    start = values(worse)
    falling = iter([3.0, 2.0, 1.0])
    assert fit(worse, data(), OBJECTIVE, epochs=2, validate=lambda m: next(falling))["best_epoch"] == -1
    assert all(torch.equal(v, start[n]) for n, v in values(worse).items())


def test_hold_runs_after_every_step_so_dead_weights_stay_dead():
    model = net()
    mask = torch.rand(16, 4) > 0.5

    def hold(m):
        m[0].weight.data.masked_fill_(~mask, 0)

    hold(model)
    fit(model, data(), OBJECTIVE, Descent(weight_decay=0.1), epochs=2, hold=hold)
    assert torch.equal(model[0].weight != 0, mask)


def test_flags_and_the_global_generator_are_as_they_were():
    model = net().eval()
    model[0].train()
    state = torch.get_rng_state()
    fit(model, data(), OBJECTIVE, epochs=1)
    assert torch.equal(state, torch.get_rng_state())
    assert [m.training for m in model] == [True, False, False, False, False] and model[0].weight.grad is None


def test_beginning_at_a_step_replays_the_tail_of_the_course():
    rates, tail = {}, {}
    lr = Descent("sgd", lr=0.1)
    fit(net(), data(), OBJECTIVE, lr, epochs=3, watch=lambda k, m: rates.update({k: lr.rate(k, 18)}))
    fit(net(), data(), OBJECTIVE, lr, epochs=3, begin=7, watch=lambda k, m: tail.update({k: lr.rate(k, 18)}))
    assert list(tail) == list(range(7, 18)) and all(rates[k] == tail[k] for k in tail)


def test_cosine_with_warmup_by_hand():
    descent = Descent(lr=1.0, warmup=0.2)
    rates = [descent.rate(k, 10) for k in range(10)]
    assert_close(torch.tensor(rates[:3]), torch.tensor([1 / 3, 2 / 3, 1.0]))
    assert rates[6] == pytest.approx(0.5) and rates[9] < 0.05


@pytest.mark.parametrize(
    ("bad", "message"),
    [([], "no batches"), ([torch.zeros(2, 4)], "needs targets")],
)
def test_bad_data_is_named(bad, message):
    with pytest.raises(InputError, match=message):
        fit(net(), bad, OBJECTIVE, epochs=1)


def test_labels_out_of_range_are_named():
    with pytest.raises(InputError, match="label 7 is out of range"):
        fit(net(), [(torch.zeros(2, 4), torch.tensor([0, 7]))], OBJECTIVE, epochs=1)


def test_data_that_run_dry_are_named():
    with pytest.raises(InputError, match="can be read again"):
        fit(net(), iter(data()), OBJECTIVE, epochs=2)


def test_mixed_precision_trains_on_cpu_when_asked():
    history = fit(net(), data(), OBJECTIVE, Descent(amp=True, lr=1e-2), epochs=4)
    assert history["loss"][-1] < history["loss"][0]


def test_kept_batch_norms_learn_without_moving_their_statistics():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    generator = torch.Generator().manual_seed(0)
    data = [(torch.randn(16, 4, generator=generator) + 5, torch.arange(16) % 3)]
    before = copy.deepcopy(model.state_dict())
    fit(model, data, supervised(nn.functional.cross_entropy), Descent(norms="kept"), epochs=1, keep="last")
    after = model.state_dict()
    assert torch.equal(after["1.running_mean"], before["1.running_mean"])
    assert not torch.equal(after["1.weight"], before["1.weight"])
    fit(model, data, supervised(nn.functional.cross_entropy), Descent(), epochs=1, keep="last")
    assert not torch.equal(model.state_dict()["1.running_mean"], before["1.running_mean"])


def test_steps_end_a_course_within_an_epoch():
    seen = []
    history = fit(net(), data(), OBJECTIVE, epochs=9, steps=8, watch=lambda step, model: seen.append(step))
    assert history["steps"] == 8 and seen == list(range(8)) and len(history["loss"]) == 2


def test_as_many_steps_as_two_epochs_have_are_two_epochs():
    by_epochs, by_steps = net(), net()
    fit(by_epochs, Shuffled(), OBJECTIVE, epochs=2)
    fit(by_steps, Shuffled(), OBJECTIVE, epochs=1, steps=12)
    assert same(by_epochs, by_steps)


def test_a_killed_run_of_steps_ends_bit_identical(tmp_path):
    whole, parts = net(), net()
    fit(whole, Shuffled(), OBJECTIVE, epochs=1, steps=14, seed=3)

    def die(step, model):
        if step == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(net(), Shuffled(), OBJECTIVE, epochs=1, steps=14, seed=3, folder=tmp_path, watch=die)
    fit(parts, Shuffled(), OBJECTIVE, epochs=1, steps=14, seed=3, folder=tmp_path)
    assert same(whole, parts)
