"""Sharing out takes little memory: a language model has a row for each output, and all rows of one length are alike."""

import torch

from handmade import linear_site
from pomona.allocations.cut import cut
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Budget

SITES = {name: linear_site(name, (64, 32)) for name in ("a", "b", "c")}


def test_rows_and_sites_that_are_alike_share_their_keys():
    for per, held in (("row", 32), ("site", 64 * 32)):
        keys = Uniform(per=per).keys(SITES)
        assert len({value.data_ptr() for value in keys.values()}) == 1
        assert keys["a"].untyped_storage().nbytes() == 4 * held


def test_expanded_rows_are_cut_as_if_each_were_there():
    keys = Uniform(per="row").keys(SITES)
    price = Units()
    budget = Budget(price, 0.37 * price.dense, {}, {}, {}, lambda keeps: keeps)
    ours, whole = (cut(SITES, k, budget) for k in (keys, {name: value.contiguous() for name, value in keys.items()}))
    assert all(torch.equal(ours[name], whole[name]) and ours[name].shape == (64,) for name in SITES)


class Units:
    dense = 3.0 * 64 * 32

    def __call__(self, keeps):
        return float(sum(int(keep.sum()) for keep in keeps.values()))
