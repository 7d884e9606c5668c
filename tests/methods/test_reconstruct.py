"""Reconstruction block by block (PERP, Zimmer et al., 2023; EBFT, Guo et al., 2024)."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import language
import pomona
from besides import TEXT, distance, pruned, training
from blocky import blocky
from pomona.recovery.reconstruct import Reconstruct
from pomona.recovery.text import parse
from pomona.training.checkpoint import values
from pomona.vocabulary import InputError, Training

EVERY = pytest.mark.parametrize("part", [Reconstruct(), Reconstruct(rank=4)], ids=["weights", "masklora"])


@EVERY
def test_every_block_comes_nearer_and_every_zero_stays(part):
    dense, model, masks = pruned()
    was, far = values(dense), distance(model, dense, TEXT)
    told = replace(part, steps=30, lr=5e-3).recover(model, training(dense, masks))
    assert all(after < before for before, after in zip(told["before"], told["after"], strict=True)) and len(told["after"]) == 3
    assert all(torch.equal(model.get_parameter(key) != 0, mask) for key, mask in masks.items())
    assert distance(model, dense, TEXT) < 0.7 * far
    assert all(torch.equal(value, was[key]) for key, value in values(dense).items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@EVERY
def test_no_zero_is_read_as_anything_else_at_any_step(part, monkeypatch):
    dense, model, masks = pruned()
    seen = []
    step = torch.optim.AdamW.step

    def looked(self, *args, **kwargs):  # what the last step left, as the model reads it
        read = {key: model.get_submodule(key.removesuffix(".weight")).weight for key in masks}
        seen.append(all(not read[key][~mask].any() for key, mask in masks.items()))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", looked)
    replace(part, steps=4, lr=1e-2).recover(model, training(dense, masks))
    assert len(seen) == 12 and all(seen)


def test_blocks_of_one_matrix_become_least_squares():
    torch.manual_seed(0)
    dense = nn.Module()
    dense.layers = nn.ModuleList([nn.Linear(8, 8, bias=False)])
    dense.forward = lambda x: dense.layers[0](x)
    model = nn.Module()
    model.layers = copy.deepcopy(dense.layers)
    model.forward = lambda x: model.layers[0](x)
    mask = torch.rand(8, 8) > 0.5
    model.layers[0].weight.data.masked_fill_(~mask, 0)
    x = torch.randn(64, 8) @ torch.randn(8, 8)  # inputs that depend on each other
    part = Reconstruct(steps=1500, lr=2e-2, which="none")
    part.recover(model, training(dense, {"layers.0.weight": mask}, [x], "layers"))
    wanted = dense.layers[0](x).detach()
    scaled = x / wanted.norm(dim=1, keepdim=True), wanted / wanted.norm(dim=1, keepdim=True)  # every token counts the same
    for row, lives in enumerate(mask):
        best = torch.linalg.lstsq(scaled[0][:, lives], scaled[1][:, row : row + 1]).solution[:, 0]
        assert_close(model.layers[0].weight[row, lives].detach(), best, atol=2e-3, rtol=1e-2)


def test_a_block_learns_on_what_the_reconstructed_ones_give():
    dense, model, masks = pruned()
    told = Reconstruct(steps=20, lr=5e-3).recover(model, training(dense, masks))
    again = Reconstruct(steps=1, lr=1e-9).recover(copy.deepcopy(model), training(dense, masks))
    assert_close(again["before"], told["after"])


def test_what_is_not_to_learn_stays_to_the_bit():
    dense, model, masks = pruned("opt", "model.decoder.layers")
    before = values(model)
    Reconstruct(steps=3, which="none").recover(model, training(dense, masks, container="model.decoder.layers"))
    moved = {key for key, value in values(model).items() if not torch.equal(value, before[key])}
    assert moved == set(masks)


def test_a_block_that_comes_no_nearer_is_put_back():
    dense, model, masks = pruned()
    before = values(model)
    told = Reconstruct(steps=2, lr=100.0, warmup=0.0).recover(model, training(dense, masks))
    assert told["before"] == told["after"] and all(torch.equal(v, before[key]) for key, v in values(model).items())


@EVERY
def test_a_killed_run_ends_bit_identical(part, tmp_path):
    part, steps = replace(part, epochs=2, lr=1e-3), []
    dense, whole, masks = pruned()
    part.recover(whole, training(dense, masks))
    given = training(dense, masks, folder=tmp_path)

    def walk(model, batches):
        for each in given.beside(model, batches):
            if len(steps) == 2:
                raise KeyboardInterrupt
            steps.append(each.block)
            yield each

    with pytest.raises(KeyboardInterrupt):
        part.recover(pruned()[1], replace(given, beside=walk))
    resumed = pruned()[1]
    part.recover(resumed, given)
    assert all(torch.equal(v, values(whole)[key]) for key, v in values(resumed).items())


def test_padding_teaches_nothing():
    dense, model, masks = pruned()
    padded = {"input_ids": language.ids(4, 16, 0), "attention_mask": torch.ones(4, 16, dtype=torch.long)}
    padded["attention_mask"][:, 12:] = 0
    other = {**padded, "input_ids": padded["input_ids"].clone()}
    other["input_ids"][:, 12:] = 7
    made = [copy.deepcopy(model) for _ in range(2)]
    for one, batch in zip(made, (padded, other), strict=True):
        part = Reconstruct(steps=2, lr=1e-2, optimizer="sgd")  # AdamW makes whole steps of rounding errors
        part.recover(one, training(dense, masks, [batch]))
    for key, value in values(made[0]).items():
        assert_close(value, values(made[1])[key], atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("structure", ["2:4", "neurons"])
def test_prune_and_reconstruct_come_nearer_on_text_that_was_not_seen(structure):
    dense, _ = language.model("llama")
    unseen = [{"input_ids": language.ids(4, 16, seed)} for seed in range(50, 54)]
    data = [{"input_ids": language.ids(4, 16, seed)} for seed in range(16)]
    goal = {"goal": "params=0.9x", "method": "magnitude"} if structure == "neurons" else {"method": "wanda"}
    far = {}
    for recover in ("none", "reconstruct:40steps,lr=5e-3"):
        result = pomona.prune(dense, TEXT[0], data=data, structure=structure, recover=recover, latency=False, **goal)
        far[recover] = distance(result.model, dense, unseen)
        assert result.report.proof.passed
        if structure == "2:4":
            weight = result.model.model.layers[1].mlp.down_proj.weight
            assert bool(((weight != 0).view(-1, 4).sum(1) == 2).all())
    assert far["reconstruct:40steps,lr=5e-3"] < 0.8 * far["none"]


def test_without_blocks_it_is_refused():
    dense, data = blocky()
    with pytest.raises(InputError, match="blocks"):
        Reconstruct().recover(dense, Training(data, None, lambda model: None, teacher=dense))
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(InputError, match="no list of blocks"):
        pomona.prune(net, torch.randn(2, 8), data=[torch.randn(4, 8)], goal="sparsity=0.5", recover="reconstruct", latency=False)


def test_blocks_of_another_width_cannot_be_compared():
    dense, _ = language.model("llama")
    goal = {"goal": "params=0.8x", "method": "magnitude", "structure": "width"}
    for recover in ("reconstruct", "refit"):
        with pytest.raises(InputError, match="cannot be compared"):
            pomona.prune(dense, TEXT[0], data=TEXT, recover=recover, latency=False, **goal)


@pytest.mark.parametrize("bad", ["reconstruct:which=head", "reconstruct:rank=-1", "reconstruct:calibrate=0", "reconstruct:lr=0"])
def test_settings_without_meaning_are_refused(bad):
    with pytest.raises(InputError):
        parse(bad)


def test_as_users_write_it():
    assert parse("reconstruct:200steps,rank=16") == Reconstruct(steps=200, rank=16)
