"""What plain `from_pretrained` opens: tiny models of many families, pruned by every structure, opened by a Python without Pomona.

    python -m benchmarks.opens            # writes docs/results/opens.md; ARGS: names of families, to try some without writing

Each model is pruned, proven and saved; then one other process, in which `import pomona` fails, opens all folders that have a
config with `from_pretrained` and answers the same inputs. A folder without a config must open with `pomona.load`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import nn

import pomona

PAGE = Path(__file__).parents[1] / "docs" / "results" / "opens.md"

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SHARED = {**SIZES, "num_key_value_heads": 2}
CHOSEN = {"num_experts_per_tok": 2}
FAMILIES = {
    "Llama": ("Llama", SHARED),
    "Mistral": ("Mistral", SHARED),
    "Qwen2": ("Qwen2", SHARED),
    "Qwen3": ("Qwen3", {**SHARED, "head_dim": 8}),
    "Gemma3": ("Gemma3", {**SHARED, "head_dim": 8, "sliding_window": 4}),
    "Phi3": ("Phi3", SHARED),
    "GPTNeoX": ("GPTNeoX", SIZES),
    "GPT2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 64, "eos_token_id": 2}),
    "OPT": ("OPT", {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "BERT": ("Bert", SIZES),
    "Mixtral": ("Mixtral", {**SHARED, **CHOSEN, "num_local_experts": 4}),
    "Qwen3Moe": ("Qwen3Moe", {**SHARED, **CHOSEN, "head_dim": 8, "num_experts": 4, "moe_intermediate_size": 16}),
}
WISHES = {
    "zeros": {"structure": "weights", "goal": "sparsity=0.5"},
    "2:4": {"structure": "2:4"},
    "layers": {"goal": "layers=0.5"},
    "neurons": {"goal": "neurons=0.5"},
    "neurons, unequal": {"structure": "neurons", "goal": "*.0.*=0.75,neurons=0.5"},
    "heads": {"goal": "heads=0.5"},
    "kv-groups": {"goal": "kv-groups=0.5"},
    "experts": {"goal": "experts=0.5"},
    "width": {"goal": "width=0.75"},
}

TEXT = """# What plain transformers opens

Made by `python -m benchmarks.opens` with transformers {transformers}, torch {torch}: {cases} cases. A tiny model of each
family (two layers, four heads, random weights) is pruned to half (to three quarters of its width), proven and saved; a second
process in which `import pomona` fails opens the folder with `from_pretrained` and answers the same inputs. {plain} folders
opened so, without a missing, unexpected or mismatched tensor; {mine} have no config and were opened by `pomona.load`. All
that `pomona.load` opened, these and the plain ones, answered to the last bit.

- **exact**: the same logits to the last bit; a number is the largest difference over the largest logit.
- **pomona**: no config of the family can say these sizes; `pomona.load` opens the folder.
- **·**: refused, since the family has nothing of the kind to prune, or not this much of it.

*zeros* are half of the weights of every layer; *neurons, unequal* leaves three quarters of the neurons of the first layer and
half of the second's; *heads* that share keys and values leave these whole, *kv-groups* go with their heads.

{table}
"""

OPENER = """
import json, sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pomona":
            raise ImportError("there is no pomona here")
sys.meta_path.insert(0, Without())
try:
    import pomona
except ImportError:
    pass
else:
    sys.exit("pomona can be imported")
import torch, transformers
from safetensors.torch import load_file
told = {}
for folder in json.load(sys.stdin):
    given = load_file(folder + ".safetensors")
    wanted = given.pop("wanted")
    try:
        kind = getattr(transformers, transformers.AutoConfig.from_pretrained(folder).architectures[0])
        model, info = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        with torch.no_grad():
            found = model.eval()(**given)[0]
        strange = sorted(info["missing_keys"]) + sorted(info["unexpected_keys"]) + sorted(map(str, info["mismatched_keys"]))
        told[folder] = {"strange": strange, "error": float((found - wanted).abs().max() / wanted.abs().max())}
    except Exception as error:
        told[folder] = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
