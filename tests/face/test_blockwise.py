"""When `prune` goes block by block, and what it then says."""

import pytest
import torch

import language
import pomona
from pomona.recipes.magnitude import magnitude_iterative
from pomona.vocabulary import InputError, Silent


class Notes(Silent):
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)


def pruned(name="llama", method="wanda", **wish):
    model, data = language.model(name)
    return pomona.prune(model, data[0], method=method, goal=wish.pop("goal", "sparsity=0.5"), data=data, latency=False, **wish)


def test_a_method_that_reads_activations_goes_through_the_blocks_and_leaves_the_rest_whole():
    result = pruned(progress=(notes := Notes()))
    assert result.report.proof.passed and result.form == "masked"
    assert any("block by block, the 3 blocks of model.layers" in text for text in notes.told)
    for name, parameter in result.model.named_parameters():
        inside = "proj" in name
        assert float((parameter == 0).float().mean()) == pytest.approx(0.5 if inside else 0, abs=1e-6), name
    assert len(result.plan.provenance["blocks"]) == 3 and all(0 < e < 1 for e in result.plan.provenance["blocks"].values())


def test_at_once_when_asked_and_for_methods_that_read_nothing():
    dense = pruned(sequential=False)
    assert "lm_head.weight" in dense.plan.sites and "blocks" not in dense.plan.provenance
    assert "blocks" not in pruned(method="magnitude").plan.provenance
    assert "blocks" in pruned(method="magnitude", sequential=True).plan.provenance


def test_blocks_can_be_named():
    plan = pruned("t5", blocks=["decoder.block"]).plan
    assert plan.sites and all(name.startswith("decoder.block.") for name in plan.sites)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"blocks": ["model.layer"]}, r"no module 'model\.layer'; did you mean model\.layers"),
        ({"blocks": ["lm_head"]}, "no list of blocks"),
        ({"blocks": ["model.layers"], "sequential": False}, "leave one of them out"),
        ({"method": magnitude_iterative, "sequential": True}, "it cuts more than once"),
        ({"structure": "layers", "method": "shortgpt", "sequential": True, "goal": "params=0.8x"}, "beyond one block"),
    ],
)
def test_what_cannot_go_block_by_block_is_refused(wish, said):
    with pytest.raises(InputError, match=said):
        pruned(**wish)


def test_a_model_without_blocks_is_pruned_at_once_or_refused():
    model, x = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)), torch.randn(4, 8)
    wish = {"method": "wanda", "goal": "sparsity=0.5", "data": [x], "latency": False}
    assert pomona.prune(model, x, **wish).report.proof.passed
    with pytest.raises(InputError, match=r"no list of blocks.*--blocks"):
        pomona.prune(model, x, sequential=True, **wish)


def test_pruned_models_are_saved_and_opened(tmp_path):
    result = pruned("bert")
    result.save(tmp_path / "small")
    opened = pomona.load(tmp_path / "small")
    assert all(torch.equal(a, b) for a, b in zip(opened.parameters(), result.model.parameters(), strict=True))
