"""Layer by layer within a block, in one pass: a layer reads what the pruned ones before it give, and nothing is left behind."""

import threading
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

import pomona
from blocky import blocky
from pomona.engines import sequential
from pomona.engines.capture import Calls
from pomona.engines.shell import Shell
from pomona.engines.sweep import Room, Turn
from pomona.probes.tapping import groups
from pomona.vocabulary import Batch, InputError
from stepwise import LISTS, ground_of, norms_of


def layerwise(name, method="wanda", **wish):
    model, batches, found, ground = ground_of(name, method, **wish)
    return model, batches, found, replace(ground, layerwise=True)


def by_hand(model, batches, found, ground):
    """Wanda weight after weight, in the order in which they are read: the whole model, cut so far, runs for each."""
    model, masks = deepcopy(model), {}
    inside = [s for chain in found for block in chain.blocks for s in ground.sites if s.name.startswith(f"{block}.")]
    for site in inside:
        weight, squares = model.get_parameter(site.name), norms_of(model, [site.name], batches)[site.name]
        turned = weight.T if site.weight.in_dim == 0 else weight
        score = turned.abs() * squares.sqrt().float()
        worst = score.argsort(dim=1, stable=True)[:, : score.shape[1] // 2]
        keep = torch.ones_like(score, dtype=torch.bool).scatter_(1, worst, False)
        masks[site.name] = keep.T if site.weight.in_dim == 0 else keep
        with torch.no_grad():
            weight.mul_(masks[site.name])
    return masks


@pytest.mark.parametrize("name", LISTS)
def test_every_layer_is_judged_by_what_the_cut_layers_before_it_give(name):
    model, batches, found, ground = layerwise(name)
    plan, masks = sequential.run(model, ground, found, batches=batches).plan, by_hand(model, batches, found, ground)
    assert all(torch.equal(plan.keep(site), keep) for site, keep in masks.items())
    by_blocks = sequential.run(model, replace(ground, layerwise=False), found, batches=batches).plan
    assert any(not torch.equal(by_blocks.keep(site), keep) for site, keep in masks.items())


def bits(model, ground, found, batches, **wish):
    return list(sequential.run(model, ground, found, batches=batches, **wish).model.parameters())


def same(ones, others):
    return all(torch.equal(a, b) for a, b in zip(ones, others, strict=True))


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_calls_that_wait_and_calls_that_are_run_anew_give_the_same_bits(method, tmp_path, monkeypatch):
    model, batches, found, ground = layerwise("llama", method)
    waiting, anew = (bits(model, ground, found, batches, room=room) for room in (None, Room(3000, tmp_path)))
    monkeypatch.setattr(Turn, "holds", lambda self, steps: 1)
    assert same(waiting, anew) and same(waiting, bits(model, ground, found, batches))


@pytest.mark.parametrize("name", LISTS)
def test_beside_the_dense_model_calls_that_wait_give_the_bits_of_calls_that_are_run_anew(name, monkeypatch):
    model, batches, found, ground = ground_of(name, "sparsegpt-asymmetric")
    held, hold = [], Turn.holds
    monkeypatch.setattr(Turn, "holds", lambda self, steps: held.append(most := hold(self, steps)) or most)
    waiting = bits(model, ground, found, batches)
    assert len(held) == sum(len(chain.blocks) for chain in found) and min(held) >= len(batches)
    for most in (0, 1):
        monkeypatch.setattr(Turn, "holds", lambda self, steps, most=most: most)
        assert same(waiting, bits(model, ground, found, batches))
    monkeypatch.setattr("pomona.engines.sequential._paused", lambda turn, steps: nullcontext())  # as where no sum is found
    assert same(waiting, bits(model, ground, found, batches))


def test_how_many_calls_wait_is_told_by_what_memory_there_is(monkeypatch):
    model, batches, found, ground = ground_of("llama", "sparsegpt-asymmetric")
    told, hold = [], Turn.holds
    monkeypatch.setattr(Turn, "holds", lambda self, steps: told.append(most := hold(self, steps)) or most)
    rows = batches[0].kwargs["input_ids"].numel()
    most_of_all = rows * 4 * 32 * 40  # far above what a call of this width can hold
    for there, least, most in ((1000, 0, 0), (2 * most_of_all, 1, 50), (200 * most_of_all, 100, 5000)):
        told.clear()
        monkeypatch.setattr("pomona.engines.sweep.available", lambda there=there: there)
        sequential.run(model, ground, found, batches=batches)
        assert told and all(least <= number <= most for number in told)


class Parallel(nn.Module):
    """What its two branches give is added up before the stream is."""

    def __init__(self):
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        y = self.norm(x)
        return x + (self.one(y) + self.two(y.relu()))


def taps_of(block, call):
    names = [name for name, _ in block.named_parameters() if name.endswith("weight") and "norm" not in name]
    found = {name: tap for step in groups(block, call, names) for name, tap in step.items()}
    return {name.split(".")[-2]: (tap.base, tap.stream) for name, tap in found.items()}


def test_the_stream_is_found_as_a_sum_of_what_was_heard_or_else_by_what_moves():
    model, batches, *_ = ground_of("llama", "wanda")
    block, norm = "model.layers.0", "model.layers.0.post_attention_layernorm"
    taps = taps_of(Shell(block, model.get_submodule(block)), next(iter(Calls(model, block, batches))))
    assert {name: ends for name, ends in taps.items() if ends != (None, None)} == {"o_proj": ("", norm), "down_proj": (norm, "")}
    torch.manual_seed(0)
    parallel = taps_of(Parallel(), Batch((torch.randn(3, 8),)))
    assert parallel == {"one": (None, ""), "two": (None, "")}


def test_a_stream_that_is_no_sum_of_what_was_heard_is_compared_by_running_the_block_anew():
    torch.manual_seed(0)
    model, x = Listed(Parallel), torch.randn(16, 8)
    plan = pomona.plan(model, x, data=[x], method="sparsegpt-asymmetric", goal="sparsity=0.5")
    assert plan.removes and all(decision.tensors for decision in plan.decisions.values())


class Bare(nn.Module):
    """No norms: what a layer reads is the stream itself."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        x = x + self.one(x)
        return x + self.two(x)


def test_a_layer_that_reads_the_stream_it_adds_to_is_compared_as_when_run_anew(monkeypatch):
    torch.manual_seed(0)
    model, x = Listed(Bare), torch.randn(64, 8)
    assert taps_of(Bare(), Batch((x,))) == {"one": ("", "two"), "two": ("two", "")}
    wish = {"data": [x, x + 1], "method": "sparsegpt-asymmetric", "goal": "sparsity=0.5"}
    waiting = pomona.plan(model, x, **wish)
    monkeypatch.setattr(Turn, "holds", lambda self, steps: 0)
    anew = pomona.plan(model, x, **wish)
    for site, decision in waiting.decisions.items():
        assert all(torch.equal(value, anew.decisions[site].tensors[name]) for name, value in decision.tensors.items())
        assert torch.equal(waiting.keep(site), anew.keep(site)) and decision.tensors


class Counting(nn.Linear):
    """Gives whole numbers as well, before its product."""

    def forward(self, x):
        return torch.zeros(3, dtype=torch.int64), super().forward(x)


class Noting(nn.Linear):
    """Is given more than it reads."""

    def forward(self, x, note):
        return note, super().forward(x)


def ending(kind, *more):
    """A block whose last layer is of this kind, and called with `more`."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), kind(8, 8)

        def forward(self, x):
            x = x + self.one(x)
            return x + self.two(x, *more)[1]

    return Block


def test_a_layer_that_gives_several_things_is_compared_by_the_first_floats_of_them(monkeypatch):
    torch.manual_seed(0)
    model, x = Listed(ending(Counting)), torch.randn(64, 8)
    wish = {"data": [x, x + 1], "method": "sparsegpt-asymmetric", "goal": "sparsity=0.5"}
    waiting = pomona.plan(model, x, **wish)
    monkeypatch.setattr(Turn, "holds", lambda self, steps: 0)
    anew = pomona.plan(model, x, **wish)
    assert same([d.tensors[s] for s, d in waiting.decisions.items()], [d.tensors[s] for s, d in anew.decisions.items()])
    assert not any("nothing can be compared" in note for note in waiting.provenance["notes"])


def test_a_layer_that_is_given_more_than_it_reads_is_solved_for_its_own_weight_and_that_is_said():
    torch.manual_seed(0)
    model, x = Listed(ending(Noting, 3)), torch.randn(64, 8)
    plan = pomona.plan(model, x, data=[x, x + 1], method="sparsegpt-asymmetric", goal="sparsity=0.5")
    told = [note for note in plan.provenance["notes"] if "nothing can be compared with the dense model" in note]
    assert len(told) == 1 and told[0].endswith("there: two.weight.")
    by_blocks, layerwise = (
        pomona.plan(model, x, data=[x], method="wanda", goal="sparsity=0.5", sequential=True, true_sequential=true)
        for true in (False, True)
    )
    assert any(not torch.equal(by_blocks.keep(site), layerwise.keep(site)) for site in by_blocks.sites)  # it can wait there


def test_a_block_runs_once_for_every_batch_but_the_first():
    model, batches, found, ground = layerwise("llama")
    calls = dict.fromkeys(("gate_proj", "down_proj"), 0)

    class Counted(nn.Linear):
        def forward(self, x):
            calls[self.name] += 1
            return super().forward(x)

    for block in model.model.layers:
        for name in calls:
            layer = getattr(block.mlp, name)
            layer.__class__, layer.name = Counted, name
    many = [*batches] * 5
    sequential.run(model, ground, found, batches=many)
    # The first batch: to see how far its output moves, what can be read, and the order of layers.
    blocks, once_more = len(model.model.layers), 3
    assert calls == dict.fromkeys(calls, blocks * (len(many) + once_more))


def test_nothing_is_left_of_hooks_and_threads_even_after_an_error():
    model, batches, found, ground = layerwise("llama")
    before = threading.active_count()
    handles = []

    def spoil(module, args):
        if torch.is_tensor(args[0]) and len(args[0]) == 1:
            raise RuntimeError("spoilt")

    odd = replace(batches[0], kwargs={name: value[:1] for name, value in batches[0].kwargs.items()})
    handles.append(model.model.layers[1].mlp.up_proj.register_forward_pre_hook(spoil))
    with pytest.raises(RuntimeError, match="spoilt"):
        sequential.run(model, ground, found, batches=[*batches, odd, *batches])
    assert threading.active_count() == before
    outcome = sequential.run(model, ground, found, batches=batches)
    hooks = [hook for module in outcome.model.modules() for hook in module._forward_pre_hooks]
    assert threading.active_count() == before and len(hooks) == len(handles)


def test_a_model_in_training_mode_is_judged_as_in_evaluation_and_comes_back_as_it_was():
    model, batches, found, ground = layerwise("bert")
    expected = sequential.run(model.eval(), ground, found, batches=batches)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    outcome = sequential.run(model, ground, found, batches=batches)
    assert all(torch.equal(outcome.plan.keep(site), expected.plan.keep(site)) for site in expected.plan.sites)
    assert all(module.training for module in outcome.model.modules())


class Fickle(nn.Module):
    """Which of its layers comes first depends on the data."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        first, second = (self.one, self.two) if len(x) == 2 else (self.two, self.one)
        return x + second(first(x).relu())


class Listed(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.blocks = nn.ModuleList([block(), block()])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_a_batch_that_reads_layers_in_another_order_is_refused():
    torch.manual_seed(0)
    model, data = Listed(Fickle), [torch.randn(2, 8), torch.randn(3, 8)]
    wish = {"method": "wanda", "goal": "sparsity=0.5", "true_sequential": True}
    with pytest.raises(InputError, match="in another order"):
        pomona.plan(model, data[0], data=data, **wish)
    assert pomona.plan(model, data[0], data=data[:1], **wish).removes


class Shared(nn.Module):
    """Its layer is called twice, so there is no one place to wait at."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return x + self.out(self.inner(self.inner(x).relu()))


def test_where_a_layer_is_called_twice_the_block_is_decided_as_a_whole():
    torch.manual_seed(0)
    model, x = Listed(Shared), torch.randn(16, 8)
    plans = [
        pomona.plan(model, x, data=[x], method="wanda", goal="sparsity=0.5", sequential=True, true_sequential=true)
        for true in (False, True)
    ]
    assert all(torch.equal(plans[0].keep(site), plans[1].keep(site)) for site in plans[0].sites)


def test_a_run_that_was_killed_ends_bit_identical_and_another_order_is_refused(tmp_path):
    model, data = blocky()
    wish = {"method": "wanda", "goal": "sparsity=0.5", "data": data, "latency": False}
    whole = pomona.prune(model, data[0], **wish, true_sequential=True, checkpoint=tmp_path)
    done = sorted(tmp_path.glob("block-*"))
    done[-1].unlink()  # as if killed before the last one
    resumed = pomona.prune(model, data[0], **wish, true_sequential=True, checkpoint=tmp_path)
    assert len(done) > 1
    assert all(torch.equal(a, b) for a, b in zip(resumed.model.parameters(), whole.model.parameters(), strict=True))
    with pytest.raises(InputError, match="another order of layers"):
        pomona.prune(model, data[0], **wish, checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("wish", "says"),
    [({"sequential": False}, "leave one of the two out"), ({"structure": "neurons"}, "for weights")],
)
def test_what_cannot_go_layer_by_layer_is_refused(wish, says):
    model, data = blocky()
    with pytest.raises(InputError, match=says):
        pomona.plan(model, data[0], data=data, **{"method": "wanda", "goal": "sparsity=0.5", "true_sequential": True, **wish})
