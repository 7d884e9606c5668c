import pytest
import torch
from torch import nn

from pomona.models import load_model
from pomona.runtime import export_onnx, export_openvino, export_program
from pomona.runtime import onnx as by_onnx
from pomona.runtime import openvino as by_openvino
from pomona.runtime.export import difference
from pomona.vocabulary import InputError


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.linear, self.drop = nn.Embedding(10, 4), nn.Linear(4, 3), nn.Dropout(0.5)

    def forward(self, ids, mask, scale=2.0):
        return {"out": self.drop(self.linear(self.embed(ids))) * mask[..., None] * scale, "ids": ids}


class Fixed(nn.Module):
    """A net that ties its batch to a number."""

    def forward(self, x):
        return x.reshape(2, 3) @ torch.ones(3, 2)


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


INPUTS = {"ids": torch.tensor([[1, 2, 9]]), "mask": torch.tensor([[1.0, 1.0, 0.0]])}


def test_onnx_equals_the_model_and_keeps_the_batch_free(tmp_path):
    net = Pair().train()
    found = export_onnx(net, INPUTS, None, tmp_path / "net.onnx")
    assert found["max_error"] <= 1e-4 and found["dynamic_batch"] and net.training
    assert found["bytes"] == (tmp_path / "net.onnx").stat().st_size
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


def test_a_tied_batch_is_exported_as_it_is(tmp_path):
    found = export_onnx(Fixed(), torch.randn(2, 3), None, tmp_path / "net.onnx")
    assert found["max_error"] <= 1e-4 and not found["dynamic_batch"]


def test_a_program_is_equal_and_loads_as_a_model(tmp_path):
    net = Pair()
    assert export_program(net, INPUTS, None, tmp_path / "net.pt2")["max_error"] == 0
    loaded = load_model(str(tmp_path / "net.pt2"))
    args, kwargs = loaded.example
    assert torch.equal(loaded.model(*args, **kwargs)["out"], net.eval()(**INPUTS)["out"])


@pytest.mark.parametrize(("export", "name"), [(export_onnx, "net.onnx"), (export_program, "net.pt2")])
def test_what_differs_from_the_model_leaves_no_file(tmp_path, export, name):
    with pytest.raises(InputError, match="differs"):
        export(Noise(), torch.randn(2, 3), None, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("export", [export_onnx, export_program])
def test_existing_files_and_missing_folders_are_refused(tmp_path, export):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        export(Fixed(), torch.randn(2, 3), None, tmp_path / "taken")
    with pytest.raises(InputError, match="no folder"):
        export(Fixed(), torch.randn(2, 3), None, tmp_path / "nowhere" / "net")
    assert (tmp_path / "taken").read_text() == "mine"


def test_missing_packages_are_named_with_their_pip_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install 'pomona\\[export\\]'"):
        export_onnx(Fixed(), torch.randn(2, 3), None, tmp_path / "net.onnx")


def test_differences_are_relative_to_the_largest_value():
    one = torch.tensor([1.0, 100.0])
    assert difference([one], [one + 1]) == pytest.approx(1 / 101)
    assert difference([one / 100], [one / 100 + 0.1]) == pytest.approx(0.1 / 1.1, rel=1e-3)
    assert difference([one], [one, one]) == difference([one], [one[:1]]) == float("inf")
    assert difference([one], [one * float("nan")]) == float("inf")
    assert difference([1e-6 * one], [1e-6 * one + 1e-6]) == pytest.approx(1 / 101, rel=1e-3)
    assert difference([1e-6 * one], [1e-6 * one + 1e-6], least=1.0) == pytest.approx(1e-6, rel=1e-3)
    hidden = torch.tensor([-torch.inf, torch.nan, 1.0])
    assert difference([hidden], [hidden]) == 0
    assert difference([hidden], [torch.tensor([-torch.inf, 1.0, 1.0])]) == float("inf")
    waves = torch.tensor([3 + 4j])
    assert difference([waves + 1j], [waves]) == pytest.approx(0.2)


def half_empty():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
    with torch.no_grad():
        net[0].weight[torch.rand(64, 64) < 0.9] = 0
        net[2].weight[torch.rand(32, 64) < 0.5] = 0
    return net


def test_sparse_initialisers_make_the_file_smaller_and_the_same(tmp_path):
    net, x = half_empty(), torch.randn(3, 64)
    dense = export_onnx(net, x, None, tmp_path / "dense.onnx")
    sparse = export_onnx(net, x, None, tmp_path / "sparse.onnx", sparse=True)
    assert sparse["sparse_weights"] == 1  # half zeros would make the second larger
    saved = 64 * 64 * 4 - int(net[0].weight.count_nonzero()) * 12
    assert abs(dense["bytes"] - sparse["bytes"] - saved) < 600
    assert sparse["max_error"] == dense["max_error"] and sparse["dynamic_batch"]


def test_openvino_equals_the_model_and_keeps_the_batch_free(tmp_path):
    pytest.importorskip("openvino")
    found = export_openvino(half_empty(), torch.randn(3, 64), None, tmp_path / "net.xml")
    assert found["max_error"] <= 1e-4 and found["dynamic_batch"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    assert found["bytes"] == sum(p.stat().st_size for p in tmp_path.iterdir())


def test_openvino_gives_bfloat16_as_it_is(tmp_path):
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 8)).bfloat16().eval()
    assert export_openvino(net, torch.arange(6)[None], None, tmp_path / "net.xml", tolerance=0.02)["max_error"] <= 0.02


