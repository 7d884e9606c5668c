"""What blocks gave, in memory and on disk."""

import torch

from pomona.engines.activations import Activations


def tree(seed, rows=4):
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return (x, {"bias": x[:1, :2], "none": None, "mask": x > 0}, 3)


def same(a, b):
    return torch.equal(a[0], b[0]) and all(torch.equal(a[1][k], b[1][k]) for k in ("bias", "mask")) and a[2] == b[2]


def test_trees_come_back_whether_they_fit_or_not(tmp_path):
    kept = Activations(500, tmp_path)
    for number in range(4):
        kept.put((0, number), tree(number))
    assert kept.bytes <= 500 and len(list(tmp_path.iterdir())) == 1 + 1
    assert all(same(kept.get((0, number)), tree(number)) and kept.get((0, number))[1]["none"] is None for number in range(4))


def test_a_new_tree_takes_the_place_of_the_old(tmp_path):
    kept = Activations(500, tmp_path)
    for round_ in range(3):
        for number in range(4):
            kept.put((0, number), tree(10 * round_ + number, rows=4 + round_))
    assert kept.bytes <= 500 and all(same(kept.get((0, number)), tree(20 + number, rows=6)) for number in range(4))


def test_what_is_handed_out_may_be_written_to():
    kept = Activations()
    kept.put((0, 0), tree(0))
    kept.get((0, 0))[0].zero_()
    assert same(kept.get((0, 0)), tree(0))


def test_a_view_does_not_keep_what_it_looks_at():
    kept, large = Activations(), torch.zeros(1000, 8)
    kept.put((0, 0), large[:1])
    assert kept.bytes == 32 and kept._kept[0, 0][0][0].untyped_storage().nbytes() == 32
