from dataclasses import dataclass

import pytest
import scipy.stats
import torch
from torch import nn

from pomona.evaluate import evaluate
from pomona.evaluate.similarity import pearson, ranks, sentence_vectors
from pomona.vocabulary import InputError


@dataclass
class Rated:
    batches: list
    pairs: torch.Tensor
    scores: torch.Tensor

    def __iter__(self):
        return iter(self.batches)


class Encoder(nn.Module):
    def forward(self, input_ids, attention_mask):
        return {"last_hidden_state": torch.stack([input_ids, input_ids**2, torch.ones_like(input_ids)], -1).float()}


def rated(scores):
    ids = torch.tensor([[1, 2, 0], [4, 0, 0], [3, 9, 5], [1, 1, 0]])
    pairs = torch.triu_indices(4, 4, 1).T
    halves = [{"input_ids": part, "attention_mask": (part > 0).long()} for part in ids.split(2)]
    return Rated(halves, pairs, torch.tensor(scores, dtype=torch.float64))


def test_correlations_agree_with_scipy():
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 6, (40,), generator=generator).double()
    b = a + torch.randint(0, 6, (40,), generator=generator).double()
    assert pearson(a, b) == pytest.approx(scipy.stats.pearsonr(a, b)[0])
    assert pearson(ranks(a), ranks(b)) == pytest.approx(scipy.stats.spearmanr(a, b)[0])
    assert pearson(a, torch.ones(40).double()) == 0


def test_padding_does_not_move_a_sentence():
    vectors = sentence_vectors(Encoder(), rated([0.0] * 6), lambda *a, **k: None)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4).double())
    direction = torch.tensor([4.0, 16.0, 1.0]).double()
    torch.testing.assert_close(vectors[1], direction / direction.norm())


def test_ratings_equal_to_the_models_own_correlate_perfectly():
    data = rated([0.0] * 6)
    vectors = sentence_vectors(Encoder(), data, lambda *a, **k: None)
    cosine = (vectors[data.pairs[:, 0]] * vectors[data.pairs[:, 1]]).sum(1)
    assert evaluate(Encoder(), rated((2 * cosine + 1).tolist()), "pearson").value == pytest.approx(1.0)
    monotone = evaluate(Encoder(), rated((-(cosine**9)).tolist()), "spearman")
    assert monotone.value == pytest.approx(-1.0) and monotone.examples == 6


def test_a_pair_without_a_sentence_is_refused():
    data = rated([0.0] * 6)
    with pytest.raises(InputError, match="names sentence 9; the data has 4"):
        evaluate(Encoder(), Rated(data.batches, torch.tensor([[0, 9], [0, 1]]), data.scores[:2]), "pearson")


def test_minilm_reaches_its_measured_correlation_with_people():
    from pomona.data import load_data
    from pomona.models import load_model

    loaded = load_model("minilm")
    data = load_data("lee", tokenizer=loaded.tokenizer)
    assert evaluate(loaded.model, data.test, data.metric).value == pytest.approx(0.656, abs=0.002)
