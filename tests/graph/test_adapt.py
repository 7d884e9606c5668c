from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import scaled_dot_product_attention as attend

from plans import axes_plan, prunable
from pomona.graph import trace
from pomona.graph.mend_code import adapted
from pomona.graph.proof import prove
from pomona.graph.restore import restored
from pomona.graph.surgery import realise

INPUT = (2, 5, 16)


class Attention(nn.Module):
    """The width of a head is worked out from the width of the input, as written-out attention mostly does."""

    def __init__(self):
        super().__init__()
        self.heads, self.qkv, self.out = 4, nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(2))


class Fused(Attention):
    """Torch takes the scale from the width that it meets."""

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))


class Literal(Attention):
    """Sizes stand in the code, in places and as one tuple."""

    def forward(self, x):
        q, k, v = self.qkv(x).view(-1, 5, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape((-1, 5, 16)))


class Calling(Attention):
    """The sizes are asked for in the parent's method, which this one hides and calls, and in this one."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(16, 16)

    def forward(self, x):
        return self.last(super().forward(x).view(-1, 16)).view(x.shape) + x


class Apart(Attention):
    """A method that is not `forward` asks for the sizes; it has a default that must stay."""

    def split(self, x, *, order=(2, 0, 3, 1, 4)):
        B, N, C = x.shape
        return self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(order)

    def forward(self, x):
        q, k, v = self.split(x).unbind(0)
        return self.out(((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(2))


class Split(nn.Module):
    """What is split in the code is as long as the code says."""

    def __init__(self):
        super().__init__()
        self.both, self.out = nn.Linear(16, 24), nn.Linear(8, 16)

    def forward(self, x):
        a, b, c = self.both(x).split([8, 8, 8], dim=-1)
        return self.out(a * b + c)


def made(model, wanted=("head-dim",), seed=0):
    """A model with half of the axes of some families gone: (small, graph, plan, dense)."""
    torch.manual_seed(0)
    args = (torch.randn(*INPUT),)
    graph = trace(model.eval(), args)
    chosen = [name for name in prunable(graph) if not wanted or graph.axes[name].family in wanted]
    assert chosen
    plan = axes_plan(graph, chosen, seed)
    done = realise(model, graph, plan)
    assert done.form != "eager" or prove(model, graph, plan, done.model, args).passed
    return done, graph, plan


@pytest.mark.parametrize("kind", [Attention, Fused, Literal, Calling, Apart])
@pytest.mark.parametrize("families", [("head-dim",), ("head",), ("head", "head-dim")])
def test_sizes_that_code_works_out_become_those_of_the_small_model(kind, families):
    done, _, _ = made(kind(), families)
    small = done.model
    assert done.form == "eager"
    assert type(small).__name__ == kind.__name__ and isinstance(small, kind)
    assert small.qkv.out_features == 48 // 2 ** len(families)
    if "head-dim" in families:
        assert adapted(small) == {kind.__name__: 1}
        assert any(f"1 x {kind.__name__}" in note for note in done.notes)


def test_what_is_split_in_the_code_gets_shorter():
    done, _, _ = made(Split(), ())
    assert done.form == "eager" and done.model.both.out_features == 12 and done.model(torch.randn(INPUT)).shape == INPUT


def test_a_method_and_the_one_that_it_hides_are_both_adapted():
    done, _, _ = made(Calling(), ())
    small = done.model
    assert done.form == "eager" and (small.out.out_features, small.last.in_features) == (8, 8)
    assert small(torch.randn(3, 7, 16)).shape == (3, 7, 16)


class Wide(nn.Module):
    """A hidden width of 24 that only the code below knows."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x):
        return self.out(self.hidden(x, self.into(x)))


class Normed(Wide):
    def hidden(self, x, h):
        return F.layer_norm(h, (24,))


class Grouped(Wide):
    def hidden(self, x, h):
        return F.group_norm(h.transpose(1, 2), 24).transpose(1, 2)


class Started(Wide):
    def hidden(self, x, h):
        return torch.cat([x.new_zeros(len(x), 1, 24), h + torch.zeros(24, dtype=x.dtype)], 1)[:, 1:].relu()


class Reshaped(Wide):
    def hidden(self, x, h):
        return torch.reshape(h, (-1, 24)).relu().view(len(x), -1, 24)


class Sliced(Wide):
    def hidden(self, x, h):
        return torch.cat([h[..., :8], h[..., 8:-4].relu(), h[:, :, -4:]], -1)


class Written(Wide):
    def hidden(self, x, h):
        y = torch.zeros_like(h)
        y[..., :10], y[..., 10:24] = h[..., :10].relu(), h[..., 10:]
        return y


