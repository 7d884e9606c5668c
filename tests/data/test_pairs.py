import pytest
import torch

from pomona.data.data import Data
from pomona.data.overlap import check_apart
from pomona.data.pairs import Pairs, paired
from pomona.data.text import token_data
from pomona.vocabulary import InputError


def later(labels):
    return labels - 1


def test_an_encoder_decoder_reads_one_half_of_a_window_and_writes_the_other():
    data = paired(token_data(torch.arange(50), "a", 5, 8, 0), later)
    (batch,) = data.test
    assert batch["input_ids"].tolist() == [[40, 41, 42], [45, 46, 47]] and batch["labels"].tolist() == [[43, 44], [48, 49]]
    assert torch.equal(batch["decoder_input_ids"], batch["labels"] - 1)
    assert batch["attention_mask"].shape == (2, 3) and batch["labels"].is_contiguous()
    with pytest.raises(InputError, match="windows"):  # they are still known as text
        check_apart(data, Data(data.train, data.train, "perplexity", "b"))


def test_a_users_own_batches_keep_what_they_say():
    ids, own = torch.ones(1, 3, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64)
    given = [{"input_ids": ids, "labels": own}, {"input_ids": ids, "labels": own, "decoder_input_ids": own}, (ids, own)]
    made, kept, other = Pairs(given, later)
    assert made["decoder_input_ids"].tolist() == [[-1, -1]] and made["input_ids"] is ids
    assert kept["decoder_input_ids"] is own and other is given[2] and len(Pairs(given, later)) == 3


def test_questions_are_for_models_that_go_on_writing():
    with pytest.raises(InputError, match="encoder-decoder"):
        paired(Data([], [], "choice", "a"), later)