json.dump(told, sys.stdout)
"""


@dataclass
class Case:
    """One family pruned in one way: `state` is "refused" (and why), "own" (no config can say it) or "plain"."""

    family: str
    wish: str
    state: str
    why: str = ""
    folder: str = ""


def model_of(kind: str, sizes: dict[str, int]) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A tiny model with weights that are not all alike, and inputs."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{'Gemma3Text' if kind == 'Gemma3' else kind}Config")(**sizes)
    names = (f"{kind}ForCausalLM", f"{kind}LMHeadModel", f"{kind}ForMaskedLM")
    name = next(n for n in (names if kind != "Bert" else names[2:]) if hasattr(transformers, n))
    model = getattr(transformers, name)(config).eval()
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=g))
    ids = torch.randint(3, 64, (2, 12), generator=g)
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def cases(home: Path, families: Sequence[str]) -> Iterator[Case]:
    """Everything pruned and saved under `home`, with what the pruned model answers beside each folder."""
    for family in families:
        model, inputs = model_of(*FAMILIES[family])
        for number, (name, wish) in enumerate(WISHES.items()):
            folder = home / f"{family}-{number}"
            try:
                result = pomona.prune(model, (), inputs, **{"method": "magnitude-uniform", "latency": False, **wish})
            except pomona.InputError as error:
                yield Case(family, name, "refused", str(error))
                continue
            result.save(folder)
            with torch.no_grad():
                wanted = result.model(**inputs)[0]
                again = pomona.load(folder)(**inputs)
            assert torch.equal(again[0], wanted), folder
            save_file({**inputs, "wanted": wanted.contiguous()}, f"{folder}.safetensors")
            yield Case(family, name, "plain" if (folder / "config.json").is_file() else "own", folder=str(folder))


def judged(found: Sequence[Case]) -> dict[tuple[str, str], str]:
    """A word for each case; raises RuntimeError where a folder with a config does not open, or answers otherwise."""
    folders = [case.folder for case in found if case.state == "plain"]
    ran = subprocess.run([sys.executable, "-c", OPENER], input=json.dumps(folders), capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    told = json.loads(ran.stdout)
    words = {}
    for case in found:
        if case.state != "plain":
            words[case.family, case.wish] = {"refused": "·", "own": "pomona"}[case.state]
            continue
        seen = told[case.folder]
        if "failed" in seen or seen["strange"] or seen["error"] > 1e-5:
            raise RuntimeError(f"{case.family}, {case.wish}: {seen}")
        words[case.family, case.wish] = "exact" if seen["error"] == 0 else f"{seen['error']:.0e}"
    return words


def page(families: Sequence[str], words: dict[tuple[str, str], str]) -> str:
    """The page as Markdown."""
    head = "| family | " + " | ".join(WISHES) + " |\n|" + " --- |" * (len(WISHES) + 1)
    rows = [f"| {family} | " + " | ".join(words[family, wish] for wish in WISHES) + " |" for family in families]
    plain = sum(word not in ("·", "pomona") for word in words.values())
    mine = sum(word == "pomona" for word in words.values())
    return TEXT.format(
        transformers=transformers.__version__,
        torch=torch.__version__,
        cases=len(words),
        plain=plain,
        mine=mine,
        table="\n".join([head, *rows]),
    )


def main(families: Sequence[str]) -> None:
    """Try these families, or all and write the page."""
    with tempfile.TemporaryDirectory() as home:
        found = []
        for case in cases(Path(home), families or list(FAMILIES)):
            print(f"{case.family:10} {case.wish:18} {case.state} {case.why[:160]}", file=sys.stderr, flush=True)
            found.append(case)
        made = page(families or list(FAMILIES), judged(found))
    if families:
        print(made)
    else:
        PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
