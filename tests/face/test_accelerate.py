"""`pomona.accelerate`: what is packed, what is left and why, and that nothing else changes.

Times come from a table that the tests write: what is fast here is not what is tested.
"""

import copy

import pytest
import torch
from torch import nn

import pomona
from pomona.face import accelerate as home
from pomona.face.accelerate import apply
from pomona.face.choice import with_choice
from pomona.native import library, using
from pomona.runtime.sparse import SparseConv2d, SparseLinear
from pomona.runtime.sparse.candidates import Candidate
from pomona.runtime.sparse.choose import Choice, candidates_of
from pomona.vocabulary import InputError, ProofError

native = pytest.mark.skipif(library().isa is None, reason="without kernels nothing is packed")
BITMASK = Candidate("bitmask")


@pytest.fixture
def bitmask_wins(monkeypatch):
    """Every layer that may be a bitmask is faster as one; every convolution as blocks of one row."""

    def choose(layer, x, cold, values, table):
        rows = x.shape[:-1].numel()
        tried = candidates_of(layer, rows, values)
        found = [c for c in tried if c.layout in ("bitmask", "conv_blocks") and c.values == values]
        return Choice(found[0] if found else None, 2.0, 1.0, {str(c): 1.0 for c in tried})

    monkeypatch.setattr(home, "choose", choose)


def thinned(model, share=0.6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.weight *= torch.rand(layer.weight.shape, generator=draw) >= share
    return model.eval()


def why(fast):
    return {layer.name: layer.reason for layer in fast.layers}


@native
def test_layers_that_are_faster_are_packed_and_the_model_answers_the_same(bitmask_wins):
    torch.manual_seed(0)
    net = thinned(nn.Sequential(nn.Conv2d(3, 8, 3, padding="same"), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 25, 4)))
    before = copy.deepcopy(net.state_dict())
    fast = pomona.accelerate(net, torch.randn(2, 3, 5, 5), fused=False, latency={"pairs": 5, "seconds": 0.1})
    assert isinstance(fast.model[0], SparseConv2d) and isinstance(fast.model[3], SparseLinear)
    assert set(fast.packed) == {"0", "3"} and fast.error < 1e-5
    x = torch.randn(1, 3, 5, 5)
    assert torch.allclose(fast.model(x), net(x), atol=1e-5)
    assert fast.latency.pairs == 5 and fast.told.startswith("2 of 2 layers run on sparse kernels")
    assert "bitmask f32" in fast.table() and fast.document()["layers"][1]["ratio"] == 0.5
    assert type(net[3]) is nn.Linear and all(torch.equal(before[k], v) for k, v in net.state_dict().items())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.one = self.again = nn.Linear(8, 8)
        self.other = nn.Linear(8, 8)
        self.other.weight = self.one.weight
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.other(self.again(self.one(self.embed(ids)))))


@native
def test_shared_layers_and_tied_weights_are_packed_once(bitmask_wins):
    net = thinned(Tied(), 0.3)
    ids = torch.arange(5)[None]
    fast = pomona.accelerate(net, ids, latency=False)
    made = fast.model
    assert made.one is made.again and made.one.packed is made.other.packed and made.one.bias is not made.other.bias
    assert type(made.embed) is nn.Embedding and isinstance(made.head, SparseLinear)
    assert torch.allclose(made(ids), net(ids), atol=1e-5)
    assert [layer.calls for layer in fast.layers if layer.name == "one"] == [2]


@native
def test_one_weight_of_two_geometries_is_packed_for_each(bitmask_wins):
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2))
    net[1].weight = net[0].weight
    fast = pomona.accelerate(thinned(net), torch.randn(1, 4, 8, 8), latency=False)
    assert set(fast.packed) == {"0", "1"}


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.read = nn.Linear(6, 6)
        self.never = nn.Linear(6, 6)
        self.hooked = nn.Linear(6, 6)
        self.hooked.register_forward_hook(lambda *_: None)
        self.full = nn.Linear(6, 6)
        self.sub = nn.modules.linear.NonDynamicallyQuantizableLinear(6, 6)
        self.circular = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")

    def forward(self, x):
        x = self.read(x) if self.read.weight.dtype == x.dtype else x
        return self.circular(self.sub(self.full(self.hooked(x)))[None, None])


@native
def test_what_cannot_be_packed_is_left_with_its_reason(bitmask_wins):
    net = thinned(Odd())
    nn.init.uniform_(net.full.weight, 1, 2)
    fast = pomona.accelerate(net, torch.randn(6, 6), latency=False)
    assert not fast.packed
    assert why(fast) == {
        "read": "its weight is read by the code around it",
        "never": "its forward is not called on these inputs",
        "hooked": "it has hooks",
        "full": "dense is as fast",
        "sub": "a NonDynamicallyQuantizableLinear is not a plain Linear",
        "circular": "it pads with circular",
    }


