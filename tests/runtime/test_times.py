"""The table of op times: measured once, kept on disk, honest about damage."""

import json

import pytest
import torch

from pomona.runtime.made import Made, Shape
from pomona.runtime.times import Times


def product(width):
    left, right = (Shape(s, torch.float32, (0, 1)) for s in ((64, width), (width, 64)))
    return Made(torch.ops.aten.mm.default, (left, right), {})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    return tmp_path


def asked(*widths):
    times = Times.of(1)
    with times.measuring():
        return times, [times.seconds(product(width)) for width in widths]


def test_more_work_takes_longer_and_the_second_run_reads_it(monkeypatch):
    _, (narrow, wide) = asked(16, 4096)
    assert 0 < narrow < wide
    monkeypatch.setattr("pomona.runtime.times.least_seconds", lambda call: pytest.fail("measured again"))
    assert asked(16, 4096)[1] == [narrow, wide]


def test_equal_calls_have_equal_names_and_layouts_differ():
    assert product(8).name == product(8).name != product(16).name
    turned = Shape((4, 6), torch.float32, (1, 0))
    assert str(turned) == "float32[4,6]@10" and turned.make(torch.Generator()).stride() == (1, 4)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 0, "seconds": {}}', b"\xff\xfe"])
def test_a_damaged_table_is_measured_anew_and_said(cache, damage):
    times, _ = asked(16)
    times.path.write_bytes(damage)
    again, (seconds,) = asked(16)
    assert seconds > 0 and "measured anew" in again.notes[0]
    assert json.loads(times.path.read_bytes())["seconds"] and not Times.of(1).notes


def test_tables_of_other_threads_are_other_files():
    assert Times.of(1).path != Times.of(2).path


def test_two_runs_add_to_one_table():
    one, two = Times.of(1), Times.of(1)
    for times, width in ((one, 16), (two, 32)):
        with times.measuring():
            times.seconds(product(width))
    assert {product(16).name, product(32).name} <= set(Times.of(1).known)


def test_an_op_that_does_not_run_alone_is_noted():
    shape = Shape((2, 3), torch.float32, (0, 1))
    times = Times.of(1)
    with times.measuring():
        assert times.seconds(Made(torch.ops.aten.mm.default, (shape, shape), {})) == 0
    assert "cannot be timed by itself" in times.notes[0]


def test_measuring_leaves_random_numbers_and_threads_alone():
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    times = Times.of(1)
    with times.measuring():
        times.seconds(Made(torch.ops.aten.rand_like.default, (Shape((8,), torch.float32, (0,)),), {}))
    assert torch.equal(before, torch.get_rng_state()) and torch.get_num_threads() == threads
