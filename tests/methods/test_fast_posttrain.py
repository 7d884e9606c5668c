"""Mask search, rearrangement and tuning (Kwon et al., 2022)."""

from functools import cache
from itertools import product

import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

import experts
import language
import pomona
import zoo
from budgets import counts, flat, scored, wish
from pomona.allocations.two_prices import TwoPrices
from pomona.collect import collect
from pomona.probes.loss_gradient import PerExampleGradient
from pomona.probes.sublayer import sublayer
from pomona.recipes.encoders import fast_posttrain
from pomona.recovery.text import parse
from pomona.recovery.tune_masks import TuneMasks
from pomona.solvers.rearrange import rearranged
from pomona.statistics.gate_rows import GateRows
from pomona.statistics.squared_taylor import SquaredTaylor
from pomona.vocabulary import Batch, InputError, Training


def test_one_head_and_all_neurons_are_worth_more_than_two_heads():
    sites = flat(heads=3, neurons=11)
    values = scored(heads=[[5.0, 4.0, 1.0]], neurons=[[0.6] * 11])
    cost = {"heads": 10.0, "neurons": 1.0}
    budget = wish(sites, 21 / 41, cost)  # a neuron stays whatever it is worth: the card's budget of 20 and that one
    assert counts(TwoPrices().allocate(sites, values, budget)) == [1, 11]


@pytest.mark.parametrize("seed", range(12))
def test_the_search_finds_what_trying_everything_finds(seed):
    g = torch.Generator().manual_seed(seed)
    sites = flat(a=3, b=3, c=6, d=5)
    values = scored(**{name: torch.rand(1, site.units, generator=g) * (3 if name in "ab" else 1) for name, site in sites.items()})
    budget = wish(sites, 0.35 + 0.04 * seed, {"a": 4.0, "b": 4.0, "c": 1.0, "d": 1.0})

    def worth(keeps):
        return sum(
            float(v.value.flatten().sort(descending=True).values[:k].sum()) for v, k in zip(values.values(), keeps, strict=True)
        )

    every = product(*(range(1, site.units + 1) for site in sites.values()))
    best = max(
        worth(k) for k in every if budget.price({n: torch.tensor(c) for n, c in zip(sites, k, strict=True)}) <= budget.limit
    )
    assert worth(counts(TwoPrices().allocate(sites, values, budget))) == pytest.approx(best)


def test_those_whose_gradients_cancel_leave_together():
    rows = torch.tensor([[1.0, 1.1, -1.2], [0.0, 0.0, 0.0]])
    keep = rearranged(rows, torch.tensor([False, False, True]), torch.ones(3, dtype=torch.bool))
    assert keep.tolist() == [True, False, False]  # |1.1 - 1.2|^2 = .01 where the diagonal left 4.41


@pytest.mark.parametrize("seed", range(5))
def test_rearranging_keeps_counts_and_the_dead_and_never_costs_more(seed):
    g = torch.Generator().manual_seed(seed)
    rows, alive = torch.randn(6, 20, generator=g).double(), torch.rand(20, generator=g) < 0.9
    keep = alive & (torch.rand(20, generator=g) < 0.6)
    found = rearranged(rows, keep, alive)
    assert found.sum() == keep.sum() and not (found & ~alive).any()
    before, after = (rows[:, alive & ~k].sum(1).square().sum() for k in (keep, found))
    assert after < before


def test_a_row_is_the_gradient_of_gates_on_heads_and_their_squares_are_what_taylor_sees():
    model, data = classifier(), texts(1, seed=3)
    site = next(s for s in fast_posttrain.structure.sites(pomona.trace(model, data[0])) if s.axis.family == "head")
    gates = torch.ones(4, requires_grad=True)

    def gate(module, args):
        return ((args[0].unflatten(-1, (4, 8)) * gates[:, None]).flatten(-2),)

    handle = model.bert.encoder.layer[0].attention.output.dense.register_forward_pre_hook(gate)
    (expected,) = torch.autograd.grad(model(**data[0]).loss, gates)
    handle.remove()
    needs = [GateRows(), SquaredTaylor(roles=("in",))]
    stats = collect(model, [site], needs, data)[site.name]
    assert_close(stats[GateRows()][0].float(), expected, rtol=1e-4, atol=1e-7)
    assert_close(stats[needs[1]], stats[GateRows()].square().mean(0))


