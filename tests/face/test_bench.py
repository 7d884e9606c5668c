"""`pomona.bench`: real engines in one table. Those that compile take long, and are among the slow tests."""

import pytest
import torch
import transformers
from torch import nn

import pomona
from pomona.face import accelerate as home
from pomona.face.bench import ALL
from pomona.models import Source
from pomona.native import library
from pomona.runtime.sparse.choose import Choice, candidates_of
from pomona.vocabulary import InputError

native = pytest.mark.skipif(library().isa is None, reason="without kernels nothing is packed")
BRIEF = {"threads": 1, "rounds": 5, "seconds": 0.2}


@pytest.fixture
def exact_wins(monkeypatch):
    """Every layer runs as the first layout that it may: what is fast here is not what is tested."""

    def choose(layer, x, cold, values, table):
        tried = candidates_of(layer, x.shape[:-1].numel(), values)
        return Choice(tried[0] if tried else None, 2.0, 1.0, {str(c): 1.0 for c in tried})

    monkeypatch.setattr(home, "choose", choose)


def thinned(model):
    """Without 80 % of its weights, multiplied away as users do it: half of the zeros are negative ones."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.weight *= torch.rand(layer.weight.shape, generator=draw) >= 0.8
    return model.eval()


def cnn():
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU())
    return thinned(nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)))


def llama():
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "vocab_size": 64}
    return thinned(transformers.LlamaForCausalLM(transformers.LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)))


def tokens(rows=1):
    ids = torch.randint(0, 64, (rows, 12), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}


def rows(found):
    return {row.engine: row for row in found.rows}


class Unruly(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) * (2 if float(x.sum()) > 0 else 3)


@native
def test_a_sparse_cnn_comes_back_from_the_files_of_all_engines(exact_wins):
    for package in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    model = cnn()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engines = ["pt2", "onnxruntime", "onnxruntime-sparse", "openvino", "pomona"]
    found = pomona.bench(model, torch.randn(2, 3, 8, 8), engines=engines, **BRIEF)
    seen = rows(found)
    assert list(seen) == ["eager", *engines] and all(row.holds and row.why is None for row in found.rows)
    assert found.batch == 2 and found.threads == 1 and found.best.ms == min(row.ms for row in found.rows)
    assert seen["onnxruntime-sparse"].nbytes < 0.7 * seen["onnxruntime"].nbytes
    assert seen["pomona"].nbytes < 0.7 * seen["eager"].nbytes and not seen["pomona"].dense
    assert seen["pomona"].limit_ms < seen["eager"].limit_ms < seen["eager"].ms
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@native
def test_a_llama_has_a_row_of_the_decoder(exact_wins):
    found = pomona.bench(llama(), tokens(), engines=["pt2", "pomona", "decoder"], **BRIEF)
    assert all(row.holds for row in found.rows) and "MB when opened" in rows(found)["decoder"].note
    assert all(row.ms > row.limit_ms > 0 for row in found.rows)


def test_files_without_an_engine_are_compared_and_not_timed():
    pytest.importorskip("gguf"), pytest.importorskip("accelerate")
    found = pomona.bench(llama(), tokens(), engines=["packed", "compressed-tensors", "gguf"], **BRIEF)
    seen = rows(found)
    assert all(row.holds and row.why is None for row in found.rows) and found.best.engine == "eager"
    assert all(row.ms is None and "no engine here" in row.note for row in found.rows[1:])
    assert max(seen[name].nbytes for name in ("packed", "compressed-tensors")) < seen["eager"].nbytes
    assert (
        "models of transformers"
        in rows(pomona.bench(nn.Linear(4, 4), torch.randn(1, 4), engines="packed", **BRIEF))["packed"].why
    )


def test_what_the_decoder_cannot_take_is_told_in_its_row():
    padded = tokens()
    padded["attention_mask"][0, 0] = 0
    for inputs, says in ((tokens(2), "one sequence at a time; these are 2"), (padded, "without padding")):
        found = pomona.bench(llama(), inputs, engines=["decoder"], **BRIEF)
        assert says in rows(found)["decoder"].why and found.best.engine == "eager"


def test_a_model_that_no_exporter_takes_still_has_a_table():
    found = pomona.bench(Unruly(), torch.randn(2, 4), engines=["pt2", "pomona"], **BRIEF)
    assert found.best.engine == "eager" and "Unruly cannot be traced" in rows(found)["pt2"].why
    assert "othing is packed" in rows(found)["pomona"].why


@native
def test_rounded_values_hold_where_the_tolerance_allows_it(exact_wins):
    model, x = thinned(nn.Sequential(nn.Linear(64, 32))), torch.randn(2, 64)
    row = rows(pomona.bench(model, x, engines="pomona", values="int8", **BRIEF))["pomona"]
    assert 1e-4 < row.error < 0.05 and not row.holds
    assert rows(pomona.bench(model, x, engines="pomona", values="int8", tolerance=0.05, **BRIEF))["pomona"].holds


def test_wishes_that_cannot_be_met_are_refused():
    net, x = nn.Linear(4, 4), torch.randn(1, 4)
    for wish, says in (
        ({"engines": ["steam"]}, "no engine 'steam'"),
        ({"values": "int4"}, "not 'int4'"),
        ({"rounds": 0}, "Timing needs a round"),
        ({"clock": "sun"}, "no clock 'sun'"),
        ({"threads": 0}, "At least one thread"),
    ):
        with pytest.raises(InputError, match=says):
            pomona.bench(net, x, **wish)


@native
@pytest.mark.filterwarnings("ignore:No complete tensor found")  # see tests/runtime/sparse/test_modules.py
def test_accelerated_folders_are_opened_dense_and_packed_models_refused(exact_wins, tmp_path):
    source, x = Source("function", f"{__file__}:cnn"), torch.randn(2, 3, 8, 8)
    result = pomona.prune(cnn(), x, goal="sparsity=0.9", latency=False, source=source)
    fast = result.accelerate(batch=1, latency=False)
    result.save(tmp_path / "out", fast=fast)
    dense = pomona.load(tmp_path / "out", packed=False)
    assert type(dense[0]) is nn.Conv2d and torch.equal(dense(x), result.model(x))
    program = torch.export.export(fast.model, (x,)).module()
    for packed in (fast.model, program):
        with pytest.raises(InputError, match="are packed"):
            pomona.bench(packed, x)


@pytest.mark.slow
@native
@pytest.mark.parametrize(("model", "inputs"), [(cnn, torch.randn(1, 3, 8, 8)), (llama, tokens())], ids=["cnn", "llama"])
def test_every_engine_gives_what_the_model_gives(exact_wins, model, inputs):
    for package in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    found = pomona.bench(model(), inputs, **BRIEF)
    wanted = ALL if model is llama else ALL[: ALL.index("decoder")]
    assert [row.engine for row in found.rows] == list(wanted) and [r.why for r in found.rows] == [None] * len(wanted)
    assert all(row.holds for row in found.rows)
