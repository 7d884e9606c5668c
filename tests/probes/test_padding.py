"""Padding is not data: what an attention mask hides does not count."""

import torch
from torch.testing import assert_close

import zoo
from pomona.probes.forward import Forward
from pomona.vocabulary import Batch, Watch

READ = "bert.encoder.layer.0.intermediate.dense.weight"
BLOCK = "bert.encoder.layer.1"


def test_padded_and_unpadded_sentences_are_seen_alike():
    model, _ = zoo.bert()
    ids = zoo.tokens(1, 4)
    padded = torch.cat([ids, torch.zeros(1, 3, dtype=torch.int64)], 1)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    watch = Watch(inputs=frozenset({READ}), blocks=frozenset({BLOCK}))
    short = Forward().run(model, Batch(kwargs={"input_ids": ids, "attention_mask": torch.ones_like(ids)}), None, watch)
    long = Forward().run(model, Batch(kwargs={"input_ids": padded, "attention_mask": mask}), None, watch)
    assert long.inputs[READ].shape == (4, short.inputs[READ].shape[-1])
    assert_close(long.inputs[READ], short.inputs[READ][0])
    for ours, theirs in zip(long.blocks[BLOCK], short.blocks[BLOCK], strict=True):
        assert_close(ours, theirs[0])
