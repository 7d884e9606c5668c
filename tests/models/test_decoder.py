import pytest
import torch
import transformers
from torch import nn

from pomona.models.decoder import decoder_inputs
from pomona.vocabulary import InputError

LABELS = torch.tensor([[5, 6, 7], [8, -100, -100]])


class Copyist(nn.Module):
    """An encoder-decoder without a way of its own."""

    def __init__(self, **config):
        super().__init__()
        self.config = transformers.PretrainedConfig(is_encoder_decoder=True, **config)

    def forward(self, input_ids, decoder_input_ids=None):
        return input_ids


def test_labels_come_one_place_later_behind_the_start():
    later = decoder_inputs(Copyist(decoder_start_token_id=2, pad_token_id=1))
    assert later(LABELS).tolist() == [[2, 5, 6], [2, 8, 1]]


def test_the_models_own_way_is_taken_and_needs_no_weights():
    config = transformers.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    with torch.device("meta"):
        model = transformers.T5ForConditionalGeneration(config)
    assert decoder_inputs(model)(LABELS).tolist() == [[0, 5, 6], [0, 8, 0]]
    with torch.device("meta"):
        alone = transformers.T5EncoderModel(config)
    assert decoder_inputs(alone) is None and decoder_inputs(nn.Linear(1, 1)) is None


def test_a_config_without_a_first_token_is_refused():
    with pytest.raises(InputError, match="no decoder_start_token_id"):
        decoder_inputs(Copyist())