def test_openvino_leaves_nothing_behind_what_it_refuses(tmp_path):
    pytest.importorskip("openvino")
    with pytest.raises(InputError, match=r"OpenVINO differs|cannot be written|does not take"):
        export_openvino(Noise(), torch.randn(3, 64), None, tmp_path / "net.xml")
    assert not list(tmp_path.iterdir())
    (tmp_path / "net.bin").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"net\.bin exists"):
        export_openvino(half_empty(), torch.randn(3, 64), None, tmp_path / "net.xml")
    assert (tmp_path / "net.bin").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("export", "home", "name"), [(export_onnx, by_onnx, "net.onnx"), (export_openvino, by_openvino, "net.xml")]
)
def test_small_outputs_are_compared_by_their_own_size(tmp_path, monkeypatch, export, home, name):
    pytest.importorskip("openvino")
    net, x = nn.Sequential(nn.Linear(8, 8)), torch.randn(2, 8)
    with torch.no_grad():
        net[0].weight *= 1e-7
        net[0].bias *= 1e-7
    right = home.results
    monkeypatch.setattr(home, "results", lambda *given: [1.1 * found for found in right(*given)])
    with pytest.raises(InputError, match=r"differs from the model by 0\.1"):
        export(net, x, None, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


class Logarithm(nn.Module):
    def forward(self, x):
        return x.log()


@pytest.mark.parametrize(("export", "name"), [(export_onnx, "net.onnx"), (export_program, "net.pt2")])
def test_what_is_nan_in_the_model_may_be_nan_in_the_file(tmp_path, export, name):
    assert export(Logarithm(), torch.tensor([[1.0, -1.0], [2.0, 3.0]]), None, tmp_path / name)["max_error"] < 1e-6


@pytest.mark.parametrize(("export", "name"), [(export_onnx, "net.onnx"), (export_openvino, "net.xml")])
def test_bfloat16_is_refused_with_the_cure(tmp_path, export, name):
    pytest.importorskip("openvino")
    with pytest.raises(InputError, match=r"bfloat16 here; export model\.float\(\)"):
        export(nn.Sequential(nn.Linear(8, 4)).bfloat16(), torch.randn(2, 8).bfloat16(), None, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_may_be_off_by_its_own_rounding(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).half()
    found = export_onnx(net, torch.randn(2, 64).half(), None, tmp_path / "net.onnx")
    assert found["tolerance"] == 0.03 and found["max_error"] < 0.01


class Inner(nn.Module):
    def forward(self, x):
        return (x.bfloat16() @ torch.ones(8, 8, dtype=torch.bfloat16)).float()


def test_what_onnx_runtime_cannot_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="ONNX Runtime does not run what was exported"):
        export_onnx(Inner(), torch.randn(2, 8), None, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


class Count(nn.Module):
    def forward(self, x):
        return x + 1, 3


def test_the_exporters_own_reason_is_told(tmp_path):
    with pytest.raises(InputError) as refused:
        export_onnx(Count(), torch.randn(2, 3), None, tmp_path / "net.onnx")
    assert "step" not in str(refused.value) and "\x1b" not in str(refused.value) and "'int'" in str(refused.value)


class Scaled(nn.Module):
    def forward(self, x, scale):
        return x * scale


@pytest.mark.parametrize(("export", "name"), [(export_onnx, "n.onnx"), (export_openvino, "n.xml"), (export_program, "n.pt2")])
def test_the_batch_is_that_of_the_first_input_of_the_forward_pass(tmp_path, export, name):
    pytest.importorskip("openvino")
    inputs = {"scale": torch.tensor([2.0]), "x": torch.randn(3, 4)}
    assert export(Scaled(), inputs, None, tmp_path / name)["dynamic_batch"]


@pytest.mark.parametrize(("export", "name"), [(export_onnx, "a.onnx"), (export_openvino, "a.xml"), (export_program, "a.pt2")])
def test_inputs_of_another_type_are_refused_and_leave_nothing(tmp_path, export, name):
    with pytest.raises(InputError, match=r"Linear does not run on these inputs: .*dtype"):
        export(nn.Linear(4, 3).double(), torch.randn(2, 4), None, tmp_path / name)
    assert not [*tmp_path.iterdir()]
