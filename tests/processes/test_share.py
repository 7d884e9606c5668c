"""Which data are whose."""

from hypothesis import given
from hypothesis import strategies as st

from pomona.processes import Processes


@given(st.lists(st.integers()), st.integers(2, 5))
def test_every_batch_has_one_reader_and_keeps_its_place(batches, number):
    processes = [Processes(rank, number) for rank in range(number)]
    shares = [list(one.share(batches)) for one in processes]
    assert [len(one.share(batches)) for one in processes] == [len(share) for share in shares]
    assert [one.share_of(len(batches)) for one in processes] == [len(share) for share in shares]
    places = {one.place(i): batch for one, share in zip(processes, shares, strict=True) for i, batch in enumerate(share, 1)}
    assert places == dict(enumerate(batches, 1))


def test_data_without_a_length_are_counted():
    class Stream:
        def __iter__(self):
            return iter(range(5))

    assert [len(Processes(rank, 3).share(Stream())) for rank in range(3)] == [2, 2, 1]
