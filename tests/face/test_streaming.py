"""A model that is never whole in memory is pruned as one that is."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import language
import pomona
from deadly import Deadly
from pomona.face.streaming import prune_folder
from pomona.recipes.language import wanda
from pomona.statistics.input_norm import InputNorm
from pomona.vocabulary import Decision, InputError, Silent


class Notes(Silent):
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)


def folder_of(name, path, dtype=torch.float32, **save):
    model, data = language.model(name)
    model = model.to(dtype)
    model.save_pretrained(path / "dense", **save)
    return path / "dense", model.float(), data


@pytest.mark.parametrize(("name", "true"), [*((name, False) for name in language.MAKERS), ("llama", True), ("t5", True)])
def test_streamed_is_what_in_memory_gives_and_opens_without_us(name, true, tmp_path):
    folder, model, data = folder_of(name, tmp_path, max_shard_size="20kB")
    wish = {"method": "wanda", "goal": "sparsity=0.5", "data": data, "true_sequential": true}
    streamed = prune_folder(folder, tmp_path / "small", **wish)
    plan = pomona.plan(model, data[0], **wish)
    assert all(torch.equal(streamed.plan.keep(site), plan.keep(site)) for site in plan.sites)
    opened, info = type(model).from_pretrained(tmp_path / "small", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    for key, value in opened.state_dict().items():
        kept = plan.keep(key) if key in plan.sites else True
        assert torch.equal(value, model.state_dict()[key] * kept), key
    assert not [path for path in tmp_path.iterdir() if path.name not in ("dense", "small")]


def test_batches_of_an_encoder_decoder_need_no_more_than_labels(tmp_path):
    folder, model, data = folder_of("bart", tmp_path)
    pairs = [{"input_ids": b["input_ids"], "labels": b["input_ids"].flip(1)} for b in data]
    full = [{**b, "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(b["labels"])} for b in pairs]
    one, two = (prune_folder(folder, tmp_path / name, goal="sparsity=0.5", data=d) for name, d in (("one", pairs), ("two", full)))
    assert all(torch.equal(one.plan.keep(site), two.plan.keep(site)) for site in one.plan.sites)


def test_nothing_is_written_into_the_folder_that_is_read(tmp_path):
    folder, _, data = folder_of("llama", tmp_path)
    with pytest.raises(InputError, match="choose an output folder beside it"):
        prune_folder(folder, folder / "small", goal="sparsity=0.5", data=data)


def test_stored_types_stay_and_everything_else_is_copied(tmp_path):
    folder, _, data = folder_of("llama", tmp_path, torch.bfloat16)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_text("the dense weights once more")
    streamed = prune_folder(folder, tmp_path / "small", goal="sparsity=0.5", data=data, max_memory="1GB")
    stored = {k: v for path in (tmp_path / "small").glob("*.safetensors") for k, v in load_file(path).items()}
    before = load_file(folder / "model.safetensors")
    assert stored.keys() == before.keys() and all(value.dtype == torch.bfloat16 for value in stored.values())
    assert all(torch.equal(stored[k], before[k] * (streamed.plan.keep(k) if "proj" in k else 1)) for k in stored)
    assert (tmp_path / "small/tokenizer.json").read_text() == "{}" and not (tmp_path / "small/pytorch_model.bin").exists()
    report = json.loads((tmp_path / "small/report.json").read_text())
    assert report["nonzeros"]["after"] == sum(int((value != 0).sum()) for value in stored.values())
    assert report["memory"]["peak"] <= report["memory"]["limit"] == 10**9
    assert [block["name"] for block in report["blocks"]] == [f"model.layers.{n}" for n in range(3)]


def test_what_does_not_fit_goes_to_disk_and_changes_nothing(tmp_path):
    folder, _, data = folder_of("gpt2", tmp_path)
    wish = {"goal": "sparsity=0.5", "data": data}
    roomy = prune_folder(folder, tmp_path / "roomy", **wish, progress=(notes := Notes()))
    least = next(text for text in notes.told if text.startswith("At most"))
    assert "to disk" not in least
    with pytest.raises(InputError, match=r"will not do: this run takes at least \d+ MB") as refused:
        prune_folder(folder, tmp_path / "tight", **wish, max_memory="10MB")
    assert not (tmp_path / "tight").exists()
    megabytes = int(str(refused.value).split("at least ")[1].split(" MB")[0])
    tight = prune_folder(folder, tmp_path / "tight", **wish, max_memory=f"{megabytes + 1}MB")
    assert all(torch.equal(tight.plan.keep(site), roomy.plan.keep(site)) for site in roomy.plan.sites)


def test_a_head_that_is_asked_for_is_pruned_last(tmp_path):
    folder, model, data = folder_of("llama", tmp_path)
    wish = {"method": "wanda", "goal": "sparsity=0.5", "data": data, "only": ["lm_head", "model.layers"]}
    streamed = prune_folder(folder, tmp_path / "small", **wish)
    plan = pomona.plan(model, data[0], sequential=True, **wish)
    assert all(torch.equal(streamed.plan.keep(site), plan.keep(site)) for site in plan.sites)
    head = streamed.load().lm_head.weight
    assert torch.equal(head, model.lm_head.weight * plan.keep("lm_head.weight"))


@pytest.mark.parametrize("method", ["magnitude", "magnitude_uniform"])
def test_methods_that_read_no_data_need_none(method, tmp_path):
    folder, model, data = folder_of("opt", tmp_path)
    streamed = prune_folder(folder, tmp_path / "small", method=method, structure="2:4")
    plan = pomona.plan(model, data[0], method=method, structure="2:4", sequential=True)
    assert all(torch.equal(streamed.plan.keep(site), plan.keep(site)) for site in plan.sites)


def test_bad_folders_are_refused_in_a_sentence(tmp_path):
    folder, _, data = folder_of("llama", tmp_path, max_shard_size="20kB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]

    def attempt(name):
        return prune_folder(folder, tmp_path / name, goal="sparsity=0.5", data=data)

    content = shard.read_bytes()
    shard.write_bytes(content[:-5])
    with pytest.raises(InputError, match="truncated"):
        attempt("a")
    shard.unlink()
    with pytest.raises(InputError, match=shard.name):
        attempt("b")
    shard.write_bytes(content)
    index = folder / "model.safetensors.index.json"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(InputError, match=r"\(48, 32\) in the files and \(64, 32\) in the model"):
        attempt("c")
    shutil.rmtree(folder)
    with pytest.raises(InputError):
        attempt("d")
    assert not index.exists() and [path.name for path in tmp_path.iterdir()] == []


RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
import deadly
import test_streaming as t
t.attempt(t.Path(sys.argv[3]), "out", deadly.Deadly())
"""


