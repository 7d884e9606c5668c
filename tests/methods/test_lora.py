"""LoRA through peft: trained without the mask, merged with it."""

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import language
from pomona.recovery.lora import Lora
from pomona.training.adapters import targets
from pomona.training.checkpoint import values
from pomona.training.peft_lora import peft_lora
from pomona.vocabulary import InputError, Training

TEXT = [{"input_ids": language.ids(8, 16, seed), "labels": language.ids(8, 16, seed)} for seed in range(3)]


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    model, masks = pruned()
    with pytest.raises(InputError, match=r"pip install 'pomona\[peft\]'"):
        Lora().recover(model, training(masks))
    assert all(p.requires_grad for p in model.parameters())


def pruned(name: str = "llama"):
    model, _ = language.model(name)
    masks = {}
    for key, p in model.named_parameters():
        if p.ndim == 2 and ("layers" in key or ".h." in key):
            masks[key] = p.abs() > p.abs().median()
            p.data.masked_fill_(~masks[key], 0)
    return model, masks


def training(masks, **given):
    """With a hold that looks whether every dead weight is zero where it is stored."""

    def hold(model):
        for key, mask in masks.items():
            dead = model.get_parameter(key)[~mask]
            assert (dead == 0).all() or (dead == 1).all()  # ones when it is asked who lives
            model.get_parameter(key).data.masked_fill_(~mask, 0)

    return Training(TEXT, None, hold, **given)


def nothing(model):
    pass


def linear(dense: bool):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3))
    if not dense:
        model[0].weight.data[:, ::2] = 0
    return model, torch.randn(5, 4)


def stir(model):
    pytest.importorskip("peft")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(4)))


def test_where_all_live_the_merged_model_is_the_trained_one():
    pytest.importorskip("peft")
    model, x = linear(dense=True)
    before = model(x)
    with peft_lora(model, targets(model, nothing), (), 2, 4.0, 0):
        assert torch.equal(model(x), before)
        stir(model)
        through = model(x)
    torch.testing.assert_close(model(x), through)
    assert not torch.allclose(through, before)


def test_a_change_that_nearly_is_the_weight_leaves_no_zero_in_half_types():
    """1.0078125 * -0.9921875 is -0.99993896, which bfloat16 rounds to -1."""
    pytest.importorskip("peft")
    model = nn.Sequential(nn.Linear(1, 1, bias=False)).bfloat16()
    model[0].weight.data.fill_(1.0)
    with peft_lora(model, targets(model, nothing), (), 1, 1.0, 0), torch.no_grad():
        model[0].lora_A["default"].weight.fill_(1.0078125)
        model[0].lora_B["default"].weight.fill_(-0.9921875)
    assert model[0].weight.dtype == torch.bfloat16
    assert model[0].weight.item() == pytest.approx(1 - 1.0078125 * 0.9921875, rel=0.01)


def test_a_change_that_is_the_weight_leaves_it_as_it_was():
    pytest.importorskip("peft")
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    model[0].weight.data.copy_(torch.tensor([[1.0, 0.0]]))
    with peft_lora(model, targets(model, nothing), (), 1, 1.0, 0), torch.no_grad():
        model[0].lora_A["default"].weight.fill_(1.0)
        model[0].lora_B["default"].weight.fill_(-1.0)
    assert (model[0].weight != 0).tolist() == [[True, False]]


def test_where_some_are_dead_the_mask_is_laid_on_the_change():
    pytest.importorskip("peft")
    model, x = linear(dense=False)
    names, keys, before = dict(model.named_modules()), list(model.state_dict()), model[0].weight.clone()
    attributes = set(vars(model))
    with peft_lora(model, targets(model, nothing), (), 2, 4.0, 0):
        stir(model)
        A, B = model[0].lora_A["default"].weight, model[0].lora_B["default"].weight
        through = model(x)
    wanted = before + torch.where(before != 0, 4.0 / 2 * (B @ A), 0)
    torch.testing.assert_close(model[0].weight, wanted)
    assert torch.equal(model[0].weight != 0, before != 0) and not torch.allclose(model(x), through)
    assert dict(model.named_modules()) == names and list(model.state_dict()) == keys and set(vars(model)) == attributes


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_language_model_learns_and_keeps_its_zeros(name):
    pytest.importorskip("peft")
    model, masks = pruned(name)
    before, attributes = values(model), set(vars(model))

    def loss():
        with torch.no_grad():
            return sum(float(model(**batch).loss) for batch in TEXT)

    start = loss()
    told = Lora(12, lr=3e-3, rank=4).recover(model, training(masks))
    assert told["loss"][-1] < 0.97 * told["loss"][0] and loss() < start
    assert all(torch.equal(model.get_parameter(key) != 0, mask) for key, mask in masks.items())
    vectors = {key for key, p in model.named_parameters() if p.ndim == 1}
    adapters = sum(4 * (rows + width) for rows, width in (mask.shape for mask in masks.values()))
    assert told["trained"] == adapters + sum(model.get_parameter(key).numel() for key in vectors)
    after = values(model)
    assert after.keys() == before.keys() and set(vars(model)) == attributes
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert set(masks) <= moved <= vectors | set(masks)


def test_a_killed_run_ends_bit_identical(tmp_path):
    pytest.importorskip("peft")
    part = Lora(3, lr=3e-3, rank=2)
    whole, masks = pruned()
    part.recover(whole, training(masks))
    steps = []

    def die(model):
        steps.append(1)
        if len(steps) == 8:
            raise KeyboardInterrupt

    killed, resumed = pruned()[0], pruned()[0]
    with pytest.raises(KeyboardInterrupt):
        part.recover(killed, replace(training(masks, folder=tmp_path), hold=die))
    assert killed.state_dict().keys() == whole.state_dict().keys()
    part.recover(resumed, training(masks, folder=tmp_path))
    assert all(torch.equal(value, values(whole)[key]) for key, value in values(resumed).items())


def test_a_model_without_a_layer_for_it_is_sent_to_masklora():
    pytest.importorskip("peft")
    with pytest.raises(InputError, match="use masklora"), peft_lora(nn.Linear(2, 2), [], (), 2, 4.0, 0):
        pass