def test_rows_merge_into_rows_and_there_is_one_a_pass():
    model, data = classifier(), texts(2, seed=3)
    site = fast_posttrain.structure.sites(pomona.trace(model, data[0]))[0]
    by_batch, by_example = GateRows(), GateRows(PerExampleGradient())
    stats = collect(model, [site], [by_batch, by_example], data)[site.name]
    assert stats[by_batch].shape == (2, site.units) and stats[by_example].shape == (16, site.units)
    assert_close(stats[by_example].view(2, 8, -1).mean(1), stats[by_batch])  # the loss is a mean over examples
    halves = [collect(model, [site], [by_batch], [batch])[site.name][by_batch] for batch in data]
    assert_close(by_batch.merge({"rows": halves[0]}, {"rows": halves[1]})["rows"], stats[by_batch])


class Residual(nn.Module):
    """Two sub-layers of neurons, with what passes by."""

    def __init__(self, hidden=6):
        super().__init__()
        self.up, self.down = nn.Linear(4, hidden), nn.Linear(hidden, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(x + self.down(torch.relu(self.up(x))))


def tuned(model, teacher, x, **settings):
    return TuneMasks(**settings).recover(model, Training([x], None, lambda m: None, teacher))


def test_what_is_seen_of_a_sublayer_is_its_input_and_its_output_with_the_residual():
    torch.manual_seed(0)
    model, x = Residual().eval(), torch.randn(5, 4)
    read, made = sublayer(model, Batch((x,)), "down.weight")
    assert_close(read, torch.relu(model.up(x)))
    assert_close(made, x + model.down(read))
    assert_close(sublayer(model, Batch((x,)), "head.weight")[1], model(x))


@pytest.mark.parametrize("name", ["bert", "opt", "llama", "gpt2"])
def test_in_transformers_the_residual_is_in(name):
    model, data = language.model(name)
    weight = next(
        n
        for n, p in model.named_parameters()
        if n.endswith(("o_proj.weight", "out_proj.weight", "attn.c_proj.weight", "attention.output.dense.weight"))
    )
    module, seen = model.get_submodule(weight.removesuffix(".weight")), []
    handle = module.register_forward_hook(lambda _, __, out: seen.append(out))
    made = sublayer(model, Batch(kwargs=data[0]), weight)[1]
    handle.remove()
    assert made.shape == seen[0].shape and not torch.allclose(made, seen[0])


def test_the_twin_of_a_neuron_that_left_counts_twice():
    torch.manual_seed(0)
    teacher, x = Residual().eval(), torch.randn(50, 4)
    with torch.no_grad():
        teacher.up.weight[3], teacher.up.bias[3] = teacher.up.weight[1], teacher.up.bias[1]
        teacher.down.weight[:, 3] = teacher.down.weight[:, 1]
    model, rest = Residual(5).eval(), [0, 1, 2, 4, 5]
    with torch.no_grad():
        model.load_state_dict(
            teacher.state_dict()
            | {
                "up.weight": teacher.up.weight[rest],
                "up.bias": teacher.up.bias[rest],
                "down.weight": teacher.down.weight[:, rest],
            }
        )
        before = model.down.weight.clone()
        assert tuned(model, teacher, x, ridge=1e-9) == {"tuned": 1}
    assert_close(model.down.weight / before, torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0]).expand(4, 5), rtol=1e-4, atol=1e-4)
    assert_close(model(x), teacher(x), rtol=1e-4, atol=1e-4)


