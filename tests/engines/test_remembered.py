"""Statistics that were gathered once serve other goals and structures."""

import pytest
import torch

import pomona
from blocky import blocky
from pomona.vocabulary import InputError, Silent

DATA = blocky()[1]


class Notes(Silent):
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)


class Counting:
    """Data that count how often they are gone through to the end."""

    def __init__(self, batches=DATA):
        self.batches, self.passes = batches, 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        yield from self.batches
        self.passes += 1


def planned(data, goal="sparsity=0.5", **wish):
    return pomona.plan(blocky()[0], DATA[0], method="wanda", goal=goal, data=data, **wish)


def same(a, b):
    return all(torch.equal(a.keep(name), b.keep(name)) for name in a.sites)


@pytest.mark.parametrize("wish", [{"goal": "sparsity=0.7"}, {"structure": "2:4", "goal": None}])
def test_at_once_another_wish_is_exact_and_needs_no_pass(wish, tmp_path):
    planned(Counting(), sequential=False, statistics=tmp_path)
    again = planned(data := Counting(), sequential=False, statistics=tmp_path, **wish)
    assert not data.passes and same(again, planned(DATA, sequential=False, **wish))


def test_block_by_block_the_first_block_is_exact_and_the_run_says_what_it_used(tmp_path):
    first = planned(Counting(), statistics=tmp_path)
    assert same(planned(data := Counting(), statistics=tmp_path), first) and not data.passes
    again = planned(data := Counting(), "sparsity=0.7", statistics=tmp_path, progress=(notes := Notes()))
    assert not data.passes and any("gathered before; nothing is run" in note for note in notes.told)
    fresh = planned(DATA, "sparsity=0.7")
    assert all(torch.equal(again.keep(n), fresh.keep(n)) for n in fresh.sites if n.startswith("layers.0."))
    agreement = torch.cat([(again.keep(n) == fresh.keep(n)).flatten() for n in fresh.sites]).float().mean()
    assert 0.9 < agreement < 1


def test_statistics_of_other_data_are_refused(tmp_path):
    planned(DATA, statistics=tmp_path)
    with pytest.raises(InputError, match="another data"):
        planned(DATA[:2], statistics=tmp_path)
