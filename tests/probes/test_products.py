"""What a parameter reads is believed of torch's own layers, heard at the product of others, and refused where neither will do."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from pomona.probes.forward import Forward
from pomona.probes.loss_gradient import LossGradient
from pomona.probes.products import Products
from pomona.vocabulary import Batch, InputError, Watch


class Holding(nn.Module):
    """A bare weight, used as `use(weight, x)`."""

    def __init__(self, use, *shape):
        super().__init__()
        self.weight, self.use = nn.Parameter(torch.randn(*shape)), use

    def forward(self, x):
        return self.use(self.weight, x)


def read(use, x, *shape):
    watch = Watch(inputs=frozenset({"0.weight"}))
    return Forward().run(nn.Sequential(Holding(use, *shape)), Batch.of(x), None, watch).inputs["0.weight"]


@pytest.mark.parametrize(
    "use",
    [
        lambda w, x: F.linear(x.relu(), w),
        lambda w, x: x.relu() @ w.T,
        lambda w, x: torch.matmul(x.relu(), w.t()),
        lambda w, x: torch.addmm(torch.zeros(4), x.relu(), w.mT),
        lambda w, x: (w @ x.relu().T).T,
        lambda w, x: F.linear(x.relu().double(), w.double()),
        lambda w, x: F.linear(input=x.relu(), weight=w.float().contiguous()),
    ],
)
def test_a_weight_is_seen_with_what_its_product_reads_not_with_what_its_module_is_given(use):
    x = torch.randn(3, 4)
    assert_close(read(use, x, 4, 4), x.relu(), check_dtype=False)


def test_a_tensor_read_across_is_not_taken_for_the_one_that_is_given():
    x = torch.randn(4, 4)
    assert torch.equal(read(lambda w, x: F.linear(x.T, w), x, 4, 4), x.T)
    assert torch.equal(read(lambda w, x: F.linear(x.view(2, 2, 4), w), x, 4, 4), x)


def test_a_bare_kernel_is_seen_with_what_its_convolution_reads():
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(read(lambda w, x: F.conv2d(x.relu(), w), x, 4, 3, 3, 3), x.relu())


@pytest.mark.parametrize(
    ("use", "why"),
    [
        (lambda w, x: F.linear(x, w * 2), "no product"),
        (lambda w, x: torch.einsum("bi,oi->bo", x, w), "more than plain products"),
        (lambda w, x: x @ w + x @ w.T, "more than plain products"),
    ],
)
def test_where_no_product_is_seen_nothing_is_guessed(use, why):
    with pytest.raises(InputError, match=rf"0\.weight.*{why}.*--keep '0\.weight'"):
        read(use, torch.randn(3, 4), 4, 4)


def test_gradients_are_taken_at_the_product_only_where_it_reads_what_the_module_is_given():
    x, y, watch = torch.randn(5, 4), torch.randint(0, 4, (5,)), Watch(inputs=frozenset({"0.weight"}))
    plain = nn.Sequential(Holding(lambda w, x: F.linear(x, w), 4, 4))
    assert torch.equal(LossGradient().run(plain, Batch.of((x, y)), cross_entropy, watch).inputs["0.weight"], x)
    bent = nn.Sequential(Holding(lambda w, x: F.linear(x.relu(), w), 4, 4))
    with pytest.raises(InputError, match="gradients there are unknown"):
        LossGradient().run(bent, Batch.of((x, y)), cross_entropy, watch)


def test_attention_to_something_else_is_refused():
    class Across(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x, y):
            return self.attention(x, y, y)[0]

    x, watch = torch.randn(2, 3, 4), Watch(inputs=frozenset({"attention.in_proj_weight"}))
    assert torch.equal(Forward().run(Across(), Batch((x, x), {}), None, watch).inputs["attention.in_proj_weight"], x)
    with pytest.raises(InputError, match=r"Parts of attention\.in_proj_weight read different tensors"):
        Forward().run(Across(), Batch((x, x + 1), {}), None, watch)


STACK = torch.arange(3 * 2 * 4.0).reshape(3, 2, 4)
ROWS = torch.arange(5 * 4.0).reshape(5, 4)


def heard(use, shape=None):
    weight = nn.Parameter(STACK.clone())
    with torch.no_grad(), Products({"w": weight}) as products:
        use(weight)
    assert not products.unclear
    found = products.heard.get("w", [])
    return [] if not found else [torch.cat([p.rows for p in found]), torch.cat([p.experts for p in found]).tolist()]


def test_each_row_goes_with_the_number_of_the_matrix_that_reads_it():
    def loop(w):
        F.linear(ROWS[:2], w[torch.tensor(2)])
        ROWS[2:] @ w[0].T

    rows, experts = heard(loop)
    assert torch.equal(rows, ROWS)
    assert experts == [2, 2, 0, 0, 0]


def test_rows_of_a_grouped_product_go_by_where_their_group_ends():
    ends = torch.tensor([2, 2, 4], dtype=torch.int32)  # nobody is sent to the second; the last row is read by nobody
    rows, experts = heard(lambda w: torch._grouped_mm(ROWS, w.transpose(-2, -1), offs=ends))
    assert torch.equal(rows, ROWS[:4])
    assert experts == [0, 0, 2, 2]


def test_matrices_picked_by_their_numbers_are_followed():
    which = torch.tensor([2, 0, 2, 1, 1])
    rows, experts = heard(lambda w: torch.bmm(w[which], ROWS.unsqueeze(-1)))
    assert torch.equal(rows, ROWS)
    assert experts == which.tolist()
    rows, experts = heard(lambda w: torch.bmm(ROWS[:, None], w.index_select(0, which).mT))
    assert torch.equal(rows, ROWS)
    assert experts == which.tolist()


def test_a_batched_product_gives_each_matrix_its_own_rows_or_all_of_them():
    rows, experts = heard(lambda w: ROWS @ w.mT)
    assert torch.equal(rows, ROWS.repeat(3, 1))
    assert experts == [0] * 5 + [1] * 5 + [2] * 5
    own = torch.randn(3, 2, 4)
    rows, experts = heard(lambda w: own @ w[:].double().float().mT)
    assert torch.equal(rows, own.flatten(0, 1))
    assert experts == [0, 0, 1, 1, 2, 2]


def test_what_is_picked_otherwise_is_not_followed():
    square, both = torch.tensor([[0, 1], [1, 2]]), torch.tensor([[True, False], [False, True], [True, True]])
    used = (lambda w: w[square][0], lambda w: w[both], lambda w: w.index_select(1, torch.tensor([1, 0])), lambda w: w[:, [1, 0]])
    for pick in used:
        assert heard(lambda w, pick=pick: ROWS @ pick(w).mT) == []


def test_a_part_of_a_matrix_is_not_mistaken_for_it():
    weight = nn.Parameter(STACK.clone())
    with torch.no_grad(), Products({"w": weight}) as products:
        F.linear(ROWS, weight[1, :1])
    assert (products.heard, products.unclear) == ({}, {"w"})


def test_neighbours_in_one_piece_of_memory_are_told_apart():
    memory = torch.randn(2, 4, 4)
    with torch.no_grad(), Products({"b": memory[1]}) as products:
        ROWS @ memory[0].T
        ROWS @ memory[1].T
    assert len(products.heard["b"]) == 1
    assert not products.unclear
