"""The choice of a layout: what a pattern allows, what was measured, and nothing else."""

import json
from time import sleep

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pomona.native.living import sparsity_of
from pomona.runtime.formats.conv_format import Geometry
from pomona.runtime.sparse import SparseConv2d, SparseLinear, choose, table, timed
from pomona.runtime.sparse.candidates import Candidate, conv_candidates, linear_candidates
from pomona.runtime.sparse.choose import geometry_of, packed_layer
from pomona.runtime.sparse.layouts import linear_layout, linear_layouts
from pomona.runtime.sparse.table import DENSE, Table
from pomona.vocabulary import InputError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A cache folder that nobody else writes to."""
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    return tmp_path


def scattered(rows, columns, share, block=1, seed=0):
    draw = torch.Generator().manual_seed(seed)
    lives = torch.rand(-(-rows // block), columns, generator=draw) >= share
    return torch.randn(rows, columns, generator=draw) * lives.repeat_interleave(block, 0)[:rows]


def names(weight, batch, values="f32"):
    return {(c.layout, c.values, *dict(c.options).values()) for c in linear_candidates(weight, batch, values)}


def test_single_zeros_allow_what_holds_single_weights():
    found = names(scattered(64, 64, 0.5), 1)
    assert ("bitmask", "f32") in found and not {f for f in found if f[0] in ("nm", "dense")}


def test_full_weights_are_tried_in_the_blocks_that_are_fastest_full():
    assert names(torch.ones(64, 64), 1) == {("rowlanes", "f32", 32)}
    assert names(torch.ones(64, 64), 64) == {("blocks", "f32", 8)}
    assert names(torch.ones(64, 64), 8) == {("rowlanes", "f32", 32), ("blocks", "f32", 8)}
    assert names(torch.ones(64, 64), 64, "int8") == {("blocks", "f32", 8), ("blocks", "bf16", 8), ("dense", "int8")}
    assert names(scattered(64, 64, 0.1), 64) >= {("blocks", "f32", 8)}  # a few zeros are stored
    assert names(torch.zeros(0, 4), 1) == names(torch.zeros(4, 0), 64) == set()


def test_blocks_are_tried_as_tall_as_they_are_and_no_taller():
    found = {f[2] for f in names(scattered(64, 64, 0.8, block=4), 64) if f[0] == "blocks"}
    assert found == {1, 2, 4, 8} & found and found >= {4, 8}  # 8: as if it were full
    rows = {dict(c.options)["rows"] for c in conv_candidates(scattered(64, 64, 0.8, block=8).reshape(64, 64, 1, 1), 1)}
    assert rows == {1, 2, 4, 8}


def test_blocks_of_a_grouped_convolution_do_not_cross_groups():
    weight = scattered(6, 32, 0.8, block=3).reshape(6, 32, 1, 1)
    assert {dict(c.options)["rows"] for c in conv_candidates(weight, 2)} == {1}
    weight = scattered(8, 32, 0.8, block=4).reshape(8, 32, 1, 1)
    assert {dict(c.options)["rows"] for c in conv_candidates(weight, 2)} == {1, 2, 4}


@pytest.mark.skipif("nm" not in linear_layouts(), reason="no n:m layout")
def test_n_of_m_is_tried_where_it_holds():
    weight = torch.ones(16, 32)
    weight[:, ::2] = 0
    assert ("nm", "f32", 2, 4) in {(c.layout, c.values, dict(c.options)["n"], dict(c.options)["m"])
                                   for c in linear_candidates(weight, 1) if c.layout == "nm"}  # fmt: skip
    weight[3, 4] = 1
    assert not [c for c in linear_candidates(weight, 1) if c.layout == "nm" and dict(c.options)["m"] == 4]


def test_rounded_values_are_tried_only_when_allowed():
    weight = scattered(32, 32, 0.5)
    assert {c.values for c in linear_candidates(weight, 1)} == {"f32"}
    assert "int8" not in {c.values for c in linear_candidates(weight, 1, "bf16")}
    assert {c.values for c in linear_candidates(weight, 1, "int8")} >= {"f32", "bf16", "int8"}
    with pytest.raises(InputError, match="not 'int4'"):
        linear_candidates(weight, 1, "int4")


@given(rows=st.integers(1, 40), columns=st.integers(1, 70), share=st.sampled_from([0.3, 0.9, 1]), block=st.sampled_from([1, 16]),
       batch=st.sampled_from([1, 5, 40]))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_every_candidate_packs_and_multiplies_right(rows, columns, share, block, batch):
    weight = scattered(rows, columns, share, block)
    x = torch.randn(batch, columns)
    for candidate in linear_candidates(weight, batch):
        packed = candidate.pack(weight)
        assert torch.equal(packed.dense(), weight)
        assert torch.allclose(packed.linear(x), x @ weight.T, atol=1e-4), str(candidate)
        assert Candidate.from_json(json.loads(json.dumps(candidate.to_json()))) == candidate


def test_layouts_without_a_name_are_refused():
    with pytest.raises(InputError, match="no layout 'bitmsk'; there are"):
        linear_layout("bitmsk")
    with pytest.raises(InputError, match="does not name a layout"):
        Candidate.from_json({"layout": "bitmask"})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"padding": "same", "dilation": 2}, Geometry((1, 1), (2, 2), (2, 2), 1)),
        ({"padding": "valid", "stride": (2, 1)}, Geometry((2, 1), (0, 0), (1, 1), 1)),
        ({"padding": (0, 1), "groups": 2}, Geometry((1, 1), (0, 1), (1, 1), 2)),
    ],
)
def test_geometry_is_read_off_the_layer(options, expected):
    assert geometry_of(nn.Conv2d(4, 4, 3, **options)) == expected


def layer(share=0.5):
    made = nn.Linear(64, 32).eval()
    with torch.no_grad():
        made.weight.copy_(scattered(32, 64, share))
    return made


def chosen(monkeypatch, times, share=0.5, cold=False):
    monkeypatch.setattr(choose, "turns_timed", lambda turns, cold: {name: times.get(name, 9.0) for name in turns})
    found = Table.of(1)
    with found.measuring():
        return choose.choose(layer(share), torch.empty(1, 64), cold, "f32", found)


def test_the_fastest_is_chosen_dense_included(here, monkeypatch):
    won = chosen(monkeypatch, {DENSE: 2.0, "bitmask f32": 1.0})
    assert str(won.candidate) == "bitmask f32" and (won.dense_ms, won.best_ms) == (2000.0, 1000.0)


def test_what_is_hardly_faster_is_not_worth_it(here, monkeypatch):
    assert chosen(monkeypatch, {DENSE: 1.0, "bitmask f32": 0.99}).candidate is None


def test_what_was_measured_is_not_measured_again(here, monkeypatch):
    first = chosen(monkeypatch, {DENSE: 2.0, "bitmask f32": 1.0})
    assert chosen(monkeypatch, {DENSE: 1.0, "bitmask f32": 5.0}) == first
    # ... but another share of zeros, and cold weights, are other cases.
    assert chosen(monkeypatch, {DENSE: 1.0, "bitmask f32": 5.0}, share=0.8).candidate is None
    assert chosen(monkeypatch, {DENSE: 1.0, "bitmask f32": 5.0}, cold=True).candidate is None
    assert len(list(here.iterdir())) == 1


def test_a_damaged_table_is_measured_anew_and_said(here, monkeypatch):
    first = chosen(monkeypatch, {DENSE: 2.0, "bitmask f32": 1.0})
    (file,) = here.iterdir()
    file.write_text(file.read_text()[:-20])
    assert "cannot be read" in Table.of(1).notes[0]
    assert chosen(monkeypatch, {DENSE: 2.0, "bitmask f32": 1.0}) == first


def test_other_kernels_and_threads_have_tables_of_their_own(here, monkeypatch):
    one = Table.of(1).path
    assert Table.of(2).path != one
    monkeypatch.setattr(table, "sha256", lambda _: "0" * 64)
    assert (Table.of(1).path != one) == (table.library().path is not None)


def test_really_measured_times_are_those_of_calls(here):
    found = Table.of(1)
    with found.measuring():
        made = choose.choose(layer(), torch.empty(3, 64), False, "f32", found)
    assert set(made.tried) == {str(c) for c in linear_candidates(layer().weight, 3)}
    assert made.dense_ms > 0 and all(0 < ms < 1000 for ms in made.tried.values())


def test_turns_are_compared_and_the_hopeless_let_go(monkeypatch):
    calls = dict.fromkeys("abc", 0)
    now = [0.0]
    monkeypatch.setattr(timed, "own_clock", lambda: lambda: now[0])

    def turn(name, seconds):
        def call():
            calls[name] += 1
            now[0] += seconds

        return timed.Turn(call, lambda: None)

    found = timed.turns_timed({"a": turn("a", 2e-3), "b": turn("b", 1e-3), "c": turn("c", 9e-3)}, cold=False)
    assert found == pytest.approx({"a": 2e-3, "b": 1e-3, "c": 9e-3})
    assert calls["c"] < calls["b"] and calls["c"] < calls["a"]


def test_cold_calls_come_right_after_the_caches_were_emptied(monkeypatch):
    said = []
    monkeypatch.setattr(timed, "evict", lambda: lambda: said.append("evict"))
    turn = timed.Turn(lambda: (said.append("call"), sleep(1e-4)), lambda: said.append("ready"))
    timed.turns_timed({"only": turn}, cold=True)
    assert said[-3:] == ["evict", "ready", "call"] and said.count("call") == said.count("evict")


def test_layers_are_packed_as_chosen():
    assert isinstance(packed_layer(layer(), Candidate("bitmask")), SparseLinear)
    made = packed_layer(nn.Conv2d(4, 4, 3), Candidate("conv_blocks", "f32", (("rows", 2),)))
    assert isinstance(made, SparseConv2d) and sparsity_of(torch.tensor([0.0, 1.0])) == 0.5
