"""Recoveries through the face: of the small model at the end, and of the masked one between rounds."""

import copy
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import digits
import pomona
import zoo
from pomona.recipes.magnitude import magnitude_iterative
from pomona.recovery.fine_tune import FineTune
from pomona.schedules.rounds import Rounds
from pomona.structures.axes import Axes
from pomona.training.batchnorm import recalibrate
from pomona.training.distil import Tap, relative_error

IMAGES = [torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(n)) for n in range(4)]
LABELLED = [(x, torch.arange(16) % 5) for x in IMAGES]


def quick(model, args, **wish):
    return pomona.prune(model, args, latency=False, **wish)


def test_recalibrating_moves_the_running_statistics_and_no_weight():
    model, args = zoo.resnet()
    wish = {"method": "l1-filters", "goal": "macs=0.5x"}
    plain, again = quick(model, args, **wish), quick(model, args, recover="recalibrate", data=IMAGES, **wish)
    assert again.report.proof.passed and again.report.recovery.name == "Recalibrate"
    for (name, a), b in zip(plain.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b), name
    with torch.no_grad():  # the first norm sees what no norm has touched: the plain average over the batches
        maps = [again.model.conv1(x) for x in IMAGES]
        mean = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
        var = torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0)
    assert torch.allclose(again.model.bn1.running_mean, mean, atol=1e-5)
    assert torch.allclose(again.model.bn1.running_var, var, rtol=1e-4)


def test_recalibrating_a_model_without_batch_norms_changes_nothing():
    model, args = zoo.vit()
    wish = {"method": "magnitude-uniform", "structure": "neurons", "goal": "params=0.8x"}
    plain, again = quick(model, args, **wish), quick(model, args, recover="recalibrate", data=IMAGES, **wish)
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), again.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "wish"),
    [
        ("resnet", {"method": "l1-filters", "goal": "macs=0.5x"}),
        ("resnet", {"method": "magnitude", "goal": "sparsity=0.8"}),
        ("vit", {"method": "magnitude-uniform", "structure": "neurons", "goal": "params=0.82x"}),
    ],
)
def test_distilling_with_features_needs_no_labels_and_brings_the_features_nearer(name, wish):
    model, args = getattr(zoo, name)()
    recalibrate(model, IMAGES)  # norms that know these pictures, as those of a trained model do
    recover = "distil:12epochs,hard=0,features=1,lr=3e-3+recalibrate"
    plain, taught = quick(model, args, **wish), quick(model, args, recover=recover, data=IMAGES, **wish)
    assert taught.report.proof.passed and len(taught.report.recovery.epochs) == 12
    place = "fc" if name == "resnet" else "norm"

    def error(student):
        with torch.no_grad(), Tap(student, [place]) as ours, Tap(model, [place]) as theirs:
            student.eval()(torch.cat(IMAGES)), model(torch.cat(IMAGES))
        return float(relative_error(ours[place], theirs[place]))

    assert error(taught.model) < 0.7 * error(plain.model)


def test_a_chain_tells_the_epochs_of_all_its_parts():
    model, args = zoo.resnet()
    wish = {"method": "l1-filters", "goal": "macs=0.5x", "data": LABELLED, "loss": cross_entropy, "test": LABELLED}
    chain = "finetune:2epochs+distil:1epochs,hard=0+recalibrate"
    told = quick(model, args, recover=chain, **wish).report.recovery
    assert [entry.epoch for entry in told.epochs] == [1, 2, 3] and all(entry.loss > 0 for entry in told.epochs)


@dataclass(frozen=True)
class Watched:
    """Fine-tuning that looks at the model after every step; SEEN is emptied by the test."""

    inner: FineTune = field(default_factory=lambda: FineTune(2, optimizer="sgd", lr=0.05))

    @property
    def requires(self):
        return self.inner.requires

    def recover(self, model, training):
        def hold(m):
            training.hold(m)
            SEEN[-1].append(copy.deepcopy(m.state_dict()))

        SEEN.append([])
        return self.inner.recover(model, replace(training, hold=hold))


SEEN = []


def small_cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 9, 10),
    )  # fmt: skip


def test_channels_go_in_rounds_with_recovery_on_the_masked_net_and_the_last_one_on_the_small():
    SEEN.clear()
    data = [digits.batch(n) for n in range(12)]
    model = small_cnn().eval()
    recipe = magnitude_iterative.but(structure=Axes(), schedule=Rounds(n=3), recovery=Watched())
    x, y = digits.digits()[2:]
    result = pomona.prune(
        model, data[0][0], method=recipe, goal="macs=0.4x", data=data, loss=cross_entropy, test=[(x, y)], latency=False
    )
    assert result.form == "eager" and result.report.proof.passed and result.report.macs.after <= 0.4 * result.report.macs.before
    first, second, last = SEEN
    dead = []
    for seen in (first, second):
        gone = (seen[0]["0.weight"].flatten(1) == 0).all(1)
        for state in seen:  # whole channels: filter, bias, norm, and nothing of it comes back
            for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
                assert not state[name][gone].any() and state["0.weight"][~gone].any()
            assert not state["3.weight"][:, gone].any()
        dead.append(gone)
    assert dead[0].any() and not (dead[0] & ~dead[1]).any() and dead[1].sum() > dead[0].sum()
    kept = result.plan.keep("0.weight:0")
    assert not (dead[1] & kept).any()
    assert last[0]["0.weight"].shape[0] == int(kept.sum()) < 12  # the last recovery trains the small model
    rounds = result.report.rounds
    assert [entry.macs for entry in rounds] == sorted((entry.macs for entry in rounds), reverse=True) and len(rounds) == 3
    assert rounds[0].recovered > rounds[0].quality and result.report.quality.recovered > 0.8
    norm = result.model[1]
    assert torch.isfinite(norm.running_var).all() and norm.num_features == int(kept.sum())
