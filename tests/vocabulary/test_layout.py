"""Every layout is the matrix of its product, and back."""

import pytest
import torch
from torch.nn import functional as F

from papergraph import bias, conv, linear, transposed
from pomona.vocabulary import Weight
from pomona.vocabulary.layout import from_matrix, from_product, matrix_shape, product_shape, to_matrix, to_product

EXPERTS = Weight("e", "linear", (3, 4, 5), 2, 1)
WEIGHTS = [
    linear("a", 4, 6),
    transposed("b", 6, 4),
    conv("c", 4, 6),
    conv("d", 4, 6, groups=2),
    conv("e", 4, 6, groups=2, flipped=True),
    conv("f", 4, 6, flipped=True),
    conv("g", 4, 4, groups=4),
    bias("h", 5),
    EXPERTS,
    Weight("w", "embedding", (10, 12), 1, None),
]


@pytest.mark.parametrize("weight", WEIGHTS, ids=lambda w: f"{w.kind}{w.shape}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int64])
def test_there_and_back_is_the_same(weight, dtype):
    tensor = torch.randint(0, 2, weight.shape).to(dtype)
    matrix = to_matrix(weight, tensor)
    assert matrix.shape == matrix_shape(weight)
    assert torch.equal(from_matrix(weight, matrix), tensor)
    product = to_product(weight, tensor)
    assert product.shape == product_shape(weight)
    assert torch.equal(from_product(weight, product), tensor)


def test_the_matrix_multiplies_as_the_layer_does():
    x = torch.randn(3, 6)
    w = torch.randn(4, 6)
    torch.testing.assert_close(x @ to_matrix(linear("a", 4, 6), w)[..., 0].T, F.linear(x, w))
    torch.testing.assert_close(x @ to_matrix(transposed("b", 6, 4), w.T)[..., 0].T, x @ w.T)


@pytest.mark.parametrize("flipped", [False, True])
def test_a_grouped_convolution_reads_its_group(flipped):
    weight = conv("c", 4, 6, kernel=1, groups=2, flipped=flipped)
    x, w = torch.randn(1, 6, 1, 1), torch.randn(weight.shape)
    op = F.conv_transpose2d if flipped else F.conv2d
    rows = to_matrix(weight, w)[..., 0]  # (4, 3): outputs 0, 1 read inputs 0..2
    halves = torch.cat([x.flatten()[:3] @ rows[:2].T, x.flatten()[3:] @ rows[2:].T])
    torch.testing.assert_close(op(x, w, groups=2).flatten(), halves)


def test_experts_are_rows():
    w = torch.randn(3, 4, 5)
    torch.testing.assert_close(to_matrix(EXPERTS, w)[..., 0], w.mT.reshape(15, 4))


def test_columns_of_the_product_are_inputs_within_kernel_positions():
    w = torch.randn(4, 6, 3, 3)
    assert torch.equal(to_product(conv("c", 4, 6), w)[0], w.permute(0, 2, 3, 1).reshape(4, 54))
    assert torch.equal(to_product(conv("d", 4, 6, groups=2), w[:, :3])[1], w[2:, :3].permute(0, 2, 3, 1).reshape(2, 27))
