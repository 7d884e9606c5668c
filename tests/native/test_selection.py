"""The k-th smallest, exactly, however it is found."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pomona.native.selection as selection
from pomona.native import library, using
from pomona.native.selection import least, place_of, smallest, value_at
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]
VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1e-42, -1e-42, 1.0, -1.0, 3.4e38, float("inf"), float("-inf")]),
    st.floats(width=32, allow_nan=False),
)


def by_sorting(tensors, k, absolute):
    """(value, how many of each are below and at it) as a sort has it."""
    joined = torch.cat([t.flatten() for t in tensors]).float()
    value = float((joined.abs() if absolute else joined).sort().values[k - 1])
    own = [t.float().abs() if absolute else t.float() for t in tensors]
    return value, [int((t < value).sum()) for t in own], [int((t == value).sum()) for t in own]


def found(tensors, k, absolute, threads=1):
    it = smallest(tensors, k, absolute=absolute, threads=threads)
    return it.value, it.under.tolist(), it.level.tolist()


@pytest.mark.parametrize("isa", EVERY)
@given(lists=st.lists(st.lists(VALUES, max_size=40), min_size=1, max_size=4), absolute=st.booleans(), draw=st.data())
@settings(max_examples=60, deadline=None)
def test_it_is_what_sorting_finds(isa, lists, absolute, draw):
    tensors = [torch.tensor(values) for values in lists]
    total = sum(map(len, lists))
    if total:
        k = draw.draw(st.integers(1, total))
        with using(isa):
            assert found(tensors, k, absolute) == by_sorting(tensors, k, absolute)


SHAPED = {
    "normal": lambda n, draw: torch.randn(n, generator=draw),
    "one value": lambda n, draw: torch.full((n,), 0.25),
    "half zeros": lambda n, draw: torch.randn(n, generator=draw).clamp(min=0),
    "few values": lambda n, draw: torch.randint(-2, 3, (n,), generator=draw).float(),
    "rows apart": lambda n, draw: torch.randn(n, generator=draw) * torch.logspace(-20, 20, n),
    "where no sample looks": lambda n, draw: torch.randn(n, generator=draw) + 9.0 * (torch.arange(n) % 12 >= 4),
}


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("shaped", SHAPED)
def test_a_guess_from_a_sample_changes_nothing(isa, shaped, monkeypatch):
    monkeypatch.setattr(selection, "_SAMPLE", 1 << 9)
    draw = torch.Generator().manual_seed(0)
    tensors = [SHAPED[shaped](n, draw) for n in (70_001, 16, 0, 30_000)]
    for k in (1, 5_000, 90_000, 100_017):
        with using(isa):
            assert found(tensors, k, True, threads=3) == by_sorting(tensors, k, True)


@pytest.mark.parametrize("isa", EVERY)
def test_a_good_guess_leaves_few_values_to_look_at_again(isa, monkeypatch):
    monkeypatch.setattr(selection, "_SAMPLE", 1 << 12)
    looked = []
    counted = selection._counted
    monkeypatch.setattr(selection, "_counted", lambda flat, *a: looked.append(sum(map(len, flat))) or counted(flat, *a))
    with using(isa):
        smallest([torch.randn(400_000, generator=torch.Generator().manual_seed(0))], 300_000)
    # The first are of samples; none is of all.
    assert 0 < looked[-1] < 40_000 and max(looked) < 40_000


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(isa, dtype):
    tensors = [torch.randn(3000, generator=torch.Generator().manual_seed(0)).to(dtype).view(30, 100)]
    with using(isa):
        assert found(tensors, 1500, True) == by_sorting(tensors, 1500, True)


@pytest.mark.parametrize("isa", EVERY)
def test_a_price_of_ones_own_decides_where_it_ends(isa):
    tensors = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.5, 2.0, 2.5])]
    with using(isa):
        it = least(tensors, lambda gone: int(gone[0]) + 10 * int(gone[1]) >= 12)  # 1 + 1 * 10 are too few, 2 + 2 * 10 enough
    assert (it.value, it.under.tolist(), it.level.tolist()) == (2.0, [1, 1], [1, 1])


def test_of_equals_the_first_tensors_leave():
    it = smallest([torch.tensor([0.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 2.0])], 4)
    assert [it.leaving(k).tolist() for k in (1, 2, 3, 4, 5)] == [[1, 0], [2, 0], [3, 0], [3, 1], [3, 2]]


@pytest.mark.parametrize("isa", EVERY)
def test_nan_and_what_is_not_there_are_refused(isa):
    with using(isa):
        for values in (torch.tensor([1.0, float("nan")]), torch.cat([torch.zeros(100), torch.tensor([-float("nan")])])):
            with pytest.raises(InputError, match="NaN"):
                smallest([values], 1)
        with pytest.raises(InputError, match="no value number 3 among 2"):
            smallest([torch.zeros(2)], 3)
        with pytest.raises(InputError, match="float64"):
            smallest([torch.zeros(2, dtype=torch.float64)], 1)


def test_nan_in_the_middle_of_many_is_refused(monkeypatch):
    monkeypatch.setattr(selection, "_SAMPLE", 1 << 9)
    values = torch.randn(50_000)
    values[31_234] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        smallest([values], 20_000)


@given(VALUES)
def test_places_are_the_order_of_floats(value):
    assert value_at(place_of(value)) == float(torch.tensor(value))
    assert place_of(0.0) == place_of(-0.0) == 0 and place_of(1e-42) > 0 > place_of(-1e-42)