def test_only_so_many_batches_are_read_and_the_residual_of_a_vision_transformer_is_seen():
    model, (x,) = zoo.vit()
    read = []

    class Stream(list):
        def __iter__(self):
            for batch in super().__iter__():
                read.append(batch)
                yield batch

    history = parse("tunemasks:calibrate=2").recover(model, Training(Stream([x] * 5), None, lambda m: None, zoo.vit()[0]))
    assert history == {"tuned": 4} and len(read) == 1 + 2 * 4
    block = model.blocks[0]
    entering = model.patch(x).flatten(2).transpose(1, 2)
    entering = torch.cat([model.cls.expand(len(x), -1, -1), entering], 1) + model.pos
    assert_close(sublayer(model, Batch((x,)), "blocks.0.proj.weight")[1], entering + block.attend(block.norm1(entering)))
    with pytest.raises(InputError, match="at least one batch"):
        TuneMasks(calibrate=0)


def test_where_nothing_was_pruned_every_factor_is_one():
    model, data = language.model("bert")
    before = {name: p.clone() for name, p in model.named_parameters()}
    history = TuneMasks().recover(model, Training(data, None, lambda m: None, language.model("bert")[0]))
    assert history == {"tuned": 6}
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_stacks_of_experts_are_left_alone():
    model, data = experts.mixtral(), [{"input_ids": language.ids()}]
    told = TuneMasks().recover(model, Training(data, None, lambda m: None, experts.mixtral()))
    assert told == {"tuned": len(model.model.layers)}  # those that read heads


def test_a_fit_that_means_nothing_ends_the_tuning_and_changes_no_weight():
    torch.manual_seed(0)
    model, teacher, x = Residual().eval(), Residual().eval(), torch.randn(50, 4)
    before = model.down.weight.clone()
    with torch.no_grad():
        teacher.down.weight *= 100
    assert tuned(model, teacher, x) == {"tuned": 0, "stopped": "down.weight"}
    assert torch.equal(model.down.weight, before)
    with pytest.raises(InputError, match="no teacher"):
        TuneMasks().recover(model, Training([x], None, lambda m: None))
    with pytest.raises(InputError, match="no heads or neurons"):
        TuneMasks().recover(nn.Sequential(nn.Linear(4, 2)), Training([x], None, lambda m: None, teacher))


def texts(batches, seed, rows=8):
    """Which of three words comes most often."""
    g = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(batches):
        labels = torch.arange(rows) % 3
        often = torch.rand(rows, 11, generator=g) < 0.6
        words = torch.where(often, labels[:, None] + 10, torch.randint(10, 40, (rows, 11), generator=g))
        ids = torch.cat([torch.ones(rows, 1, dtype=torch.int64), words], 1)
        made.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return made


@cache
def classifier(steps=0):
    torch.manual_seed(0)
    width = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": 64}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**width, num_labels=3, max_position_embeddings=32))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for batch in texts(steps, seed=1):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def error(model, batches):
    return float(torch.stack([cross_entropy(model(**{**b, "labels": None}).logits, b["labels"]) for b in batches]).mean())


@pytest.mark.slow
def test_tuned_masks_lose_less_than_searched_ones_and_those_less_than_chance():
    model, data, test = classifier(300), texts(24, seed=2), texts(12, seed=9)
    losses = {}
    for name, recipe in {
        "tuned": fast_posttrain,
        "searched": fast_posttrain.but(solver=None, recovery=None),
        "chance": pomona.methods()["random"].but(structure=fast_posttrain.structure),
    }.items():
        result = pomona.prune(model, data[0], method=recipe, goal="macs=0.4x", data=data, latency=False)
        assert result.report.proof.passed and result.report.macs["after"] <= 0.4 * result.report.macs["before"]
        losses[name] = error(result.model, test)
    assert losses["tuned"] < losses["searched"] < losses["chance"] / 3