class Narrowed(Wide):
    def hidden(self, x, h):
        return torch.cat([h.narrow(-1, 0, 8), torch.narrow(h, 2, start=8, length=16).relu()], -1)


class Unflat(Wide):
    def hidden(self, x, h):
        return torch.unflatten(h, -1, sizes=(4, 6)).relu().flatten(2).unflatten(2, (-1, 6)).flatten(2)


class Convolved(Wide):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(24, 6, 1))

    def hidden(self, x, h):
        return F.conv1d(h.mT, self.kernel, groups=4).mT


class Padded(Wide):
    """As many zeros as make it 24 again."""

    def __init__(self):
        super().__init__()
        self.into = nn.Linear(16, 12)

    def hidden(self, x, h):
        return F.pad(h, (0, 24 - h.shape[-1]))


class Times(Wide):
    def hidden(self, x, h):
        return h.view(*h.shape[:2], 2, 12).mul(h.shape[-1] ** -0.5).div(float(h.shape[-1])).flatten(2)


class WithinFunction(Wide):
    """The size stands in a function within the method, which is called by a comprehension and by what it is given to."""

    def hidden(self, x, h):
        parts, wide = 4, (lambda t: t.reshape(len(x), -1, 24))

        def apart(t):
            return t.view(len(x), -1, parts, 6)

        return sum([wide(apart(t)) for t in (h, h.relu())]) + next(map(wide, (apart(h),)))


class Static(Wide):
    @staticmethod
    def apart(h):
        return h.reshape(len(h), -1, 4, 6)

    def hidden(self, x, h):
        return self.apart(h).relu().flatten(2)


class Stored(Wide):
    """Functions that the module holds, one of them made from a number that it does not."""

    def __init__(self, parts=4):
        super().__init__()
        self.apart, self.whole = lambda h: h.reshape(len(h), -1, parts, 6), lambda h: torch.reshape(h, (len(h), -1, 24))

    def hidden(self, x, h):
        return self.whole(self.apart(h).relu())


