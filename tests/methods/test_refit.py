"""Refit: what the dense model puts out, on what the pruned one reads (after GPTAQ, Li et al., 2025)."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import language
import pomona
from besides import TEXT, distance, pruned, training
from pomona.recovery.refit import Refit
from pomona.recovery.text import parse
from pomona.training.checkpoint import values
from pomona.vocabulary import InputError, Training


class Stack(nn.Module):
    """Matrices one after another, each a block."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_each_weight_is_least_squares_between_what_it_reads_and_what_the_dense_one_gave():
    torch.manual_seed(0)
    dense = Stack(2).requires_grad_(False)
    model, masks = copy.deepcopy(dense), {f"layers.{n}.weight": torch.rand(8, 8) > 0.4 for n in range(2)}
    for name, mask in masks.items():
        model.get_parameter(name).masked_fill_(~mask, 0)
    x = torch.randn(64, 8) @ torch.randn(8, 8)
    Refit(damping=1e-9, steps=500).recover(model, training(dense, masks, x.split(16), "layers"))
    wanted, read = x, x
    for name, mask in masks.items():
        bias = dense.get_parameter(name.replace("weight", "bias"))
        wanted = wanted @ dense.get_parameter(name).T + bias
        weight = model.get_parameter(name)
        for row, lives in enumerate(mask):
            best = torch.linalg.lstsq(read[:, lives].double(), (wanted - bias)[:, row : row + 1].double()).solution[:, 0]
            assert_close(weight[row, lives].double(), best, atol=1e-3, rtol=1e-3)
        read = read @ weight.T + bias  # of the pruned model, refitted by now


@pytest.mark.parametrize(
    ("name", "container"), [("llama", "model.layers"), ("opt", "model.decoder.layers"), ("gpt2", "transformer.h")]
)
def test_every_block_comes_nearer_and_nothing_but_the_living_moves(name, container):
    dense, model, masks = pruned(name, container)
    was, far = values(model), distance(model, dense, TEXT)
    told = Refit().recover(model, training(dense, masks, container=container))
    assert all(after < before for before, after in zip(told["before"], told["after"], strict=True))
    assert distance(model, dense, TEXT) < 0.6 * far
    now = values(model)
    assert all(torch.equal(now[key] != 0, mask) for key, mask in masks.items())
    assert {key for key, value in now.items() if not torch.equal(value, was[key])} == set(masks)


@pytest.mark.parametrize("seed", range(3))
def test_half_types_are_summed_in_single(seed):
    """Inputs of low rank: what bfloat16 loses by rounding is more than the damping."""
    torch.manual_seed(seed)
    dense = Stack(2).requires_grad_(False).bfloat16()
    model, masks = copy.deepcopy(dense), {f"layers.{n}.weight": torch.rand(8, 8) > 0.4 for n in range(2)}
    for name, mask in masks.items():
        model.get_parameter(name).masked_fill_(~mask, 0)
    x = (torch.randn(4096, 1) @ torch.randn(1, 8)).bfloat16()
    Refit(damping=1e-4).recover(model, training(dense, masks, x.split(1024), "layers"))
    assert all(torch.equal(model.get_parameter(name) != 0, mask) for name, mask in masks.items())


def test_behind_a_solver_it_comes_nearer_still_on_text_that_was_not_seen():
    dense, _ = language.model("llama")
    unseen = [{"input_ids": language.ids(4, 16, seed)} for seed in range(50, 54)]
    data = [{"input_ids": language.ids(8, 16, seed)} for seed in range(16)]
    far = {}
    for recover in ("none", "refit"):
        result = pomona.prune(dense, TEXT[0], method="sparsegpt", structure="2:4", data=data, recover=recover, latency=False)
        far[recover] = distance(result.model, dense, unseen)
        assert result.report.proof.passed
        weight = result.model.model.layers[1].mlp.down_proj.weight
        assert bool(((weight != 0).view(-1, 4).sum(1) <= 2).all())
    assert far["refit"] < 0.9 * far["none"]


def test_layers_of_another_width_than_the_dense_ones_stay():
    dense, _ = language.model("llama")
    goal = {"goal": "params=0.9x", "method": "magnitude", "structure": "neurons"}
    found = [
        pomona.prune(dense, TEXT[0], data=TEXT, recover=recover, latency=False, **goal).model.state_dict()
        for recover in ("none", "refit")
    ]
    moved = {key.rpartition(".layers.")[2][2:] for key in found[0] if not torch.equal(found[0][key], found[1][key])}
    assert "mlp.down_proj.weight" in moved and not moved & {"mlp.up_proj.weight", "mlp.gate_proj.weight"}


def test_what_makes_no_sense_is_refused():
    for bad in ("refit:damping=0", "refit:calibrate=0", "refit:0steps"):
        with pytest.raises(InputError):
            parse(bad)
    dense, model, _ = pruned()
    with pytest.raises(InputError, match="block by block"):
        Refit().recover(model, Training(TEXT, None, lambda model: None, teacher=dense))


def test_a_model_that_streams_is_never_beside_itself(tmp_path):
    dense, _ = language.model("llama")
    dense.save_pretrained(tmp_path / "whole")
    with pytest.raises(InputError, match="Refit"):
        pomona.prune_folder(tmp_path / "whole", tmp_path / "small", method="alps-refit", structure="2:4", data=TEXT)
    assert not (tmp_path / "small").exists()