@native
def test_layers_without_zeros_are_packed_where_that_is_faster(monkeypatch):
    def choose(layer, x, cold, values, table):
        tried = [c for c in candidates_of(layer, x.shape[:-1].numel(), values) if c.layout == "blocks"]
        return Choice(tried[0], 2.0, 1.0, {str(c): 1.0 for c in tried})

    monkeypatch.setattr(home, "choose", choose)
    net, x = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4)).eval(), torch.randn(20, 24)
    fast = pomona.accelerate(net, x, latency=False)
    assert set(fast.packed) == {"0", "2"} and all(layer.sparsity == 0 for layer in fast.layers)
    with torch.no_grad():
        assert torch.allclose(fast.model(x), net(x), atol=1e-5)


@native
def test_transformer_layers_that_fuse_by_themselves_still_answer(bitmask_wins):
    net = thinned(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1, enable_nested_tensor=False))
    x = torch.randn(1, 3, 8)
    fast = pomona.accelerate(net, x, latency=False)
    with torch.no_grad():
        assert torch.allclose(fast.model(x), net(x), atol=1e-5)


def test_without_kernels_nothing_is_packed_and_it_is_said():
    net = thinned(nn.Sequential(nn.Linear(8, 8)))
    with using(None):
        fast = pomona.accelerate(net, torch.randn(1, 8))
    assert not fast.packed and type(fast.model[0]) is nn.Linear and fast.latency is None
    assert "no native kernels here (torch was asked for)" in fast.told and "pomona doctor" in fast.told


@native
def test_where_dense_is_as_fast_the_sentence_says_what_would_pay(monkeypatch):
    monkeypatch.setattr(home, "choose", lambda *_: Choice(None, 1.0, 1.2, {"bitmask f32": 1.2}))
    told = pomona.accelerate(thinned(nn.Sequential(nn.Linear(8, 8))), torch.randn(64, 8)).told
    assert "takes 1.20 of the dense time" in told and "--structure block:8x1" in told and "--values int8" in told


@native
def test_a_model_of_one_layer_and_one_without_layers():
    fast = apply(thinned(nn.Linear(8, 8)), {"": BITMASK})
    assert isinstance(fast, SparseLinear)
    assert "no Linear" in pomona.accelerate(nn.Sequential(nn.ReLU()), torch.randn(1, 8)).told


@native
def test_rounded_values_are_used_when_asked_for(bitmask_wins):
    torch.manual_seed(0)
    net, x = thinned(nn.Sequential(nn.Linear(64, 32))), torch.randn(2, 64)
    fast = pomona.accelerate(net, x, values="int8", latency=False)
    assert str(fast.packed["0"]) == "bitmask int8" and 0 < fast.error < 0.05


@native
def test_layers_that_rounding_moves_too_far_keep_more_bits(bitmask_wins):
    torch.manual_seed(0)
    net, x = thinned(nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 32))), torch.randn(2, 64)
    with torch.no_grad():
        net[0].weight[:, 5] = 0.0
    x[:, 5] = 1000.0  # beside which the others are next to nothing in a byte
    fast = pomona.accelerate(net, x, values="int8", latency=False)
    assert {name: str(how) for name, how in fast.packed.items()} == {"0": "bitmask bf16", "1": "bitmask int8"}
    assert fast.error < 0.05


@native
def test_where_the_whole_is_off_by_too_much_the_roughest_layers_keep_more_bits(bitmask_wins, monkeypatch):
    torch.manual_seed(0)
    net, x = thinned(nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))), torch.randn(2, 64)
    monkeypatch.setattr(home, "_ALLOWED", {"int8": 0.0})
    with pytest.raises(InputError, match="more than the 0 allowed"):
        pomona.accelerate(net, x, values="int8", latency=False)
    whole = {}
    for allowed in (1.0, 0.01, 0.004):
        monkeypatch.setattr(home, "_ALLOWED", {"int8": allowed})
        fast = pomona.accelerate(net, x, values="int8", latency=False)
        whole[allowed] = [str(how) for how in fast.packed.values()].count("bitmask int8"), fast.error
        assert fast.error <= allowed
    assert [count for count, _ in whole.values()] == sorted((count for count, _ in whole.values()), reverse=True)
    assert whole[1.0][0] == 4 > whole[0.004][0]


@native
def test_outputs_that_differ_never_leave(bitmask_wins, monkeypatch):
    net, x = thinned(nn.Sequential(nn.Linear(64, 32))), torch.randn(2, 64)
    right = home.packed_layer

    def wrong(layer, candidate):
        made = right(layer, candidate)
        made.bias += 1
        return made

    monkeypatch.setattr(home, "packed_layer", wrong)
    with pytest.raises(ProofError, match="off by"):
        pomona.accelerate(net, x)
    with pytest.raises(InputError, match="--values f32"):
        pomona.accelerate(net, x, values="int8")


