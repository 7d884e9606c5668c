"""Folders that store experts one by one are pruned without the model, or a stack of them, ever being stored otherwise."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pomona
from experts import folder_of, mixtral, one_by_one, qwen2, qwen3
from pomona.face.streaming import prune_folder
from pomona.vocabulary import InputError

DATA = [{"input_ids": torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(seed))} for seed in range(2)]
WISH = {"goal": "sparsity=0.5", "data": DATA}

OPEN = """
import sys
sys.modules["pomona"] = None
import torch, transformers
kind = getattr(transformers, sys.argv[1])
model, info = kind.from_pretrained(sys.argv[2], dtype=torch.float32, output_loading_info=True)
assert not any(info.values()), info
torch.save({name: value for name, value in model.state_dict().items()}, sys.argv[3])
"""


def opened_without_us(kind, folder, path):
    run = subprocess.run(
        [sys.executable, "-c", OPEN, kind.__name__, str(folder), str(path)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return torch.load(path)


def tensors(folder):
    return {key: value for path in sorted(folder.glob("*.safetensors")) for key, value in load_file(path).items()}


@pytest.mark.parametrize(
    ("make", "method"),
    [pytest.param(mixtral, "sparsegpt", marks=pytest.mark.slow), (qwen2, "wanda"), (qwen3, "sparsegpt")],
)
def test_streamed_is_what_in_memory_gives_and_opens_without_us(make, method, tmp_path):
    model = make()
    streamed = prune_folder(folder_of(model, tmp_path / "dense"), tmp_path / "small", method=method, **WISH)
    whole = pomona.prune(model, DATA[0], method=method, latency=False, **WISH).model
    found = opened_without_us(type(model), streamed.folder, tmp_path / "state")
    assert found.keys() == whole.state_dict().keys()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in found.items())
    stacks = [value for name, value in found.items() if "experts." in name and value.dim() == 3]
    assert stacks and all(2 * int(stack.count_nonzero()) == stack.numel() for stack in stacks)
    stored = tensors(streamed.folder)
    assert stored.keys() == one_by_one(model).keys()
    assert all(torch.equal(stored[key], value) for key, value in one_by_one(whole).items())


def test_stored_types_stay(tmp_path):
    folder = folder_of(qwen3(), tmp_path / "dense", torch.bfloat16)
    streamed = prune_folder(folder, tmp_path / "small", method="wanda", **WISH)
    before, after = tensors(folder), tensors(streamed.folder)
    assert all(value.dtype == torch.bfloat16 and value.shape == before[key].shape for key, value in after.items())
    assert all(bool(((after[key] == before[key]) | (after[key] == 0)).all()) for key in before)


def test_what_transformers_has_no_way_back_to_is_written_as_the_model_holds_it(tmp_path):
    def stacked(tensors):  # one layer as files of one kind have it, the other as those of the other kind
        for key in [key for key in tensors if "layers.1" in key and ".experts." in key]:
            del tensors[key]
        experts = {name: value for name, value in model.state_dict().items() if "layers.1" in name and ".experts." in name}
        tensors.update({name: value.clone() for name, value in experts.items()})

    model = qwen2()
    folder = folder_of(model, tmp_path / "dense", change=stacked)
    streamed = prune_folder(folder, tmp_path / "small", method="wanda", **WISH)
    assert tensors(streamed.folder).keys() == model.state_dict().keys()
    whole = pomona.prune(model, DATA[0], method="wanda", latency=False, **WISH).model.state_dict()
    found = opened_without_us(type(model), streamed.folder, tmp_path / "state")
    assert all(torch.equal(value, whole[name]) for name, value in found.items())


def test_a_folder_without_an_expert_is_refused_and_nothing_is_written(tmp_path):
    lost = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
    folder = folder_of(mixtral(), tmp_path / "dense", change=lambda tensors: tensors.pop(lost))
    with pytest.raises(InputError, match=f"no tensor {lost}"):
        prune_folder(folder, tmp_path / "small", **WISH)
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
import deadly
import test_streaming_experts as t
t.attempt(t.Path(sys.argv[3]), "out", deadly.Deadly(blocks=1))
"""


def attempt(path, out, progress=None, checkpoint="work"):
    work = checkpoint and path / checkpoint
    return prune_folder(path / "dense", path / out, method="sparsegpt", checkpoint=work, progress=progress, **WISH)


def test_a_killed_run_goes_on_and_ends_bit_identical(tmp_path):
    folder_of(mixtral(), tmp_path / "dense", torch.bfloat16)
    here = Path(__file__).parent
    command = [sys.executable, "-c", RUN, str(here.parent), str(here), str(tmp_path)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in (tmp_path / "work").glob("model.layers.*")] == ["model.layers.0.safetensors"]
    resumed, whole = attempt(tmp_path, "out"), attempt(tmp_path, "whole", checkpoint=None)
    files = sorted(path.name for path in whole.folder.glob("model*"))
    assert files == sorted(path.name for path in resumed.folder.glob("model*"))
    assert all((whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes() for name in files)
