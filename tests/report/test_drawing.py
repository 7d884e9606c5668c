import re
from itertools import pairwise
from math import log10

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.report import figures_rounds, units
from pomona.report.axes import Scale, around
from pomona.report.bars import Bar, rows, skyline
from pomona.report.figures_latency import quantile
from pomona.report.figures_proof import proof
from pomona.report.markup import Markup, el, join

FINITE = st.floats(-1e12, 1e12)


@given(lo=FINITE, span=st.floats(1e-3, 1e9), log=st.booleans())
def test_ticks_are_few_inside_and_ascending(lo, span, log):
    scale = Scale(span, span * 1e4, log=True) if log else Scale(lo, lo + max(span, abs(lo) * 1e-6))
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 9
    assert list(ticks) == sorted(set(ticks))
    air = 1e-6 * (scale.hi - scale.lo)
    assert all(scale.lo - air <= tick <= scale.hi + air for tick in ticks)


@given(value=FINITE)
def test_a_scale_never_leaves_the_picture(value):
    assert 0.0 <= Scale(-3.0, 5.0)(value) <= 1.0
    assert 0.0 <= Scale(1e-3, 10.0, log=True)(value) <= 1.0


def test_equal_values_still_have_a_scale():
    assert around([0.0, 0.0]) == Scale(-1.0, 1.0)
    assert around([5.0]).lo < 5.0 < around([5.0]).hi


@given(text=st.text())
def test_plain_text_never_becomes_a_tag(text):
    assert "<" not in join(text)
    assert el("i", {"title": text}).count('"') == 2


def test_markup_is_put_in_as_it_is():
    assert el("p", None, Markup("<br>"), "<br>") == "<p><br>&lt;br&gt;</p>"


@given(value=st.integers(0, 10**15))
def test_counts_keep_three_digits(value):
    figure, _, unit = units.count(value).partition(units.GAP)
    exact = float(figure) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}[unit]
    assert exact == pytest.approx(value, rel=0.0051, abs=0)
    assert float(figure) < 1000


@pytest.mark.parametrize(
    ("write", "value", "said"),
    [
        (units.count, 999, "999"), (units.count, 1000, "1.00 k"), (units.count, 999_500_000, "1.00 G"),
        (units.size, 1023, "1023 B"), (units.size, 1024, "1.00 KiB"), (units.size, 90_900_000, "86.7 MiB"),
        (units.duration, 0.5, "500 µs"), (units.duration, 12.345, "12.3 ms"), (units.duration, 90_000, "90.0 s"),
        (units.share, 1.0, "100 %"), (units.share, 0.0, "0 %"), (units.share, 1e-6, "0.00010 %"),
        (units.share, 0.9999, "99.99 %"),
        (units.times, 1.0, "1×"), (units.times, 1.996, "2.0×"), (units.times, 9.97, "10×"), (units.times, 0.8, "0.8×"),
        (units.scientific, 1e-9, "1.0 × 10⁻⁹"),
    ],
)  # fmt: skip
def test_figures_are_written_as_people_read_them(write, value, said):
    assert write(value).replace(units.GAP, " ") == said


@pytest.mark.parametrize(
    "write", [units.count, units.size, units.duration, units.share, units.times, units.scientific, units.whole]
)
def test_what_was_not_measured_is_a_dash(write):
    assert write(None) == units.MISSING


@given(samples=st.lists(st.floats(0.0, 1e6), min_size=1))
def test_quantiles_are_ordered_and_end_at_the_extremes(samples):
    samples = sorted(samples)
    cuts = [quantile(samples, q / 10) for q in range(11)]
    assert cuts[0] == samples[0] and cuts[-1] == samples[-1]
    assert all(b >= a or b == pytest.approx(a) for a, b in pairwise(cuts))


def test_a_bar_is_as_long_as_its_share_of_the_longest():
    drawn = rows("weights", [Bar("a", "", 200.0, 50.0, 50.0), Bar("b", "", 100.0, 100.0)])
    assert '<rect x="0%" width="25%" height="14" class="kept">' in drawn
    assert '<rect x="25%" width="25%" height="14" class="idle" fill="url(#hatch)">' in drawn
    assert '<rect x="50%" width="50%" height="14" class="gone">' in drawn
    assert '<rect x="0%" width="50%" height="14" class="kept">' in drawn


def test_the_skyline_is_as_wide_as_it_costs_and_as_high_as_it_keeps():
    drawn = skyline("MACs", [Bar("a", "", 300.0, 150.0), Bar("b", "", 100.0, 100.0), Bar("c", "", 0.0, 0.0)])
    assert '<rect x="0%" width="75.05%" y="75" height="75" class="kept">' in drawn
    assert '<rect x="75%" width="25.05%" y="0" height="150" class="kept">' in drawn


@pytest.mark.parametrize(("error", "place", "kind"), [(0.0, "0%", "good"), (1e-9, "50%", "good"), (1e-3, "83.333%", "bad")])
def test_the_error_lies_at_its_power_of_ten(error, place, kind):
    drawn = proof({"proof": {"passed": kind == "good", "max_error": error, "tolerance": 1e-9}})
    assert f'<circle cx="{place}" cy="24" r="6" class="mark {kind}">' in drawn


def test_an_exploded_perplexity_does_not_flatten_the_rounds(sample):
    sample["quality"] = {"metric": "perplexity", "higher_is_better": False, "before": 12.0, "after": 1200.0, "recovered": 12.0}
    sample["rounds"] = [{"round": 1, "macs": 10_000, "quality": 1200.0, "recovered": 24.0}]
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)" r="5"', figures_rounds.rounds(sample))]
    whole = log10(1200 * 1.3) - log10(12 / 1.3)
    assert heights == pytest.approx([240 * (log10(1200 * 1.3) - log10(value)) / whole for value in (1200, 24, 12)], abs=0.01)
