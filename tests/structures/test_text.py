"""Structures in plain words."""

import pytest

from pomona.registry import build
from pomona.structures import named, structure
from pomona.structures.axes import Axes
from pomona.structures.block import Block
from pomona.structures.layers import Layers
from pomona.structures.n_m import NM
from pomona.structures.union import Union
from pomona.structures.weights import Weights
from pomona.vocabulary import InputError, spell

WORDS = {
    "2:4": NM(2, 4),
    "1:8": NM(1, 8),
    "block 4x1": Block(4, 1),
    "16x4": Block(16, 4),
    "weights": Weights(),
    "channels": Axes(),
    "neurons": Axes(("neuron",)),
    "heads": Axes(("head",)),
    "kv-groups": Axes(("kv-group",)),
    "head-dims": Axes(("head-dim",)),
    "groups": Axes(("group",)),
    "width": Axes(("width",)),
    "layers": Layers(),
    "heads+neurons": Axes(("head", "neuron")),
    "heads+layers": Union((Axes(("head",)), Layers())),
    "NM(2, 4)": NM(2, 4),
    "Axes(families=('head',))": Axes(("head",)),
}


@pytest.mark.parametrize("text", WORDS)
def test_words_are_read(text):
    assert structure(text) == WORDS[text]


@pytest.mark.parametrize("text", ["2:4", "weights", "channels", "heads+neurons", "kv-groups", "layers", "axes", "width"])
def test_plain_words_are_said_back(text):
    assert named(structure(text)) == text


@pytest.mark.parametrize("part", WORDS.values(), ids=str)
def test_calls_are_read_back(part):
    assert build(spell(part)) == part


def test_an_unknown_word_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'channels'"):
        structure("chanels")
    with pytest.raises(InputError, match="'Once"):
        structure("Once()")
