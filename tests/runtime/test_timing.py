import random
import time
from itertools import accumulate, count, islice, pairwise

import pytest
import torch

from pomona.runtime.timing import Pairs, clock_of, least_seconds, quantile, sampler, threads_set, time_pairs, turns
from pomona.vocabulary import InputError, Silent


def test_both_are_timed_in_turn_and_neither_always_first():
    calls = []

    def before():
        calls.append("b")
        time.sleep(0.003)

    def after():
        calls.append("a")
        time.sleep(0.003)

    timed = time_pairs(before, after, pairs=12, seconds=10, seed=0, stage=Silent())
    pairs = ["".join(p) for p in zip(*[iter(calls[6:])] * 2, strict=True)]
    assert len(timed.before) == len(timed.after) == 12
    assert set(pairs) == {"ab", "ba"} and len(pairs) == 12


def test_the_ratio_is_that_of_the_work_done():
    timed = time_pairs(lambda: time.sleep(0.02), lambda: time.sleep(0.005), 5, 10, 0, Silent())
    assert 0.15 < timed.ratios[len(timed.ratios) // 2] < 0.6
    assert all(a <= b for a, b in pairwise(timed.ratios))


def test_time_runs_out_after_five_pairs_at_the_earliest():
    timed = time_pairs(lambda: time.sleep(0.003), lambda: None, 1000, 1e-9, 0, Silent())
    assert len(timed.before) == 5


def test_threads_are_put_back_whatever_happens():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads_set(before + 1) as running:
        assert running == torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match="at most 256"), threads_set(30000):
        pass
    with pytest.raises(InputError, match="one thread"), threads_set(0):
        pass


def test_quantiles_of_a_line():
    line = [float(i) for i in range(11)]
    assert [quantile(line, share) for share in (0.0, 0.1, 0.25, 1.0)] == [0.0, 1.0, 2.5, 10.0]


def test_a_median_is_in_doubt_by_the_spread_of_its_neighbours():
    steady, wild = (Pairs((1.0,) * 25, tuple(1.0 + width * i for i in range(-12, 13))) for width in (0.001, 0.05))
    assert steady.doubt == pytest.approx(0.001 * 24 * 0.98 / 5) and wild.doubt == pytest.approx(50 * steady.doubt)
    assert Pairs((2.0,) * 5, (1.0,) * 5).doubt == 0


def test_the_median_of_noise_is_off_by_less_than_its_doubt_nineteen_times_of_twenty():
    draw = random.Random(0)
    found = []
    for _ in range(400):
        after = tuple(draw.lognormvariate(0, 0.1) for _ in range(20))
        found.append(abs(quantile(sorted(after), 0.5) - 1) <= Pairs((1.0,) * 20, after).doubt)
    assert 0.9 < sum(found) / len(found) < 0.99


def test_pairs_end_once_the_ratio_is_known_well_enough():
    ticks, draw = count(0.0, 1.0), random.Random(0)
    jumps = accumulate(draw.uniform(0.5, 1.5) for _ in count())
    steady, noisy = (
        time_pairs(lambda: None, lambda: None, 40, 10, 0, Silent(), lambda clock=clock: next(clock), enough=0.01)
        for clock in (ticks, jumps)
    )
    assert len(steady.before) == 5 and len(noisy.before) == 40


def test_any_number_take_turns_in_changing_order_and_keep_their_places():
    calls = []
    samplers = [lambda name=name: calls.append(name) or float("abc".index(name)) for name in "abc"]
    rounds = list(islice(turns(samplers, seed=0), 12))
    assert rounds == [(0.0, 1.0, 2.0)] * 12
    orders = {"".join(calls[3 * i : 3 * i + 3]) for i in range(12)}
    assert len(orders) > 2 and all(sorted(order) == ["a", "b", "c"] for order in orders)


def test_a_pause_comes_before_every_sample(monkeypatch):
    slept = []
    monkeypatch.setattr("pomona.runtime.timing.sleep", slept.append)
    next(turns([lambda: 1.0, lambda: 2.0], pause=0.5))
    assert slept == [0.5, 0.5]


def test_what_prepares_a_call_runs_before_each_and_is_not_timed():
    calls, now = [], [0.0]

    def work():
        calls.append("work")
        now[0] += 1.0

    def prepare():
        calls.append("prepare")
        now[0] += 100.0

    sample = sampler(work, lambda: now[0], prepare)
    calls.clear()
    assert [sample(), sample()] == [1.0, 1.0] and calls == ["prepare", "work"] * 2
    timed = time_pairs(work, work, 5, 10, 0, Silent(), lambda: now[0], prepare=prepare)
    assert timed.before == timed.after == (1.0,) * 5


def test_the_cpu_clock_does_not_count_sleep_and_others_are_refused():
    took = []
    for name in ("wall", "cpu"):
        clock = clock_of(name)
        start = clock()
        time.sleep(0.05)
        took.append(clock() - start)
    assert took[0] >= 0.05 > 0.03 > took[1]
    with pytest.raises(InputError, match="no clock 'sun'"):
        clock_of("sun")


def test_the_least_is_looked_for_until_it_is_steady(monkeypatch):
    """Every second sample is disturbed, most of all the first ones."""
    now, calls = [0.0], count()

    def call():
        now[0] += 1e-3 + (0.01 / (1 + n / 8) if (n := next(calls)) % 2 else 0.0)

    monkeypatch.setattr("pomona.runtime.timing.own_clock", lambda: lambda: now[0])
    assert least_seconds(call) == pytest.approx(1e-3)
    assert next(calls) < 27