class Named(Wide):
    """A module that calls itself something else, with a name that only the class can say."""

    def __init__(self):
        super().__init__()
        self.__parts = 4

    def hidden(this, x, h):
        return h.view(len(h), -1, this.__parts, 24 // this.__parts).flatten(2)


def in_parts(h, parts, *, relu=True):
    h = cut(h, parts)
    return (h.relu() if relu else h).flatten(2)


def cut(h, parts):
    return h.view(len(h), -1, parts, 6)


class Helped(nn.Module):
    """Functions without a `self` ask for the sizes, for two widths that shrink in other ways."""

    def __init__(self):
        super().__init__()
        self.into, self.last, self.out = nn.Linear(16, 24), nn.Linear(24, 12), nn.Linear(12, 16)

    def forward(self, x):
        return self.out(in_parts(self.last(in_parts(self.into(x), 4)), 2, relu=False))


def test_functions_that_a_method_calls_become_its_own_with_the_sizes_of_each_call():
    model, args = Helped().eval(), (torch.randn(INPUT),)
    graph = trace(model, args)
    plan = axes_plan(graph)
    last = [name for name in plan.sites if name.startswith("last")]
    for number, name in enumerate(last):
        plan.decisions[name].keep[:] = torch.arange(plan.sites[name].shape[0]) < (1 if number else 4)
    done = realise(model, graph, plan)
    assert done.form == "eager" and prove(model, graph, plan, done.model, args).passed
    assert adapted(done.model) == {"Helped": 1} and cut(torch.zeros(1, 1, 12), 2).shape == (1, 1, 2, 6)
    assert done.model(torch.randn(3, 7, 16)).shape == (3, 7, 16)


KINDS = [Normed, Grouped, Started, Reshaped, Sliced, Written, Narrowed, Unflat, Convolved, Padded, Times]
KINDS += [WithinFunction, Static, Stored, Named]


@pytest.mark.parametrize("kind", KINDS)
def test_widths_in_functions_and_new_tensors_become_those_of_the_small_model(kind):
    done, _, _ = made(kind(), ())
    assert done.form == "eager", done.notes
    assert done.model.into.out_features in (12, 6) and adapted(done.model) == {kind.__name__: 1}
    assert done.model(torch.randn(3, 7, 16)).shape == (3, 7, 16)


@pytest.mark.parametrize("kind", [Attention, Fused])
def test_batch_and_length_remain_free_in_adapted_code(kind):
    done, _, _ = made(kind())
    for shape in [(1, 5, 16), (3, 9, 16)]:
        assert done.model(torch.randn(shape)).shape == shape
    x = torch.randn(3, 9, 16)
    assert torch.allclose(done.model(x)[1], done.model(x[1:2])[0], atol=1e-6)


class Layered(nn.Module):
    """Attention of torch's own, which nobody can tell a scale, beside code that must be told a size."""

    def __init__(self):
        super().__init__()
        self.attention, self.wide = nn.MultiheadAttention(16, 2, batch_first=True), Reshaped()

    def forward(self, x):
        return self.wide(x + self.attention(x, x, x, need_weights=False)[0])


def test_attention_of_torch_keeps_the_scale_of_the_unpruned_heads_beside_adapted_code():
    done, _, _ = made(Layered(), ("head-dim", "neuron"))
    assert done.form == "eager" and adapted(done.model) == {"Reshaped": 1}, done.notes
    assert done.model.attention.scale == 8**-0.5 and done.model.attention.head_dim == 4
    assert deepcopy(done.model)(torch.randn(3, 7, 16)).shape == (3, 7, 16)


def test_pieces_of_a_chunk_that_were_cut_unequally_keep_their_lengths():
    class Chunked(nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.left, self.right = nn.Linear(16, 24), nn.Linear(12, 16), nn.Linear(12, 16)

        def forward(self, x):
            a, b = self.into(x).chunk(2, dim=-1)
            return self.left(a) + self.right(b)

    model = nn.Sequential(Chunked(), Chunked())
    graph = trace(model.eval(), (torch.randn(INPUT),))
    done, _, _ = made(model, ())
    assert [type(m).__name__ for m in done.model] == ["Chunked"] * 2 and adapted(done.model) == {}
    one = next(name for name in prunable(graph) if any(m.tensor == "0.left.weight" for m in graph.axes[name].members))
    plan = axes_plan(graph, [name for name in prunable(graph) if graph.axes[name].size == 12 and name == one])
    done = realise(model, graph, plan)
    assert done.form == "eager" and (done.model[0].left.in_features, done.model[0].right.in_features) == (6, 12)
    assert done.model(torch.randn(3, 7, 16)).shape == (3, 7, 16)


def test_fused_attention_keeps_the_scale_of_the_unpruned_heads():
    done, _, _ = made(Fused())
    model, x = done.model, torch.randn(INPUT)
    q, k, v = model.qkv(x).view(2, 5, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0)
    by_hand = model.out(attend(q, k, v, scale=4**-0.5).transpose(1, 2).flatten(2))
    assert torch.allclose(model(x), by_hand, atol=1e-6)


def test_adapted_modules_are_copied_stored_and_restored_like_any_other():
    dense = Attention()
    done, graph, plan = made(dense)
    small, x = done.model, torch.randn(INPUT)
    copy = deepcopy(small)
    assert copy.state_dict().keys() == dense.state_dict().keys()
    with torch.no_grad():
        copy.qkv.weight.zero_()
        assert not torch.allclose(copy(x), small(x))
        copy.load_state_dict(small.state_dict())
        assert torch.equal(copy(x), small(x))
        whole = restored(dense, graph, plan, small)
    assert type(whole) is Attention and torch.allclose(whole(x), small(x), atol=1e-5)


def test_the_class_of_the_dense_model_keeps_its_code():
    dense, x = Attention(), torch.randn(INPUT)
    before = dense(x)
    code = Attention.forward.__code__
    made(dense)
    assert Attention.forward.__code__ is code and torch.equal(dense(x), before)


def test_adapted_modules_can_be_trained():
    done, _, _ = made(Fused())
    done.model(torch.randn(INPUT)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in done.model.parameters() if p is not done.model.qkv.bias)


def test_instances_of_other_sizes_share_one_class():
    model, args = nn.Sequential(Attention(), Attention(), Attention()).eval(), (torch.randn(INPUT),)
    graph = trace(model, args)
    plan = axes_plan(graph, [n for n in prunable(graph) if graph.axes[n].family == "head-dim" and not n.startswith("2.")])
    for name, axis in list(plan.sites.items()):
        keep = plan.decisions[name].keep
        keep[:] = torch.arange(axis.shape[0]) < (1 if name.startswith("0.") else 3)
    done = realise(model, graph, plan)
    assert done.form == "eager" and prove(model, graph, plan, done.model, args).passed
    one, other, whole = done.model
    assert (one.qkv.out_features, other.qkv.out_features, whole.qkv.out_features) == (12, 36, 48)
    assert type(one) is type(other) is type(whole)


def test_code_without_a_source_becomes_a_program():
    space = {"Attention": Attention}
    text = "class Unseen(Attention):\n    def forward(self, x):\n        B, N, C = x.shape\n"
    text += "        qkv = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)\n"
    text += "        q, k, v = qkv.unbind(0)\n"
    text += "        return self.out(((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(2))\n"
    exec(text, space)
    done, _, _ = made(space["Unseen"]())
    assert done.form == "graph"
