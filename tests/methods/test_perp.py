"""PERP: few parameters, every zero kept; the card's acceptance tests on a tiny language model."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import language
import pomona
from pomona.recovery.mask_lora import MaskLora
from pomona.recovery.perp import Perp
from pomona.recovery.scale_lora import ScaleLora
from pomona.training.checkpoint import values
from pomona.vocabulary import InputError, Training

TEXT = [{"input_ids": language.ids(8, 16, seed), "labels": language.ids(8, 16, seed)} for seed in range(3)]
EVERY = pytest.mark.parametrize("part", [Perp(), MaskLora(rank=4), ScaleLora(rank=4)], ids=["perp", "masklora", "scalelora"])


def pruned(name: str = "llama") -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Half of each matrix of the blocks gone, the smaller half; with the masks."""
    model, _ = language.model(name)
    masks = {}
    for key, p in model.named_parameters():
        if p.ndim == 2 and "layers" in key:
            masks[key] = p.abs() > p.abs().median()
            p.data.masked_fill_(~masks[key], 0)
    return model, masks


def training(model, masks, **given):
    """With a hold that also looks whether every dead weight is zero as the model sees it."""

    def hold(model):
        for key, mask in masks.items():
            owner, _, attribute = key.rpartition(".")
            module = model.get_submodule(owner)
            stored = (
                module.parametrizations[attribute].original if hasattr(module, "parametrizations") else getattr(module, attribute)
            )
            stored.data.masked_fill_(~mask, 0)
            seen = getattr(module, attribute)
            assert not seen[~mask].any()
        STEPS.append(1)

    STEPS.clear()
    return Training(TEXT, None, hold, **given)


STEPS: list[int] = []


