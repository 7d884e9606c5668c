"""Layers with packed weights: what they compute, and that they are modules like any other."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import forward_ad

from pomona.native import library, using
from pomona.runtime.formats.bitmask import Bitmask
from pomona.runtime.formats.convolution import ConvBlocks
from pomona.runtime.sparse import SparseConv2d, SparseLinear, ops
from pomona.runtime.sparse.layouts import linear_layouts
from pomona.runtime.sparse.reading import reading_watched
from pomona.vocabulary import InputError

EVERY = [*dict.fromkeys([library().isa, None])]


def pruned(layer, share=0.5, seed=0):
    with torch.no_grad():
        draw = torch.Generator().manual_seed(seed)
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=draw))
        layer.weight *= torch.rand(layer.weight.shape, generator=draw) >= share
    return layer.eval()


def linear(width=19, out=7, bias=True, seed=0):
    dense = pruned(nn.Linear(width, out, bias=bias), seed=seed)
    return dense, SparseLinear(Bitmask.pack(dense.weight), dense.bias)


def conv(**options):
    dense = pruned(nn.Conv2d(4, 6, 3, **options))
    geometry = [getattr(dense, name) for name in ("stride", "padding", "dilation", "groups")]
    return dense, SparseConv2d(ConvBlocks.pack(dense.weight, *geometry, rows=2), dense.bias)


@pytest.mark.parametrize("isa", EVERY)
@given(
    leading=st.lists(st.integers(0, 3), max_size=3), width=st.integers(1, 70), out=st.integers(1, 9), bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_sparse_linear_is_the_linear_in_any_dimensions_and_types(isa, leading, width, out, bias, dtype):
    dense, sparse = linear(width, out, bias)
    x = torch.randn(*leading, width).to(dtype)
    with using(isa), torch.no_grad():
        y, exact = sparse(x), dense.double()(x.double())
    assert y.dtype == dtype and y.shape == exact.shape
    bound = 1e-5 if dtype in (torch.float32, torch.float64) else 2 * torch.finfo(dtype).eps
    assert torch.allclose(y.double(), exact, rtol=bound, atol=20 * bound)


@pytest.mark.parametrize("options", [{}, {"padding": 1, "stride": 2}, {"groups": 2, "bias": False}, {"dilation": 2}])
@pytest.mark.parametrize("shape", [(2, 4, 9, 8), (4, 9, 8)])
def test_a_sparse_convolution_is_the_convolution(options, shape):
    dense, sparse = conv(**options)
    x = torch.randn(shape)
    with torch.no_grad():
        assert torch.allclose(sparse(x), dense(x), atol=1e-5)
        half = sparse(x.bfloat16())
        assert half.dtype == torch.bfloat16 and torch.allclose(half.float(), dense(x.bfloat16().float()), atol=0.1)
        added = torch.randn_like(dense(x))
        fused = SparseConv2d(sparse.packed, dense.bias, relu=True)
        assert torch.allclose(fused(x, added), (dense(x) + added).relu(), atol=1e-5)


@pytest.mark.parametrize("make", [linear, conv])
def test_gradients_reach_the_input_and_nothing_else(make):
    dense, sparse = make()
    shape = (3, 19) if make is linear else (2, 4, 6, 6)
    a = torch.randn(shape, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    pull = torch.randn_like(dense(a))
    dense(a).backward(pull)
    sparse(b).backward(pull)
    assert torch.allclose(a.grad, b.grad, atol=1e-5)
    assert not list(sparse.parameters())


def test_gradients_go_through_the_relu_and_the_residual():
    dense, sparse = conv()
    fused = SparseConv2d(sparse.packed, dense.bias, relu=True)
    made = [torch.randn(1, 4, 5, 5), torch.randn(1, 6, 3, 3)]
    ours, theirs = ([t.clone().requires_grad_() for t in made] for _ in range(2))
    fused(*ours).sum().backward()
    (dense(theirs[0]) + theirs[1]).relu().sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5)


@pytest.mark.parametrize("make", [linear, conv])
def test_a_state_dict_goes_through_a_file_into_a_layer_of_other_survivors(make):
    dense, sparse = make()
    file = io.BytesIO()
    torch.save(sparse.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert all(key.startswith("packed.") or key == "bias" for key in state)
    other = copy.deepcopy(sparse)
    if make is linear:
        other = SparseLinear(Bitmask.pack(torch.ones(7, 19)), torch.zeros(7))
    other.load_state_dict(state)
    assert torch.equal(other.weight, dense.weight)
    x = torch.randn(3, 19) if make is linear else torch.randn(1, 4, 6, 6)
    assert torch.equal(other(x), sparse(x))


def test_a_damaged_state_dict_is_refused_and_changes_nothing():
    dense, sparse = linear()
    state = sparse.state_dict()
    with pytest.raises(RuntimeError, match="damaged"):
        sparse.load_state_dict({**state, "packed.bits": state["packed.bits"] ^ 1})
    with pytest.raises(RuntimeError, match=r"Missing key.*packed\.starts"):
        sparse.load_state_dict({key: value for key, value in state.items() if key != "packed.starts"})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*packed\.more"):
        sparse.load_state_dict({**state, "packed.more": torch.ones(1)})
    assert torch.equal(sparse.weight, dense.weight)


def test_what_was_written_to_is_checked_again_before_a_kernel_sees_it():
    _, sparse = linear()
    sparse(torch.ones(1, 19))
    sparse.packed.starts += 1000
    with pytest.raises(InputError, match="damaged"):
        sparse(torch.ones(1, 19))


def test_a_weight_goes_when_its_layer_goes():
    from pomona.runtime.sparse.ops import _seen

    _, sparse = linear()
    before = len(_seen)
    sparse(torch.ones(1, 19))
    assert len(_seen) == before + 1
    del sparse
    assert len(_seen) == before


def test_copies_and_casts_leave_the_parts_alone():
    dense, sparse = linear()
    again = copy.deepcopy(nn.Sequential(sparse)).half().to(torch.bfloat16)
    assert torch.equal(again[0].weight, dense.weight) and again[0].bias.dtype == torch.float32
    assert again(torch.randn(2, 19).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("make", [linear, conv])
def test_a_layer_that_was_called_is_copied_and_saved_like_any_other(make):
    _, sparse = make()
    x = torch.randn(2, 19) if make is linear else torch.randn(1, 4, 6, 6)
    right = sparse(x)
    file = io.BytesIO()
    torch.save(sparse, file)
    file.seek(0)
    again, other = torch.load(file, weights_only=False), copy.deepcopy(sparse)
    for part in sparse.packed.tensors():
        part.zero_()  # whoever still read the first layer's memory would be refused or wrong
    assert torch.equal(again(x), right) and torch.equal(other(x), right)


def test_what_was_replaced_or_moved_is_seen_at_the_next_call():
    _, sparse = linear()
    x = torch.ones(1, 19)
    before = sparse(x)
    for part in sparse.packed.tensors():
        part.share_memory_()  # as sending the layer to another process does: the old memory is free now
    assert torch.equal(sparse(x), before)
    sparse.bias += 1
    assert torch.allclose(sparse(x), before + 1)
    sparse.bias = torch.zeros(7)
    assert torch.allclose(sparse(x), x @ sparse.weight.T, atol=1e-5)
    sparse.bias.data = torch.ones(7)
    assert torch.allclose(sparse(x), x @ sparse.weight.T + 1, atol=1e-5)
    other = Bitmask.pack(torch.ones(7, 19)).parts()
    with torch.no_grad():
        found = torch.func.functional_call(sparse, {f"packed.{name}": part for name, part in other.items()}, (x,))
    assert torch.equal(found, torch.full((1, 7), 20.0)) and torch.allclose(sparse(x), x @ sparse.weight.T + 1, atol=1e-5)
    sparse.bias = torch.zeros(6)
    with pytest.raises(InputError, match=r"bias must be float32 \(7,\)"):
        sparse(x)


@pytest.mark.parametrize("make", [linear, conv])
def test_numbers_whose_sign_torch_has_put_off_are_read_right(make):
    _, sparse = make()
    x = torch.randn(2, 19) if make is linear else torch.randn(1, 4, 6, 6)
    assert torch.equal(sparse(torch._neg_view(x)), sparse(-x))
    packed = ops.checked(sparse.packed.tensors(), sparse.packed.about)
    product = packed.linear if make is linear else packed.conv
    assert torch.equal(product(torch._neg_view(x)), product(-x))
    with pytest.raises(InputError, match="in memory"):
        product(torch._efficientzerotensor(x.shape))


def test_torch_defaults_do_not_reach_into_a_layer():
    _, sparse = linear()
    right = sparse(torch.ones(1, 19))
    x = torch.ones(1, 19)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(sparse(x), right)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert torch.equal(sparse(x), right)


def test_tensors_made_in_inference_mode_are_taken():
    with torch.inference_mode():
        _, sparse = linear()
        x = torch.ones(2, 19)
        first = sparse(x)
        assert torch.equal(sparse(x), first)
    assert torch.equal(sparse(x), first)


def test_whoever_reads_the_weight_is_noticed():
    _, sparse = linear()
    with reading_watched() as readers:
        sparse(torch.ones(1, 19))
        assert not readers
        assert sparse.weight.shape == (7, 19)
    assert readers == [sparse]


def test_whoever_listens_to_torch_hears_of_them():
    from torch.utils._python_dispatch import TorchDispatchMode

    heard = []

    class Listening(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            heard.append(str(func))
            return func(*args, **(kwargs or {}))

    _, sparse = linear()
    with Listening(), torch.no_grad():
        sparse(torch.ones(1, 19))
    assert "pomona.sparse_linear.default" in heard
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        assert sparse(torch.ones(4, 19)).shape == (4, 7)
    assert sparse(torch.ones(4, 19, device="meta")).shape == (4, 7)


FUNCTIONS = {
    "vmap": lambda f, x: torch.vmap(lambda one: f(one[None]))(x),
    "grad": lambda f, x: torch.func.grad(lambda y: f(y).square().sum())(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.flip(0),))[1],
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x[:1]),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x[:1]),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("make", [linear, conv])
def test_torch_func_finds_what_it_finds_of_the_dense_layer(make, function):
    dense, sparse = make()
    x = torch.randn((3, 19) if make is linear else (3, 4, 6, 6))
    with torch.no_grad():
        assert torch.allclose(function(sparse, x), function(dense, x), atol=1e-5)


def test_forward_mode_derivatives_are_those_of_the_dense_layer():
    dense, sparse = linear()
    x = torch.randn(3, 19)
    with forward_ad.dual_level(), torch.no_grad():
        ours, theirs = (forward_ad.unpack_dual(f(forward_ad.make_dual(x, x))).tangent for f in (sparse, dense))
        assert torch.allclose(ours, theirs, atol=1e-5)


class Branch(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return (x.flatten(1).sum(1, keepdim=True) + self.layer(x).flatten(1)).square()


@pytest.mark.parametrize("make", [linear, conv])
def test_gradients_go_through_exported_programs(make):
    dense, sparse = make()
    x = torch.randn((3, 19) if make is linear else (2, 4, 6, 6))

    def gradient(model):
        a = x.clone().requires_grad_()
        model(a).sum().backward()
        return a.grad

    program = torch.export.export(Branch(sparse), (x,)).module()
    assert torch.allclose(gradient(program), gradient(Branch(dense)), rtol=1e-4, atol=1e-4)


# torch says that this way is old, and warns of shapes that it takes for constants.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("make", [linear, conv])
def test_a_trace_by_torch_jit_is_refused_and_not_made_of_constants(make):
    _, sparse = make()
    with pytest.raises(InputError, match=r"torch\.export"):
        torch.jit.trace(sparse, torch.ones(1, 19) if make is linear else torch.ones(1, 4, 5, 5))


def test_function_modes_and_the_profiler_hear_of_them():
    from torch.overrides import TorchFunctionMode

    heard = []

    class Listening(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            heard.append(str(func))
            return func(*args, **(kwargs or {}))

    _, sparse = linear()
    with Listening():
        sparse(torch.ones(1, 19))
    assert any("sparse_linear" in func for func in heard)
    with torch.autograd.profiler.profile(use_cpu=True) as profile:
        sparse(torch.ones(1, 19))
    assert any("sparse_linear" in event.name for event in profile.function_events)


def test_a_residual_that_torch_watches_is_left_to_torch():
    _, sparse = conv()
    x, added = torch.randn(1, 4, 5, 5), torch.randn(2, 1, 6, 3, 3)
    assert torch.allclose(
        torch.vmap(lambda one: sparse(x, one))(added), torch.stack([sparse(x, one) for one in added]), atol=1e-5
    )
    assert sparse(x.to("meta"), torch.randn(1, 6, 3, 3, device="meta")).is_meta


@pytest.mark.parametrize("x", [torch.ones(2, 18), torch.ones(19, dtype=torch.int64), torch.ones(())])
def test_inputs_that_do_not_fit_are_refused(x):
    with pytest.raises(InputError, match=r"takes floating-point \(..., 19\)"):
        linear()[1](x)
    with pytest.raises(InputError, match="takes floating-point"):
        conv()[1](x)


# Behind a part lies its padding, which torch.export.save remarks on and leaves out.
@pytest.mark.filterwarnings("ignore:No complete tensor found")
@pytest.mark.parametrize("make", [linear, conv])
def test_torch_export_takes_them_whole(make):
    _, sparse = make()
    x = torch.randn(3, 19) if make is linear else torch.randn(2, 4, 6, 6)
    batch = torch.export.Dim("batch", min=1, max=64)
    model = nn.Sequential(sparse, nn.ReLU()).eval()
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    assert any("sparse_" in str(node.target) for node in program.graph.nodes)
    wide = torch.cat([x, x])
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for made in (program, torch.export.load(file)):
        assert torch.equal(made.module()(wide), model(wide))


@pytest.mark.parametrize("make", [linear, conv])
# "inductor" runs a C++ compiler.
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_torch_compile_takes_them_without_a_break(make, backend):
    dense, sparse = make()
    x = torch.randn(3, 19) if make is linear else torch.randn(2, 4, 6, 6)
    model = nn.Sequential(sparse, nn.ReLU()).eval()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    with torch.no_grad():
        assert torch.allclose(compiled(x), model(x))
    a, b = (x.clone().requires_grad_() for _ in range(2))
    compiled(a).sum().backward()
    nn.Sequential(dense, nn.ReLU())(b).sum().backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-5)


@pytest.mark.parametrize("name", sorted(linear_layouts()))
def test_every_layout_is_pickled(name):
    """Some have unsigned parts, which torch by itself pickles as what it cannot read."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(32, 48, generator=draw) * torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(12)
    layer = SparseLinear(linear_layouts()[name].pack(weight), torch.ones(32))
    again = pickle.loads(pickle.dumps(layer))
    parts = zip(layer.packed.tensors(), again.packed.tensors(), strict=True)
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in parts)
    x = torch.randn(3, 48, generator=draw)
    assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize("options", [{}, {"padding": 1, "stride": (2, 1)}, {"groups": 2}, {"dilation": 2}])
def test_a_convolution_has_the_sizes_of_the_dense_one(options):
    """Models read them, to pad by themselves, say."""
    dense, sparse = conv(**options)
    names = (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "transposed",
        "output_padding",
    )  # fmt: skip
    assert {name: getattr(sparse, name) for name in names} == {name: getattr(dense, name) for name in names}
