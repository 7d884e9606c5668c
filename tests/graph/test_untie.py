"""Tensors with several names become several."""

import torch
import transformers

import language
from pomona.graph.untie import untied


def test_further_names_get_tensors_of_their_own_and_the_rest_is_shared():
    model, data = language.model("gpt2")
    made = untied(model, ["transformer.wte.weight"])
    assert made.lm_head.weight is not made.transformer.wte.weight and torch.equal(made.lm_head.weight, model.lm_head.weight)
    assert (
        made.transformer.wte.weight is model.transformer.wte.weight
        and made.transformer.wpe.weight is model.transformer.wpe.weight
    )
    assert not made.config.tie_word_embeddings and model.config.tie_word_embeddings
    assert torch.equal(made(**data[0]).logits, model(**data[0]).logits)


def test_what_is_not_asked_for_stays_tied():
    model, _ = language.model("gpt2")
    made = untied(model, ["something.else"])
    assert made.lm_head.weight is made.transformer.wte.weight
    assert isinstance(made, transformers.GPT2LMHeadModel)