def test_wishes_that_cannot_be_met_are_refused():
    net = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(InputError, match="Values are f32, bf16, int8, not 'int4'"):
        pomona.accelerate(net, torch.randn(1, 8), values="int4")
    with pytest.raises(InputError, match="does not run on these inputs"):
        pomona.accelerate(net, torch.randn(1, 9))
    with pytest.raises(InputError, match="no Linear or Conv2d of the name 'nothing'"):
        apply(net, {"nothing": BITMASK})


def digits_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()


@native
@pytest.mark.parametrize("source", [None, "function"])
@pytest.mark.filterwarnings("ignore:No complete tensor found")  # see tests/runtime/sparse/test_modules.py
def test_a_result_is_saved_with_its_choice_and_loads_packed(bitmask_wins, tmp_path, source):
    from pomona.models import Source

    given = Source("function", f"{__file__}:digits_net") if source else None
    x = torch.randn(2, 16)
    result = pomona.prune(digits_net(), x, goal="sparsity=0.8", latency=False, source=given)
    fast = result.accelerate(batch=1, latency=False)
    assert set(fast.packed) == {"0", "2"}
    result.save(tmp_path / "out", fast=fast)
    again = pomona.load(tmp_path / "out")
    assert torch.equal(again(x), fast.model(x))
    if source:
        assert isinstance(again[0], SparseLinear) and again[2].packed.about[1] == "bitmask"
        with using(None):
            plain = pomona.load(tmp_path / "out")
        assert type(plain[0]) is nn.Linear and torch.equal(plain[0].weight, result.model[0].weight)


def pictures_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


@native
def test_what_lies_between_the_layers_is_fused_where_it_is_wanted_and_can_be(bitmask_wins):
    net, x = thinned(pictures_net()), torch.randn(2, 3, 8, 8)
    fast = pomona.accelerate(net, x, latency={"pairs": 5, "seconds": 0.1})
    assert isinstance(fast.model, torch.fx.GraphModule) and fast.fused == fast.document()["fused"] == 3 and fast.error < 1e-5
    assert fast.told.endswith("They take 3 ops along (BatchNorm, additions, ReLU).") and fast.latency.pairs == 5
    assert torch.allclose(fast.model(x[:1]), net(x[:1]), atol=1e-5)
    plain = pomona.accelerate(net, x, fused=False, latency=False)
    assert type(plain.model) is nn.Sequential and plain.fused == 0 and plain.packed == fast.packed
    net[2].register_forward_hook(lambda *_: None)
    hooked = pomona.accelerate(net, x, latency=False)
    assert type(hooked.model) is nn.Sequential and hooked.told.endswith("Nothing is fused with them: the model has hooks.")


@native
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("source", [None, "function"])
@pytest.mark.filterwarnings("ignore:No complete tensor found")
def test_a_fused_model_is_saved_and_fused_again_when_it_is_loaded(bitmask_wins, tmp_path, source, fused):
    from pomona.models import Source

    given = Source("function", f"{__file__}:pictures_net") if source else None
    x = torch.randn(2, 3, 8, 8)
    result = pomona.prune(pictures_net(), x, goal="sparsity=0.8", latency=False, source=given)
    fast = result.accelerate(batch=1, fused=fused, latency=False)
    assert fast.fused == (3 if fused else 0)
    result.save(tmp_path / "out", fast=fast)
    again = pomona.load(tmp_path / "out")
    assert torch.equal(again(x), fast.model(x))
    if source:
        assert isinstance(again, torch.fx.GraphModule) == fused
        with using(None):
            assert type(pomona.load(tmp_path / "out")) is nn.Sequential


@native
@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"format": 9, "layers": {}}',
        '{"format": 1, "layers": {"0": {"layout": "x"}}}',
        '{"format": 1, "layers": {"9": {"layout": "bitmask", "values": "f32", "options": {}}}}',
    ],
)
def test_a_damaged_choice_is_refused(tmp_path, text):
    (tmp_path / "layouts.json").write_text(text)
    with pytest.raises(InputError):
        with_choice(digits_net(), tmp_path / "layouts.json")


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(64, 32), 0.0

    def forward(self, x):
        hidden = nn.functional.dropout(self.linear(x), self.drop, training=True)
        return hidden.masked_fill(torch.ones(2, 32, dtype=torch.bool).triu(5), -torch.inf)


@native
def test_masked_outputs_are_compared_and_models_of_chance_are_not_blamed_on_kernels(bitmask_wins):
    net, x = thinned(Masked()), torch.randn(2, 64)
    assert pomona.accelerate(net, x, latency=False).error < 1e-5
    net.drop = 0.5
    with pytest.raises(InputError, match="randomness or state"):
        pomona.accelerate(net, x, latency=False)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", 10**6])
def test_threads_that_cannot_be_are_refused(threads):
    with pytest.raises(InputError, match="At least one thread"):
        pomona.accelerate(nn.Linear(8, 8), torch.randn(1, 8), threads=threads)
    with pytest.raises(InputError, match="At least one thread"):
        pomona.advise(nn.Linear(8, 8), torch.randn(1, 8), threads=threads)
