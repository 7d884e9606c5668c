"""Programs that are recorded: op for op what torch exports, in less time, and nothing where a list of ops is not enough."""

import time

import pytest
import torch
from torch import fx, nn

import zoo
from pomona import trace
from pomona.graph.capture import capture
from pomona.graph.export import export, inputs_of, without_cache
from pomona.graph.nodes import frames, name_of, tensor_names
from pomona.graph.recorder import Beyond


class Held(nn.Module):
    """A list in the code, a plain tensor on the module, a buffer, views, a sum in place."""

    def __init__(self):
        super().__init__()
        self.scale, self.line = torch.rand(6), nn.Linear(4, 6)
        self.register_buffer("shift", torch.rand(6), persistent=False)

    def forward(self, x, *, rows=None):
        y = self.line(x).view(-1, 2, 3).transpose(1, 2).flatten(1)
        y += self.shift[None]
        first, second = (y * self.scale).split(3, -1)
        return {"sum": first + second[:, torch.tensor([2, 0, 1])], "line": y, "none": rows}


class Frozen(nn.Module):
    """A part that learns nothing, although a weight comes before it."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        with torch.no_grad():
            x = self.two(self.one(x))
        return x


class Picking(nn.Module):
    """As many rows as the data say."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(4, 4)

    def forward(self, x):
        return self.line(x[x[:, 0] > 0])


class Remembering(nn.Module):
    """A buffer is another tensor after every pass."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(4, 4)
        self.register_buffer("last", torch.zeros(3, 4))

    def forward(self, x):
        self.last = self.line(x) + self.last
        return self.last


MODELS = [zoo.resnet, zoo.vit, zoo.llama, lambda: (Held().eval(), torch.randn(3, 4))]


def both(make):
    model, given = make()
    args, kwargs = inputs_of(given)
    with without_cache(model):
        return model, args, kwargs, capture(model, args, kwargs), torch.export.export(model, args, kwargs, strict=False)


def listed(graph_module):
    """(op, shape and strides and where it lies, modules) of every call, regions within walked in place."""
    found, order = [], {}

    def walk(module):
        for n in module.graph.nodes:
            if name_of(n).startswith("wrap_with"):
                walk(next(getattr(module, v.target) for v in n.all_input_nodes if v.op == "get_attr"))
            elif n.op == "call_function" and name_of(n) not in ("_assert_tensor_metadata", "getitem"):
                value = n.meta["val"]
                tensors = value if isinstance(value, (list, tuple)) else [value]
                memory = [order.setdefault(t.untyped_storage()._cdata, len(order)) for t in tensors]
                found.append((n.target, [(t.shape, t.stride(), t.dtype, t.device) for t in tensors], memory, frames(n)))

    walk(graph_module)
    return found


@pytest.mark.parametrize("make", MODELS)
def test_what_is_recorded_is_what_torch_exports(make):
    _, _, _, ours, theirs = both(make)
    theirs.graph.eliminate_dead_code()
    ours.graph.eliminate_dead_code()
    assert listed(ours.graph_module) == listed(theirs.graph_module)
    assert set(tensor_names(ours).values()) == set(tensor_names(theirs).values())
    assert ours.state_dict.keys() == theirs.state_dict.keys()


@pytest.mark.parametrize("make", MODELS)
def test_a_recorded_program_computes_what_the_model_does(make):
    model, args, kwargs, ours, _ = both(make)
    with without_cache(model):
        got, wanted = (torch.utils._pytree.tree_leaves(m(*args, **kwargs)) for m in (ours.module(), model))
    assert len(got) == len(wanted)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_the_model_comes_back_as_it_was():
    model, given = zoo.bert()
    before = {name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    attributes = [dict(vars(m)) for m in model.modules()]
    capture(model, *inputs_of(given))
    after = model.state_dict(keep_vars=True)
    assert all(id(after[name]) == number and torch.equal(after[name], t) for name, (number, t) in before.items())
    assert [vars(m).keys() for m in model.modules()] == [known.keys() for known in attributes]
    assert not any(isinstance(v, torch._subclasses.FakeTensor) for m in model.modules() for v in vars(m).values())


@pytest.mark.parametrize(
    ("model", "given"),
    [(Frozen(), torch.randn(3, 4)), (Remembering(), torch.randn(3, 4)), (Picking(), torch.randn(3, 4).abs())],
)
def test_what_takes_more_than_a_list_of_ops_is_left_to_torch(model, given):
    with pytest.raises((Beyond, RuntimeError)):
        capture(model.eval(), (given,), {})
    assert [n for n in export(model, given).graph.nodes if n.op == "call_function"]


def test_another_answer_in_a_part_without_gradients_is_not_taken_for_one_with_them():
    class Twice(Frozen):
        def forward(self, x):
            return super().forward(self.two(self.one(x)))

    with pytest.raises(Beyond, match="gradients"):
        capture(Twice().eval(), (torch.randn(3, 4),), {})


def test_a_part_without_gradients_that_no_weight_reaches_is_a_list_of_ops():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(4, 4)

        def forward(self, x):
            with torch.no_grad():
                angles = torch.arange(4.0).cos() + x[:, :1]
            return self.line(x) * angles

    graph = trace(Table().eval(), torch.randn(3, 4))
    assert not [n for n in graph.program.graph.nodes if name_of(n).startswith("wrap_with")]


def test_nodes_say_their_lines_when_asked():
    program = capture(Held().eval(), (torch.randn(3, 4),), {}, stacks=True)
    traces = [n.meta["stack_trace"] for n in program.graph.nodes if name_of(n) == "view"]
    assert traces and all("test_capture.py" in text and "in forward" in text for text in traces)


def test_recording_takes_less_than_half_of_an_export():
    model, given = zoo.vit()
    given = inputs_of(given)

    def seconds(work):
        start = time.process_time()
        work()
        return time.process_time() - start

    pairs = [
        (seconds(lambda: capture(model, *given)), seconds(lambda: torch.export.export(model, *given, strict=False)))
        for _ in range(3)
    ]
    assert min(ours / theirs for ours, theirs in pairs) < 0.5


def test_values_of_single_numbers_are_known():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(4, 4)

        def forward(self, x):
            return self.line(x)[: int(torch.tensor(2))]

    program = capture(Counting().eval(), (torch.randn(3, 4),), {})
    assert isinstance(program.graph_module, fx.GraphModule)
    assert program.graph.output_node().args[0][0].meta["val"].shape == (2, 4)
