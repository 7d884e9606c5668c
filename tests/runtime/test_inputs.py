import pytest
import torch

from pomona.runtime.inputs import batch_of, in_order, inputs_for, resized
from pomona.vocabulary import InputError


def test_rows_repeat_in_order_or_are_cut():
    x = torch.arange(3.0)[:, None]
    (grown,), _ = resized((x,), {}, 7)
    assert grown.flatten().tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert resized((x,), {}, 2)[0][0].flatten().tolist() == [0, 1]


def test_only_tensors_of_the_batch_change():
    table, flag = torch.zeros(5, 2), torch.tensor(1.0)
    args, kwargs = resized((torch.zeros(2, 5),), {"mask": torch.ones(2, 5), "table": table, "flag": flag, "use": False}, 4)
    assert args[0].shape == (4, 5) and kwargs["mask"].shape == (4, 5)
    assert kwargs["table"] is table and kwargs["flag"] is flag and kwargs["use"] is False and batch_of(args, kwargs) == 4


def test_no_batch_is_refused():
    with pytest.raises(InputError, match="batch dimension"):
        batch_of((torch.tensor(1.0),), {})
    with pytest.raises(InputError, match="at least one example"):
        resized((torch.zeros(2, 5),), {}, 0)


def test_inputs_within_lists_and_dicts_are_rows_too():
    nested = ({"a": torch.arange(2), "b": [torch.zeros(2, 3), 7]},)
    assert batch_of(nested, {}) == 2
    (grown,), _ = resized(nested, {}, 5)
    assert grown["a"].tolist() == [0, 1, 0, 1, 0] and grown["b"][0].shape == (5, 3) and grown["b"][1] == 7


def test_keywords_go_in_the_order_of_the_forward_pass():
    class Net(torch.nn.Module):
        def forward(self, ids, mask=None, *, scale=1.0, **others):
            return ids

    given = {"more": 4, "scale": 3, "mask": 2, "ids": 1}
    assert list(in_order(Net(), given).items()) == [("ids", 1), ("mask", 2), ("scale", 3), ("more", 4)]


def test_the_batch_is_that_of_the_first_input_of_the_forward_pass_whatever_a_dict_says_first():
    class Net(torch.nn.Module):
        def forward(self, ids, position=None):
            return ids

    given, named = inputs_for(Net(), {"position": torch.arange(6)[None], "ids": torch.zeros(3, 6)}, None, 5)
    assert given == () and named["ids"].shape == (5, 6) and named["position"].shape == (1, 6)
