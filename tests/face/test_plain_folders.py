"""What a config can say opens with plain `from_pretrained`, and answers as the pruned model does."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import pomona
from pomona.cli.app import run
from pomona.face.saving import notes_of
from pomona.models import load_model
from pomona.runtime.packing import weight_files
from pomona.vocabulary import Decision, Limits

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def made(kind, **more):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **more})
    model = getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")(config).eval()
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=g))
    ids = torch.randint(1, 48, (2, 12), generator=g)
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}


def pruned(model, inputs, **wish):
    return pomona.prune(model, (), inputs, method="magnitude-uniform", latency=False, **wish)


def opens(result, folder, inputs):
    plain = type(result.model).from_pretrained(folder, dtype=torch.float32).eval()
    assert plain.config.architectures == [type(result.model).__name__]  # by which other readers choose the class
    with torch.no_grad():
        ours, theirs, loaded = (m(**inputs)[0] for m in (result.model, plain, pomona.load(folder)))
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, loaded)
    return plain


def test_tied_weights_have_the_names_that_transformers_gives_them(tmp_path):
    """Other readers take the embedding for the head, and look for it by its own name."""
    model, inputs = made("Llama", tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "theirs")
    folder = pruned(model, inputs, structure="weights", goal="sparsity=0.5").save(tmp_path / "ours")
    ours, theirs = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "theirs"))
    assert ours.keys() == theirs.keys()
    assert "model.embed_tokens.weight" in ours


@pytest.mark.parametrize(
    ("kind", "more", "wish"),
    [
        ("Qwen3", {"head_dim": 16}, {"structure": "layers", "goal": "layers=0.5"}),
        ("Qwen2", {}, {"structure": "heads", "goal": "heads=0.5"}),
        ("Qwen2", {}, {"structure": "width", "goal": "width=0.75"}),
        ("Mixtral", {"num_local_experts": 4, "num_hidden_layers": 2}, {"structure": "kv-groups", "goal": "kv-groups=0.5"}),
        ("Mixtral", {"num_local_experts": 4, "num_hidden_layers": 2}, {"structure": "experts", "goal": "experts=0.5"}),
    ],
)
def test_a_uniform_model_opens_by_its_rewritten_config(tmp_path, kind, more, wish):
    """Widths of heads that the config divided out until now, and layers that lists of the config count as well."""
    model, inputs = made(kind, **more)
    result = pruned(model, inputs, **wish)
    opens(result, result.save(tmp_path / "out"), inputs)


def test_each_layer_that_stays_keeps_its_kind_of_attention(tmp_path):
    """Sliding and full attention by turns; two layers leave, and the config's list loses just these."""
    turns = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    model, inputs = made("Qwen2", use_sliding_window=True, sliding_window=4, layer_types=turns, max_window_layers=0)
    result = pruned(model, inputs, structure="layers", goal="layers=0.5")
    stays = [int(name.rpartition(".")[2]) for site in result.plan.sites.values() for name in site.blocks]
    kept = [n for n, lives in zip(stays, next(iter(result.plan.decisions.values())).keep.tolist(), strict=True) if lives]
    plain = opens(result, result.save(tmp_path / "out"), inputs)
    assert plain.config.num_hidden_layers == 2
    assert plain.config.layer_types == [turns[n] for n in kept]


