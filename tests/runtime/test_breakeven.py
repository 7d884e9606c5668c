"""What a layer would take packed, foretold from one that stands for it."""

import pytest
import torch
from torch import nn

from pomona.runtime.breakeven import SPARSITIES, Curve, Shape, curve
from pomona.runtime.patterned import patterned
from pomona.runtime.sparse.choose import Choice
from pomona.runtime.sparse.table import Table
from pomona.vocabulary import InputError


def test_patterns_are_what_they_are_called():
    single = patterned(200, 300, "weights", 80)
    assert float((single == 0).float().mean()) == pytest.approx(0.8, abs=0.01)
    blocks = patterned(20, 300, "8x1", 70) != 0  # the last block is cut off by the edge
    assert bool((blocks[:8] == blocks[:1]).all()) and bool((blocks[16:] == blocks[16:17]).all())
    assert bool(((patterned(6, 32, "2:4", 50) != 0).reshape(-1, 4).sum(1) == 2).all())
    for wrong, columns in (("3:4", 6), ("x1", 8), ("4:2", 8), ("stars", 8)):
        with pytest.raises(InputError):
            patterned(4, columns, wrong, 50)


def test_few_layers_stand_for_many():
    layer, x = nn.Linear(2800, 700), torch.empty(3, 65, 2800, device="meta")
    shape = Shape.of(layer, x)
    assert shape == Shape((700, 2800), (195, 2800)) and shape.standing() == Shape((512, 2048), (256, 2048))
    assert Shape((8, 9000), (5000, 9000)).standing() == Shape((64, 4096), (1024, 4096))
    conv = nn.Conv2d(24, 40, 3, stride=2, padding=1)
    standing = Shape.of(conv, torch.empty(2, 24, 15, 15)).standing()
    made = standing.layer("8x1", 0.8)
    assert made.weight.shape == (32, 32, 3, 3) and made.stride == (2, 2)
    assert made(torch.ones(standing.x)).shape == (2, 32, 8, 8)
    depthwise = Shape.of(nn.Conv2d(24, 24, 3, groups=24), torch.empty(2, 24, 9, 9))
    assert depthwise.standing() == depthwise and depthwise.layer("weights", 0.5).groups == 24


def test_more_zeros_never_take_longer_and_a_layer_may_stay_dense(monkeypatch):
    took = dict(zip(SPARSITIES, (1.4, 1.2, 0.6, 0.7, 0.2, 0.3), strict=True))
    monkeypatch.setattr(
        "pomona.runtime.breakeven.choose",
        lambda layer, *_: Choice(None, 2.0, 2.0 * min(took.items(), key=lambda i: abs(i[0] - zeros(layer)))[1], {"a": 1.0}),
    )
    found = curve(Shape((512, 512), (1, 512)), "weights", False, "f32", Table.of(1))
    assert found.shares == (1.4, 1.2, 0.6, 0.6, 0.2, 0.2)
    assert found.at(0.1) == found.at(0.5) == 1.0 and found.at(0.6) == pytest.approx(0.9) and found.at(0.99) == 0.2


def zeros(layer):
    return float((layer.weight == 0).float().mean())


def test_n_m_is_of_one_sparsity_and_only_where_it_divides(monkeypatch):
    monkeypatch.setattr("pomona.runtime.breakeven.choose", lambda *_: Choice(None, 2.0, 1.0, {"a": 1.0}))
    assert curve(Shape((64, 64), (1, 64)), "2:4", False, "f32", Table.of(1)) == Curve((0.5,), (0.5,))
    assert curve(Shape((8, 3, 3, 3), (1, 3, 9, 9), (1, 1), (0, 0), (1, 1)), "2:4", False, "f32", Table.of(1)).at(0.5) == 1.0


def test_what_no_layout_takes_stays_dense(monkeypatch):
    monkeypatch.setattr("pomona.runtime.breakeven.choose", lambda *_: Choice(None, 0.0, 0.0, {}))
    assert curve(Shape((64, 64), (1, 64)), "8x1", False, "f32", Table.of(1)).at(0.9) == 1.0
