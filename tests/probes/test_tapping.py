"""Where products of a block are compared with the dense model's, found by listening."""

import pytest
import torch
from torch import nn

import language
from pomona.engines.capture import call
from pomona.engines.shell import Shell
from pomona.probes.tapping import END, groups
from pomona.vocabulary import Batch

BLOCKS = {"llama": "model.layers.1", "gpt2": "transformer.h.1", "bert": "encoder.layer.1", "opt": "model.decoder.layers.1"}
# In the order in which they are read, with the module that reads the stream first behind each.
WANTED = {
    "llama": [
        {"self_attn.q_proj": None, "self_attn.k_proj": None, "self_attn.v_proj": None},
        {"self_attn.o_proj": "post_attention_layernorm"},
        {"mlp.gate_proj": None, "mlp.up_proj": None},
        {"mlp.down_proj": END},
    ],
    "gpt2": [{"attn.c_attn": None}, {"attn.c_proj": "ln_2"}, {"mlp.c_fc": None}, {"mlp.c_proj": END}],
    "bert": [
        {"attention.self.query": None, "attention.self.key": None, "attention.self.value": None},
        {"attention.output.dense": "attention.output.LayerNorm"},
        {"intermediate.dense": None},
        {"output.dense": "output.LayerNorm"},
    ],
    "opt": [
        {"self_attn.k_proj": None, "self_attn.v_proj": None, "self_attn.q_proj": None},
        {"self_attn.out_proj": "final_layer_norm"},
        {"fc1": None},
        {"fc2": END},
    ],
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_groups_and_streams_of_blocks_that_nobody_described(name, dtype):
    model, data = language.model(name)
    model = model.to(dtype)
    shell = Shell(block := BLOCKS[name], model.get_submodule(BLOCKS[name]))
    weights = [key for key, p in shell.named_parameters() if p.ndim == 2]
    found = groups(shell, call(model, block, Batch.of(data[0]), {}), weights)
    short = [
        {key.removeprefix(f"{block}.").removesuffix(".weight"): tap and tap.stream for key, tap in group.items()}
        for group in found
    ]
    place = {None: None, END: END}
    wanted = [{key: place.get(at, f"{block}.{at}") for key, at in group.items()} for group in WANTED[name]]
    assert [dict(sorted(group.items())) for group in short] == [dict(sorted(group.items())) for group in wanted]


class Odd(nn.Module):
    """A layer that is called twice, one that squares, attention as torch has it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.twice, self.squared, self.plain = nn.Linear(8, 8), Squared(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x, x, x)[0]
        return self.plain(self.squared(self.twice(self.twice(x))))


class Squared(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).square()


def test_what_does_more_than_multiply_has_no_tap_and_comes_with_the_one_before_it():
    torch.manual_seed(0)
    block = Odd()
    weights = [name for name, p in block.named_parameters() if p.ndim == 2]
    found = groups(block, Batch((torch.randn(2, 5, 8),)), weights)
    assert [{name: tap is not None for name, tap in group.items()} for group in found] == [
        dict.fromkeys(["attention.in_proj_weight", "attention.out_proj.weight", "twice.weight", "squared.weight"], False),
        {"plain.weight": True},
    ]


def test_a_block_is_left_as_it_was():
    block = Odd()
    groups(block, Batch((torch.randn(2, 5, 8),)), ["plain.weight"])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in block.modules())