def test_zeros_in_files_of_a_chosen_size_open_without_pomona_and_tied_weights_stay_tied(tmp_path):
    model, inputs = made("Llama", tie_word_embeddings=True)
    result = pruned(model, inputs, structure="weights", goal="sparsity=0.5")
    folder = result.save(tmp_path / "out", largest=20_000)
    assert len(weight_files(folder)) > 2
    plain = opens(result, folder, inputs)
    assert plain.lm_head.weight is plain.model.embed_tokens.weight
    assert float((plain.model.layers[0].mlp.up_proj.weight == 0).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_what_no_config_can_say_is_saved_without_one_and_opens_with_pomona(tmp_path):
    """Rotary frequencies and the scale of attention follow from the width of a head."""
    model, inputs = made("Llama", num_hidden_layers=2)
    result = pruned(model, inputs, structure="head-dims", goal="head-dims=0.5")
    folder = result.save(tmp_path / "out")
    assert not (folder / "config.json").exists()
    with torch.no_grad():
        assert torch.equal(pomona.load(folder)(**inputs)[0], result.model(**inputs)[0])


def test_the_tokenizer_of_a_folder_comes_along(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    model, inputs = made("Llama", num_hidden_layers=2)
    model.save_pretrained(tmp_path / "dense")
    words = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a"))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=words, chat_template="{{ messages }}")
    theirs.save_pretrained(tmp_path / "dense")
    loaded = load_model(str(tmp_path / "dense"))
    result = pruned(loaded.model, inputs, structure="weights", goal="sparsity=0.5", source=loaded.source)
    saved = transformers.AutoTokenizer.from_pretrained(result.save(tmp_path / "out"))
    assert saved.chat_template == "{{ messages }}"
    assert saved.get_vocab() == {"a": 0, "b": 1}


def test_heads_and_width_that_leave_together_fit_a_config_that_divides_one_by_the_other(tmp_path):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=48, n_embd=32, n_layer=2, n_head=4, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    model, inputs = transformers.GPT2LMHeadModel(config).eval(), {"input_ids": torch.arange(12)[None], "use_cache": False}
    both, alone = (pruned(model, inputs, goal=goal) for goal in ("heads=0.5,width=0.5", "heads=0.5"))
    opens(both, both.save(tmp_path / "both"), inputs)
    assert not (alone.save(tmp_path / "alone") / "config.json").exists()


def test_widths_come_in_the_multiples_that_a_config_checks_and_others_are_saved_without_one(tmp_path):
    model, inputs = made("Llama", num_hidden_layers=2)
    result = pruned(model, inputs, structure="width", goal="width=0.7")
    plain = opens(result, result.save(tmp_path / "out"), inputs)
    assert plain.config.hidden_size == 20  # of 32, with four heads
    ((name, decision),) = result.plan.decisions.items()
    keep = decision.keep.clone()
    keep[(~keep).nonzero()[:3]] = True
    odd = pomona.replay(model, replace(result.plan, decisions={name: Decision(keep)}), (), inputs, latency=False)
    folder = odd.save(tmp_path / "odd")
    assert odd.model.config.hidden_size == 23 and not (folder / "config.json").exists()
    assert torch.equal(pomona.load(folder)(**inputs)[0], odd.model(**inputs)[0])


def test_a_folder_that_plain_from_pretrained_cannot_open_says_how_it_opens(tmp_path):
    model, inputs = made("Llama")
    uneven = pruned(model, inputs, goal="params=0.7x", structure="neurons", limits=Limits({"model.layers.0.*": 1.0}))
    uneven.save(tmp_path / "uneven")
    assert not (tmp_path / "uneven" / "config.json").exists()
    (note,) = set(notes_of(tmp_path / "uneven")) - set(uneven.report.notes)
    assert "no config.json can say the sizes" in note and f"pomona.load('{tmp_path / 'uneven'}')" in note
    assert "pomona.load(" in (tmp_path / "uneven" / "report.html").read_text()
    even = pruned(model, inputs, goal="neurons=0.5")
    even.save(tmp_path / "even")
    assert notes_of(tmp_path / "even") == even.report.notes


def test_the_command_line_says_how_such_a_folder_opens(tmp_path, capsys):
    made("Llama")[0].save_pretrained(tmp_path / "dense")
    wish = ["--goal", "params=0.7x", "--structure", "neurons", "--min", "model.layers.0.*=1", "--no-latency"]
    assert run(["prune", str(tmp_path / "dense"), *wish, "-o", str(tmp_path / "out"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "use pomona.load(" in err and any("pomona.load(" in note for note in json.loads(out)["notes"])
