"""What the machine can do at most, and caches emptied on purpose."""

import json

import pytest
import torch

from pomona.native import library, using
from pomona.runtime.cold import Evict, read
from pomona.runtime.machine import caches, processors
from pomona.runtime.roofline import Roofline, _best, reached, roofline, unbeaten
from pomona.vocabulary import InputError

LIMITS = Roofline(threads=2, by="x", memory=1e9, last_cache=1e10, own_cache=1e11, fma=1e11, dot=4e11, own=1000, shared=100_000)


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """A machine with little caches, so that nothing here takes long, and a cache folder of its own."""
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    monkeypatch.setattr("pomona.runtime.roofline.caches", lambda: (1 << 16, 1 << 20))
    monkeypatch.setattr("pomona.runtime.roofline.Evict", lambda: Evict(1 << 22))
    monkeypatch.setattr("pomona.runtime.roofline._LONG", 1e-3)
    return tmp_path


@pytest.mark.parametrize("isa", [*library().isas, None])
def test_every_limit_is_a_rate_and_kept(isa, small):
    with using(isa):
        found = roofline(1)
        assert found.by == (isa or "torch") and found.threads == 1
        assert all(1e8 < rate < 1e14 for rate in (found.memory, found.last_cache, found.own_cache, found.fma))
        assert (found.dot > 1e8) == (isa is not None)
        assert roofline(1) == found and len(list(small.glob("roofline-*.json"))) == 1
        again = roofline(1, fresh=True)
    assert all(getattr(again, name) >= getattr(found, name) for name in ("memory", "last_cache", "own_cache", "fma", "dot"))


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"limits": {"memory": 1}}'])
def test_a_damaged_table_is_measured_anew(damage, small):
    found = roofline(1)
    (path,) = small.glob("roofline-*.json")
    path.write_bytes(damage)
    assert roofline(1).by == found.by and json.loads(path.read_bytes())["limits"]["fma"] > 0


def test_the_least_time_is_that_of_bytes_or_of_operations():
    assert LIMITS.seconds(2_000) == pytest.approx(2e-8)  # a thousand in the own cache of each of the two
    assert LIMITS.seconds(52_000) == pytest.approx(2e-8 + 5e-6) and LIMITS.seconds(52_000, cold=True) == pytest.approx(5.2e-5)
    assert LIMITS.seconds(10_102_000) == pytest.approx(2e-8 + 1e-5 + 0.01)
    assert LIMITS.seconds(2_000, 1e9) == pytest.approx(1e-2) and LIMITS.seconds(2_000, 1e9, int8=True) == pytest.approx(2.5e-3)


def test_caches_and_processors_are_those_of_a_machine():
    own, last = caches()
    assert 1 << 14 <= own <= last <= 1 << 34 and len(processors()) >= 1
    with pytest.raises(InputError, match="one thread"):
        roofline(0)


@pytest.mark.parametrize("isa", [*library().isas, None])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 127, 129, 1000])
def test_reading_takes_any_length_and_changes_nothing(isa, count):
    buffer = torch.full((count,), 3.0)
    with using(isa):
        read(buffer, threads=2, times=3)
    assert torch.equal(buffer, torch.full((count,), 3.0))


def test_what_evicts_reads_more_than_the_last_cache(monkeypatch):
    monkeypatch.setattr("pomona.runtime.cold.caches", lambda: (1 << 10, 30_000_000))
    monkeypatch.setattr("pomona.runtime.cold._LEAST", 100)
    evict = Evict()
    assert evict.buffer.nbytes == 40_000_000
    evict()


def test_a_run_that_is_interrupted_does_not_make_all_of_them_short(monkeypatch):
    """By the clock on the wall the first seems to last long enough; a run that is timed must do so undisturbed."""
    now, stalls, asked = [0.0], iter([5.0]), []

    def run(times):
        asked.append(times)
        now[0] += times * 1e-7 + next(stalls, 0.0)

    monkeypatch.setattr("pomona.runtime.roofline.perf_counter", lambda: now[0])
    monkeypatch.setattr("pomona.runtime.roofline._LONG", 0.02)
    assert _best(run, 2) == pytest.approx(1e7)
    assert min(asked[-9:]) * 1e-7 >= 0.01


def test_no_cache_is_slower_than_what_lies_behind_it(monkeypatch):
    rates = iter([4e10, 3e10, 1e8])
    monkeypatch.setattr("pomona.runtime.roofline._bytes", lambda *_: next(rates))
    found = roofline(1)
    assert (found.memory, found.last_cache, found.own_cache) == (4e10, 4e10, 4e10)


def test_more_threads_than_processors_have_the_limits_of_as_many():
    assert roofline(200) == roofline(len(processors()))


def test_limits_that_were_beaten_are_measured_anew(monkeypatch):
    asked = []
    monkeypatch.setattr("pomona.runtime.roofline.roofline", lambda threads, fresh=False: asked.append(fresh) or LIMITS)
    assert unbeaten(1, lambda limits: limits.seconds(52_000) > 1.0) == LIMITS and asked == [False]
    assert unbeaten(1, lambda limits: limits.seconds(52_000) < 1.0) == LIMITS and asked == [False, False, True]
    assert reached(1.0, 4.0) == "25%" and reached(4.0, 1.0) == "over 100%"
