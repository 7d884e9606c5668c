import pytest
import torch
from torch import nn

import language
from pomona.training.subset import biases, head, norms, only, subset, words
from pomona.vocabulary import Batch, InputError


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(4 * 6, 5), nn.LayerNorm(5), nn.Linear(5, 3)
    )


BATCH = Batch((torch.zeros(2, 2, 8),))


def names(model, found):
    ids = {id(p) for p in found}
    return {name for name, p in model.named_parameters() if id(p) in ids}


def test_biases_norms_and_head_of_a_net():
    model = net()
    assert names(model, biases(model)) == {"0.bias", "1.bias", "3.bias", "4.bias", "5.bias"}
    assert names(model, norms(model)) == {"1.weight", "1.bias", "4.weight", "4.bias"}
    assert names(model, head(model, BATCH)) == {"5.weight", "5.bias"}
    assert names(model, subset(model, "norms+head", BATCH)) == {"1.weight", "1.bias", "4.weight", "4.bias", "5.weight", "5.bias"}


def test_a_parameter_of_two_kinds_counts_once():
    model = net()
    assert len(subset(model, "biases+norms", BATCH)) == len({id(p) for p in subset(model, "biases+norms", BATCH)}) == 7


def test_norms_of_a_llama_are_found_and_its_head_is_the_layer_called_last():
    model, _ = language.model("llama")
    found = names(model, norms(model))
    assert len(found) == 7 and all("norm" in name for name in found)
    assert names(model, head(model, Batch(kwargs={"input_ids": language.ids()}))) == {"lm_head.weight"}
    assert biases(model) == []


def test_the_head_is_the_layer_called_last_not_the_one_made_last():
    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = nn.Linear(4, 2), nn.Linear(3, 4)

        def forward(self, x):
            return self.head(self.body(x))

    model = Swapped()
    assert names(model, head(model, Batch((torch.zeros(1, 3),)))) == {"head.weight", "head.bias"}
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_gradients_are_asked_of_the_chosen_only_and_given_back():
    model = net()
    model[5].bias.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    with pytest.raises(KeyboardInterrupt), only(model, [model[5].bias]):
        assert names(model, [p for p in model.parameters() if p.requires_grad]) == {"5.bias"}
        raise KeyboardInterrupt
    assert [p.requires_grad for p in model.parameters()] == before


def test_words_are_read_and_misspelt_ones_named():
    assert words("biases + head") == ("biases", "head") and words("none") == ()
    with pytest.raises(InputError, match="'norm' is no kind of parameter to train; did you mean 'norms'"):
        words("biases+norm")
