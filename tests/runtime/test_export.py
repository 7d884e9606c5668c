import pytest
import torch
from torch import nn

from pomona.models import load_model
from pomona.runtime import export_onnx, export_openvino, export_program
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


def test_differences_are_relative_to_large_values_only():
    one = torch.tensor([1.0, 100.0])
    assert difference([one], [one + 1]) == pytest.approx(1 / 101)
    assert difference([one / 100], [one / 100 + 0.1]) == pytest.approx(0.1 / 1.1, rel=1e-3)
    assert difference([one], [one, one]) == difference([one], [one[:1]]) == float("inf")
    assert difference([one], [one * float("nan")]) == float("inf")
    hidden = torch.tensor([-torch.inf, 1.0])
    assert difference([hidden], [hidden]) == 0


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