class Killed(BaseException):
    """Nothing catches it."""


def stab():
    raise Killed


@dataclass(frozen=True)
class Shrinking:
    """Makes survivors smaller by their input norms, so that weights are not what the files held."""

    needs = (InputNorm(),)

    def solve(self, view, proposal):
        shrunk = {view.site.name: view.tensors[view.site.name] * 0.7 * proposal}
        return Decision(proposal, shrunk, notes=("Survivors were shrunk.",))


def attempt(path, out, progress=None, **wish):
    recipe, data = wanda.but(solver=Shrinking()), language.model("llama")[1]
    wish = {"goal": "sparsity=0.5", "data": data, "checkpoint": path / "work", "progress": progress} | wish
    return prune_folder(path / "dense", path / out, method=recipe, **wish)


def test_an_interrupted_run_goes_on_and_ends_bit_identical(tmp_path):
    folder_of("llama", tmp_path, torch.bfloat16)
    with pytest.raises(Killed):
        attempt(tmp_path, "out", Deadly(stab))
    goes_on(tmp_path)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_bit_identical(tmp_path):
    folder_of("llama", tmp_path, torch.bfloat16)
    here = Path(__file__).parent
    command = [sys.executable, "-c", RUN, str(here.parent), str(here), str(tmp_path)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    goes_on(tmp_path)


def goes_on(path):
    assert not (path / "out").exists()
    done = {file: file.stat().st_mtime_ns for file in (path / "work").glob("model.layers.[01].safetensors")}
    assert len(done) == 2
    with pytest.raises(InputError, match="another seed"):
        attempt(path, "other", seed=1)
    assert done == {file: file.stat().st_mtime_ns for file in done}
    resumed, whole = attempt(path, "out"), attempt(path, "whole", checkpoint=None)
    files = sorted(file.name for file in whole.folder.glob("model*"))
    assert files == sorted(file.name for file in resumed.folder.glob("model*"))
    assert all((whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes() for name in files)
    assert whole.report.notes == resumed.report.notes == ["Survivors were shrunk."]
    assert resumed.report.blocks == whole.report.blocks and not list((path / "work").glob("*.safetensors"))
    assert {file.name for file in path.iterdir()} == {"dense", "work", "out", "whole"}
