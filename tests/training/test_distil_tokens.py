"""Distilling language models: token by token, padding and ignored labels left out."""

import copy

import pytest
import torch
from torch.nn.functional import log_softmax, softmax
from torch.testing import assert_close

import language
from pomona.recovery.distil import Distil
from pomona.training.distil import counted, distilled, soft
from pomona.vocabulary import Batch, Training

IDS = language.ids(3, 10)


def models(name: str = "llama"):
    """(pruned, dense)."""
    dense, _ = language.model(name)
    model = copy.deepcopy(dense)
    for key, p in model.named_parameters():
        if p.ndim == 2 and ("layers" in key or "block" in key):
            p.data.masked_fill_(p.abs() <= p.abs().median(), 0)
    return model, dense


def by_hand(model, dense, kwargs, places, temperature):
    """Mean over the places (row, column) of T^2 sum_v p log(p / q)."""
    with torch.no_grad():
        ours, theirs = model(**kwargs).logits / temperature, dense(**kwargs).logits / temperature
    terms = [(softmax(theirs[i], 0) * (log_softmax(theirs[i], 0) - log_softmax(ours[i], 0))).sum() for i in places]
    return temperature**2 * sum(terms) / len(terms)


@pytest.mark.parametrize("left", [False, True])
def test_tokens_count_alike_and_padding_does_not(left):
    model, dense = models()
    mask = torch.ones_like(IDS)
    lengths = (10, 7, 4)
    for row, length in enumerate(lengths):
        mask[row, slice(0, 10 - length) if left else slice(length, 10)] = 0
    places = [(row, column) for row in range(3) for column in range(10) if mask[row, column]]
    assert len(places) == sum(lengths)
    kwargs = {"input_ids": IDS, "attention_mask": mask}
    loss = distilled(dense, None, temperature=3.0, hard=0.0)(model, Batch(kwargs=kwargs))
    assert_close(loss, by_hand(model, dense, kwargs, places, 3.0))


def test_what_stands_in_the_padding_changes_nothing():
    model, dense = models()
    mask = torch.ones_like(IDS)
    mask[0, 6:] = mask[2, 3:] = 0
    other = torch.where(mask.bool(), IDS, 7)
    objective = distilled(dense, None, hard=0.0, features=1.0, at=("model.layers.1", "model.norm"))
    losses = [objective(model, Batch(kwargs={"input_ids": ids, "attention_mask": mask})) for ids in (IDS, other)]
    assert_close(losses[0], losses[1])
    unmasked = [objective(model, Batch(kwargs={"input_ids": ids})) for ids in (IDS, other)]
    assert not torch.allclose(*unmasked)


def test_a_prompt_that_is_not_to_be_learned_does_not_count():
    model, dense = models()
    labels = IDS.clone()
    labels[:, :4] = -100  # the scores of token 3 predict token 4, the first to be learned
    kwargs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    batch = Batch.of({**kwargs, "labels": labels})
    places = [(row, column) for row in range(3) for column in range(3, 10)]
    assert_close(distilled(dense, None, hard=0.0)(model, batch), by_hand(model, dense, kwargs, places, 2.0))
    mixed = distilled(dense, None, hard=0.25)(model, batch)
    assert_close(mixed, 0.75 * by_hand(model, dense, kwargs, places, 2.0) + 0.25 * model(**batch.kwargs).loss)


def test_a_batch_in_which_nothing_counts_teaches_nothing():
    model, dense = models()
    batch = Batch.of(({"input_ids": IDS}, torch.full_like(IDS, -100)))
    loss = distilled(dense, None, hard=0.0, features=1.0, at=("model.norm",))(model, batch)
    loss.backward()
    assert loss.item() == 0


def test_an_encoder_decoder_counts_what_it_writes_not_what_it_reads():
    model, dense = models("t5")
    model.config.decoder_start_token_id = dense.config.decoder_start_token_id = model.config.pad_token_id = 0
    dense.config.pad_token_id = 0
    mask, labels = torch.ones_like(IDS), language.ids(3, 10, 1)
    mask[:, 5:] = 0
    labels[1, 6:] = -100
    batch = Batch.of({"input_ids": IDS, "attention_mask": mask, "labels": labels})
    _, written = counted(model, batch, dense(**batch.kwargs).logits)
    wanted = labels != -100
    assert torch.equal(written, wanted)
    places = [tuple(place) for place in wanted.nonzero().tolist()]
    assert_close(distilled(dense, None, hard=0.0)(model, batch), by_hand(model, dense, batch.kwargs, places, 2.0))


def test_pictures_and_classes_have_no_tokens_to_leave_out():
    scores = torch.randn(4, 3)
    assert counted(torch.nn.Linear(1, 1), Batch((scores,), target=torch.tensor([0, 1, 2, -100])), scores) == (None, None)
    assert_close(soft(scores, scores + 1, 2.0).item(), 0.0, atol=1e-6, rtol=0)


def test_a_pruned_llama_nears_the_dense_one_and_keeps_its_zeros():
    model, dense = models()
    masks = {key: p != 0 for key, p in model.named_parameters()}
    steps = []

    def hold(model):
        for key, p in model.named_parameters():
            p.data.masked_fill_(~masks[key], 0)
        steps.append(all(torch.equal(p != 0, masks[key]) for key, p in model.named_parameters()))

    text = []
    for seed in range(4):
        ids, mask = language.ids(4, 12, seed), torch.ones(4, 12, dtype=torch.int64)
        mask[0, 7:] = 0
        text.append({"input_ids": ids, "attention_mask": mask, "labels": torch.where(mask.bool(), ids, -100)})
    told = Distil(lr=3e-3, steps=30).recover(model, Training(text, None, hold, teacher=dense))
    assert told["steps"] == 30 == len(steps) and all(steps)
    assert told["loss"][-1] < 0.8 * told["loss"][0]
    assert all(torch.equal(p, q) for p, q in zip(dense.parameters(), language.model("llama")[0].parameters(), strict=True))
