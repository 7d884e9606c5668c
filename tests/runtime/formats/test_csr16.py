import pytest
import torch

from pomona.native import library, using
from pomona.runtime.formats.csr16 import CSR16
from pomona.vocabulary import InputError


@pytest.mark.parametrize("isa", [*library().isas, None])
def test_the_widest_row_reaches_its_last_column(isa):
    weight = torch.zeros(2, 65_536)
    weight[0, -1], weight[1, 0] = 2.0, 3.0
    with using(isa):
        assert CSR16.pack(weight).linear(torch.arange(65_536.0)[None]).tolist() == [[2 * 65_535.0, 0.0]]


def test_a_wider_one_is_refused():
    with pytest.raises(InputError, match="65,536 columns"):
        CSR16.pack(torch.ones(1, 65_537))


@pytest.mark.parametrize("what", ["living", "columns", "starts"])
def test_damaged_parts_are_refused(what):
    packed = CSR16.pack(torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [3.0, 4.0, 0.0]]))
    damaged = {
        "living": [packed.living[:-1], packed.living.double()],
        "columns": [[0, 3, 0, 1], [2, 0, 0, 1], [0, 0, 0, 1], [0, 2, 0]],
        "starts": [[0, 2, 1, 4], [0, 2, 2, 5], [1, 2, 2, 4], [0, 2, 4], [-1, 2, 2, 4]],
    }
    for part in damaged[what]:
        dtype = torch.uint16 if what == "columns" else torch.int32
        with pytest.raises(InputError, match="damaged"):
            CSR16.of({**packed.parts(), what: part if what == "living" else torch.tensor(part, dtype=dtype)}, packed.shape, "f32")
