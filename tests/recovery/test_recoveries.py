import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pomona.recovery.chain import Chain
from pomona.recovery.distil import Distil
from pomona.recovery.fine_tune import FineTune
from pomona.recovery.lora import Lora
from pomona.recovery.mask_lora import MaskLora
from pomona.recovery.perp import Perp
from pomona.recovery.recalibrate import Recalibrate
from pomona.recovery.retrain import Retrain
from pomona.recovery.scale_lora import ScaleLora
from pomona.recovery.text import parse
from pomona.registry import parts
from pomona.training.checkpoint import values
from pomona.vocabulary import InputError, Recovery, Training

MASK = torch.rand(16, 4, generator=torch.Generator().manual_seed(2)) > 0.5


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def data():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    return list(zip(x.split(16), x[:, :3].argmax(1).split(16), strict=True))


def hold(model):
    model[0].weight.data.masked_fill_(~MASK, 0)


def training(**given):
    return Training(**{"data": data(), "loss": cross_entropy, "hold": hold, "teacher": net(), **given})


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(values(a).values(), values(b).values(), strict=True))


@pytest.mark.parametrize("part", [FineTune(1), Distil(1), Distil(1, hard=0.0, features=1.0), Recalibrate(), Retrain(1), Chain()])
def test_dead_weights_stay_dead_through_every_recovery(part):
    model = net()
    hold(model)
    history = part.recover(model, training(snapshots={"start": values(net())}))
    assert isinstance(part, Recovery) and history
    assert torch.equal(model[0].weight != 0, MASK)


@pytest.mark.parametrize("name", sorted(parts("recovery")))
def test_every_recovery_says_whether_it_rewinds_and_what_it_requires(name):
    part = parts("recovery")[name]()
    assert isinstance(part.rewinds, bool) and part.requires <= {"data", "labels", "gradients"}


def test_distilling_without_labels_needs_none():
    unlabelled = [x for x, _ in data()]
    assert Distil(hard=0.0).requires == {"data"}
    Distil(1, hard=0.0).recover(net(), training(data=unlabelled, loss=None))


def test_distilling_without_a_teacher_is_refused():
    with pytest.raises(InputError, match="teacher"):
        Distil(1).recover(net(), training(teacher=None))


def test_the_ticket_starts_from_the_snapshot_to_the_bit():
    start, model, seen = values(net()), net(), []
    FineTune(1).recover(model, training(hold=lambda m: None))

    def watch(m):
        hold(m)
        seen.append(values(m))

    Retrain(1).recover(model, training(hold=watch, snapshots={"start": start}))
    assert torch.equal(seen[0]["0.weight"], start["0.weight"] * MASK)
    assert all(torch.equal(seen[0][n], v) for n, v in start.items() if n != "0.weight")


def test_late_rewinding_records_once_and_goes_back_to_that_step():
    model, snapshots = net(), {}
    part = Retrain(2, start="step 3", optimizer="sgd", lr=0.1, momentum=0.0)
    part.recover(model, training(hold=lambda m: None, snapshots=snapshots))
    trained, recorded = values(model), snapshots["step 3"]
    part.recover(model, training(hold=lambda m: None, snapshots=snapshots))  # nothing was cut: without momentum it repeats itself
    assert snapshots["step 3"] is recorded and all(torch.equal(v, trained[n]) for n, v in values(model).items())


def test_rewinding_to_step_zero_is_rewinding_to_the_start():
    a, b, snapshots = net(), net(), {}
    Retrain(1, start="step 0").recover(a, training(hold=lambda m: None, snapshots=snapshots))
    Retrain(1, start="step 0").recover(a, training(snapshots=snapshots))
    Retrain(1, start="start").recover(b, training(snapshots={"start": values(net())}))
    assert same(a, b)


def test_with_a_constant_rate_replaying_the_course_is_fine_tuning():
    a, b = net(), net()
    FineTune(1, decay="constant", warmup=0.0).recover(a, training())
    Retrain(1, start="here", decay="constant", warmup=0.0).recover(b, training())
    assert same(a, b)


def test_a_killed_first_training_still_has_its_snapshot(tmp_path):
    whole, snapshots = net(), {}
    part = Retrain(3, start="step 2")
    part.recover(whole, training(hold=lambda m: None, snapshots=snapshots))
    calls = []

    def die(m):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        part.recover(net(), training(hold=die, folder=tmp_path))
    resumed, again = net(), {}
    part.recover(resumed, training(hold=lambda m: None, folder=tmp_path, snapshots=again))
    assert same(whole, resumed) and all(torch.equal(v, again["step 2"][n]) for n, v in snapshots["step 2"].items())


def test_a_step_beyond_the_training_is_refused():
    with pytest.raises(InputError, match="only 4 steps"):
        Retrain(1, start="step 9").recover(net(), training())


def test_a_chain_runs_its_parts_in_order_with_folders_of_their_own(tmp_path):
    model = net()
    history = Chain((FineTune(1), Recalibrate())).recover(model, training(folder=tmp_path))
    assert list(history) == ["0 FineTune", "1 Recalibrate"] and (tmp_path / "0-FineTune" / "fit.safetensors").is_file()
    alone = copy.deepcopy(net())
    FineTune(1).recover(alone, training())
    assert torch.equal(alone[0].weight, model[0].weight) and not torch.equal(alone[1].running_mean, model[1].running_mean)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("none", None),
        ("finetune", FineTune()),
        ("finetune:3epochs", FineTune(3)),
        ("finetune:1epoch,lr=1e-4,optimizer=sgd,clip=1.0", FineTune(1, lr=1e-4, optimizer="sgd", clip=1.0)),
        ("distil:2epochs,temperature=4", Distil(2, temperature=4.0)),
        ("retrain:5epochs,start=step 100", Retrain(5, start="step 100")),
        ("finetune:1epoch+recalibrate", Chain((FineTune(1), Recalibrate()))),
        ("distil:200steps,hard=0", Distil(steps=200, hard=0.0)),
        ("perp:200steps,lr=1e-3,which=biases+norms", Perp(steps=200)),
        ("perp:1step,which=norms + head", Perp(steps=1, which="norms + head")),
        ("perp:which=head+masklora:2epochs,rank=8,which=none", Chain((Perp(which="head"), MaskLora(2, rank=8, which="none")))),
        ("lora:9steps,rank=4,alpha=8", Lora(steps=9, rank=4, alpha=8.0)),
        ("scalelora:2epochs,rank=4+recalibrate", Chain((ScaleLora(2, rank=4), Recalibrate()))),
    ],
)
def test_text_forms(text, part):
    assert parse(text) == part


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("finetun:3epochs", "did you mean 'finetune'"),
        ("finetune:3epochs,warm_up=1", "did you mean 'warmup'"),
        ("finetune:manyepochs", "not a whole number"),
        ("finetune:0epochs", "write none"),
        ("finetune:2.5epochs", "not a whole number"),
        ("finetune:1epoch,lr=-1", "must be positive"),
        ("distil:optimizer=adam", "not an optimizer"),
        ("recalibrate:3epochs", "takes none"),
        ("retrain:200steps", "'steps' in 'retrain:200steps' is not a setting"),
        ("finetune:0steps", "write none"),
        ("finetune:2.5steps", "not a whole number"),
        ("perp:which=biases+norm", "'norm' is not a recovery"),
        ("perp:which=bias", "did you mean 'biases'"),
        ("masklora:rank=0", "at least 1"),
        ("scalelora:alpha=2", "'alpha' in"),
    ],
)
def test_bad_text_is_named(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)