@EVERY
def test_the_loss_falls_and_every_zero_stays_at_every_step_and_after_the_merge(part):
    model, masks = pruned()
    told = replace(part, epochs=12, lr=1e-2).recover(model, training(model, masks))
    assert told["loss"][-1] < 0.97 * told["loss"][0] and told["steps"] == 36 and len(STEPS) >= 36
    assert all(torch.equal(model.get_parameter(key) != 0, mask) for key, mask in masks.items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_adapters_learn_more_than_biases_and_norms():
    losses = {}
    for part in (Perp(), MaskLora(rank=4), ScaleLora(rank=4)):
        model, masks = pruned()
        losses[type(part)] = replace(part, epochs=12, lr=1e-2).recover(model, training(model, masks))["loss"][-1]
    assert losses[MaskLora] < losses[Perp] and losses[ScaleLora] < losses[Perp]


@EVERY
def test_only_the_stated_share_is_trained_the_rest_stays_to_the_bit(part):
    model, masks = pruned("opt")
    before = values(model)
    told = replace(part, steps=3).recover(model, training(model, masks))
    after = values(model)
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    vectors = {key for key, p in model.named_parameters() if p.ndim == 1}
    adapters = sum(4 * (rows + width) for rows, width in (mask.shape for mask in masks.values()))
    assert told["trained"] == sum(model.get_parameter(key).numel() for key in vectors) + (0 if type(part) is Perp else adapters)
    assert told["parameters"] == sum(p.numel() for p in model.parameters())
    still = {key for key in vectors if "k_proj.bias" in key}  # one number added to all logits of a query changes nothing
    assert vectors - still <= moved <= vectors | (set() if type(part) is Perp else set(masks))


@EVERY
def test_two_of_four_stays_two_of_four(part):
    model, _ = language.model("llama")
    masks = {}
    for key, p in model.named_parameters():
        if p.ndim == 2 and "layers" in key:
            masks[key] = torch.tensor([True, False, False, True]).repeat(p.shape[0], p.shape[1] // 4)
            p.data.masked_fill_(~masks[key], 0)
    replace(part, steps=4, lr=1e-2).recover(model, training(model, masks))
    assert all(torch.equal(model.get_parameter(key) != 0, mask) for key, mask in masks.items())


@EVERY
def test_what_is_judged_in_training_is_what_the_merged_model_answers(part):
    model, masks = pruned()
    judged = []

    def validate(model):
        with torch.no_grad():
            judged.append(model(TEXT[0]["input_ids"]).logits)
        return float(len(judged))  # the last is the best

    replace(part, epochs=3, lr=1e-2).recover(model, training(model, masks, validate=validate))
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(TEXT[0]["input_ids"]).logits, judged[-1]) and not torch.equal(judged[0], judged[-1])


def test_zeros_that_no_hold_knows_are_kept_as_well():
    for part in (Perp(which="head"), MaskLora(rank=2), ScaleLora(rank=2)):
        model, masks = pruned()
        model.lm_head.weight.data[::2, 3] = 0
        masks["lm_head.weight"] = model.lm_head.weight != 0
        replace(part, steps=5, lr=1e-2).recover(model, Training(TEXT, None, lambda model: None))
        assert all(torch.equal(model.get_parameter(key) != 0, mask) for key, mask in masks.items())


@EVERY
def test_a_killed_run_ends_bit_identical(part, tmp_path):
    part = replace(part, epochs=3, lr=1e-2)
    whole, masks = pruned()
    part.recover(whole, training(whole, masks))
    again = training(whole, masks, folder=tmp_path)

    def die(model):
        again.hold(model)
        if len(STEPS) >= 8:
            raise KeyboardInterrupt

    killed = pruned()[0]
    with pytest.raises(KeyboardInterrupt):
        part.recover(killed, replace(again, hold=die))
    assert killed.state_dict().keys() == whole.state_dict().keys()
    resumed = pruned()[0]
    part.recover(resumed, training(resumed, masks, folder=tmp_path))
    assert len(STEPS) < 9 and all(torch.equal(v, values(whole)[key]) for key, v in values(resumed).items())


@EVERY
def test_the_dense_model_may_teach_without_labels(part):
    dense, _ = language.model("llama")
    model, masks = pruned()
    part = replace(part, epochs=10, lr=1e-2, hard=0.0)
    unlabelled = [{"input_ids": batch["input_ids"]} for batch in TEXT]
    assert part.requires == {"data"} and replace(part, hard=0.5).requires == {"data", "labels", "gradients"}
    told = part.recover(model, replace(training(model, masks, teacher=dense), data=unlabelled))
    assert told["loss"][-1] < 0.8 * told["loss"][0]
    assert all(torch.equal(model.get_parameter(key) != 0, mask) for key, mask in masks.items())
    with pytest.raises(InputError, match="use hard=1"):
        part.recover(model, training(model, masks))


def test_a_model_without_biases_has_none_to_train():
    model, masks = pruned()
    with pytest.raises(InputError, match="no biases to train; use another which="):
        Perp(which="biases").recover(model, training(model, masks))
    assert all(p.requires_grad for p in model.parameters())


def test_a_pruned_net_is_recovered_through_the_face_with_its_report():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    made = torch.Generator().manual_seed(1)
    data = [(torch.randn(16, 1, 8, 8, generator=made), torch.arange(16) % 4) for _ in range(4)]
    dense = copy.deepcopy(model)
    wish = {"method": "magnitude", "goal": "sparsity=0.7", "data": data, "loss": nn.functional.cross_entropy, "latency": False}
    plain = pomona.prune(model, data[0][0], **wish)
    for recover in ("perp:6steps", "masklora:6steps,rank=2,lr=1e-2", "scalelora:6steps,rank=2,lr=1e-2"):
        result = pomona.prune(model, data[0][0], recover=recover, **wish)
        assert result.report.proof.passed and len(result.report.recovery.epochs) == 2
        changed = False
        for (key, a), b in zip(plain.model.named_parameters(), result.model.parameters(), strict=True):
            if a.ndim >= 2:
                assert torch.equal(a == 0, b == 0), (recover, key)
                changed = changed or not torch.equal(a, b)
        assert changed is (not recover.startswith("perp"))
    assert all(torch.equal(a, b) for a, b in zip(dense.parameters(), model.parameters(), strict=True))
