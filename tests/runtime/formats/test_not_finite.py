"""NaN and infinities of x meet the zeros of a weight as in a dense product, though kernels leave the zeros out."""

import pytest
import torch

from pomona.native import library, using
from pomona.runtime.sparse.layouts import linear_layout

EVERY = [*library().isas, None]
MADE = [
    *((layout, values, {}) for layout in ("bitmask", "csr16", "dense", "rowlanes") for values in ("f32", "bf16", "int8")),
    *(("blocks", values, {"rows": 4}) for values in ("f32", "bf16")),
    *(("nm", values, {"n": 2, "m": 4}) for values in ("f32", "bf16", "int8")),
]


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("batch", [1, 5, 30])
@pytest.mark.parametrize(("layout", "values", "options"), MADE, ids=lambda part: part if isinstance(part, str) else "")
def test_a_row_of_x_that_is_not_finite_gives_nan_everywhere(isa, batch, layout, values, options):
    torch.manual_seed(0)
    weight = torch.randn(32, 16, 4)
    weight[..., 2:] = 0
    packed = linear_layout(layout).pack(weight.reshape(32, 64), values, **options)
    x = torch.randn(batch, 64)
    clean = x[1:].clone()
    for bad in (torch.nan, torch.inf):
        x[0, 43] = bad  # where the weight has no more than zeros
        with using(isa):
            y = packed.linear(x)
            assert y[0].isnan().all()
            assert torch.allclose(y[1:], packed.linear(clean), rtol=1e-4, atol=1e-4)
