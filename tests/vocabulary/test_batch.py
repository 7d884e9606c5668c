"""Batches of the user's data are judged before anything runs on them."""

import pytest
import torch

from pomona.vocabulary import Batch, InputError


@pytest.mark.parametrize("batch", [Batch((torch.tensor([[1, 9]]),)), Batch(kwargs={"input_ids": torch.tensor([[1, 9]])})])
def test_tokens_that_the_model_does_not_know_are_refused_however_they_are_given(batch):
    with pytest.raises(InputError, match="Batch 2 of the data holds the token 9 and the model knows 0 to 8"):
        batch.check(9, 2)
    batch.check(10)
