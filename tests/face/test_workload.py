"""Goals in latency, from the wish to the measured model."""

import pytest
import torch
from torch import nn

import pomona
from pomona.face.workload import Workload, bound, missed
from pomona.graph import trace
from pomona.recipes.gradual import gradual_magnitude
from pomona.runtime import Latency
from pomona.schedules.cubic import Cubic
from pomona.structures.axes import Axes
from pomona.vocabulary import Goal, InputError


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POMONA_CACHE", str(tmp_path_factory.mktemp("times")))
        yield


class Plain(nn.Module):
    """Wide enough that its width decides how long it takes."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, 64, 3, padding=1)
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.layers(x).mean((2, 3)))


X = torch.randn(1, 3, 32, 32)
ONE = {"threads": 1, "pairs": 5, "seconds": 0.5}


def counted(plan, graph):
    """The share of the multiply-adds that a plan leaves."""
    sizes = {site.axis.name: int(plan.keep(name).sum()) for name, site in plan.sites.items()}
    return graph.costs(sizes).macs / graph.costs().macs


@pytest.fixture
def counting(monkeypatch):
    """A machine that counts where others clock: an op takes as long as its bytes, a whole model as long as its multiply-adds.

    So forecasts err, as they do on real machines, and nothing is left to chance. Gives the batches that were "timed".
    """
    batches = []
    monkeypatch.setattr("pomona.runtime.times.Times.seconds", lambda self, made: 1e-9 * made.bytes)
    monkeypatch.setattr(Workload, "milliseconds", lambda self: 1e-3 * self.args[0].numel())
    monkeypatch.setattr(Workload, "share", lambda self, plan, graph: batches.append(len(self.args[0])) or counted(plan, graph))
    return batches


@pytest.mark.parametrize("batch", [1, 4])
def test_half_the_latency_is_what_is_measured(batch, counting):
    torch.manual_seed(0)
    result = pomona.prune(Plain(), X, method="l1-filters", goal="latency=0.5x", latency={"batch": batch, **ONE})
    assert counted(result.plan, result.graph) == pytest.approx(0.5, rel=0.15)
    assert len(counting) > 1 and set(counting) == {batch} and result.report.latency.batch == batch
    assert result.report.proof.passed and result.report.goal == "latency=0.5x"


def test_a_wrong_forecast_is_mended_by_measuring(monkeypatch):
    """The table says that ops take as long as they are large; the clock disagrees, and is believed."""
    monkeypatch.setattr("pomona.runtime.times.Times.seconds", lambda self, made: 1e-9 * made.bytes)
    shares = iter([0.62, 0.54, 0.5, 0.5])
    asked = []
    monkeypatch.setattr(Workload, "share", lambda self, plan, graph: asked.append(plan.provenance["price"]) or next(shares))
    pomona.prune(Plain(), X, method="l1-filters", goal="latency=0.5x", latency=ONE)
    left = [price["after"] / price["before"] for price in asked]
    assert len(left) == 3 and left[0] > left[1] > left[2] and left[0] == pytest.approx(0.5, abs=0.1)


def test_the_milliseconds_of_a_goal_are_those_of_the_dense_model_here():
    model = Plain().eval()
    load = Workload.of(model, (X,), {}, ONE)
    dense = load.milliseconds()
    goal = bound(Goal.parse(f"latency={dense / 2:.6f}ms"), dense)
    assert goal.ratio == pytest.approx(0.5, rel=1e-3) and str(goal).endswith("ms")
    with pytest.raises(InputError, match="as it is"):
        bound(Goal.parse(f"latency={2 * dense:.6f}ms"), dense)


def test_the_forecast_of_another_batch_is_of_that_batch(counting):
    model = Plain().eval()
    graph = trace(model, X)
    one, eight = (Workload.of(model, (X,), {}, {"batch": b, **ONE}).forecast(graph) for b in (1, 8))
    assert set(one.graph.atoms) == set(eight.graph.atoms)
    assert eight.at({}) == pytest.approx(8 * one.at({}))


def test_wider_models_are_foretold_to_take_longer(counting):
    model = Plain().eval()
    graph = trace(model, X)
    told = Workload.of(model, (X,), {}, ONE).forecast(graph)
    names = [name for name, axis in graph.axes.items() if axis.frozen is None]
    prices = [told.at({name: max(1, int(share * graph.axes[name].size)) for name in names}) for share in (0.25, 0.5, 1.0)]
    assert prices == sorted(prices) and prices[0] < 0.5 * prices[2]


def test_single_weights_give_way_to_axes_only_where_nobody_asked_for_them():
    result = pomona.prune(Plain(), X, goal="latency=0.7x", method="magnitude-uniform", latency=ONE)
    assert {site.kind for site in result.plan.sites.values()} == {"axis"}
    assert result.plan.provenance["method"] == "magnitude-uniform"
    with pytest.raises(InputError, match="--structure"):
        pomona.prune(Plain(), X, goal="latency=0.7x", structure="weights")


class Narrowing(nn.Module):
    """As in MobileNets, the first layers take most of the time and have the fewest weights, the last one has most of them."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, 4, 1)
        self.last, self.head = nn.Conv2d(64, 256, 1), nn.Linear(256, 10)

    def forward(self, x):
        return self.head(self.last(self.deep(self.stem(x).relu()).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_without_a_method_no_layer_is_starved_for_a_goal_in_latency(lanes, monkeypatch):
    """By magnitude, one threshold for all, the stem of this model is left with nothing, whatever the processor's vectors hold."""
    monkeypatch.setattr("pomona.runtime.forecast.step", lambda: lanes)
    monkeypatch.setattr("pomona.runtime.times.Times.seconds", lambda self, made: 1e-9 * made.bytes)
    monkeypatch.setattr(Workload, "milliseconds", lambda self: 1.0)
    monkeypatch.setattr(Workload, "share", lambda self, plan, graph: 0.5)
    torch.manual_seed(0)
    model, x = Narrowing(), torch.randn(1, 3, 64, 64)

    def shares(method):
        plan = pomona.plan(model, x, method=method, goal="latency=0.5x")
        return plan.provenance["method"], {name: float(plan.keep(name).float().mean()) for name in plan.sites}

    (default, balanced), (_, ranked), (_, equal) = map(shares, (None, "magnitude", "magnitude-uniform"))
    assert default == "latency-aware" and pomona.plan(model, x, goal="params=0.5x").provenance["method"] == "magnitude"
    assert ranked["stem.weight:0"] < 0.5 * equal["stem.weight:0"]
    assert all(share >= 0.45 * equal[name] for name, share in balanced.items())
    assert balanced["stem.weight:0"] < balanced["last.weight:0"]  # what takes the time gives most


def test_the_halp_recipe_meets_a_goal_in_latency():
    data = [(torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,))) for _ in range(2)]
    result = pomona.prune(
        Plain(), X, method="halp", goal="latency=0.6x", data=data, loss=nn.functional.cross_entropy, latency=ONE
    )
    widths = [int(result.plan.keep(name).sum()) for name in result.plan.sites]
    assert all(width % 8 == 0 for width in widths) and result.report.proof.passed


def test_widths_are_foretold_from_a_graph_or_from_inputs(counting):
    model = Plain().eval()
    graph = trace(model, X)
    axis = next(name for name, axis in graph.axes.items() if axis.frozen is None)
    one, two = pomona.forecast(model, graph, threads=1), pomona.forecast(model, X, threads=1)
    assert one.at({axis: 32}) / one.at({}) == pytest.approx(two.at({axis: 32}) / two.at({}))
    with pytest.raises(InputError, match="cannot change"):
        one.at({next(name for name, axis in graph.axes.items() if axis.frozen): 1})
    with pytest.raises(InputError, match="There is no axis"):
        one.at({"nowhere": 1})


def trained(method, steps=10, **more):
    """The plan of a short training run to half of the latency, and the weights that it leaves."""
    torch.manual_seed(0)
    net, x, y = Plain(), torch.randn(1, 3, 32, 32), torch.randint(0, 10, (1,))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    wish = {"method": method, "goal": "latency=0.5x", "steps": steps, "args": x, "latency": {"threads": 1}}
    with pomona.sparsify(net, optimizer, **wish, **more) as s:
        for _ in range(steps):
            optimizer.zero_grad()
            (nn.functional.cross_entropy(net(x), y) + s.loss()).backward()
            optimizer.step()
            s.step()
    return s.plan(), net


@pytest.mark.parametrize("method", ["greg1", "gradual-magnitude"])
def test_a_training_run_ends_near_the_latency_that_is_measured(method, counting):
    plan, net = trained(method)
    result = pomona.replay(net.eval(), plan, X, latency=ONE)
    assert {site.kind for site in plan.sites.values()} == {"axis"} and result.report.proof.passed
    assert counting and counted(result.plan, result.graph) == pytest.approx(0.5, rel=0.15)


def test_only_the_cut_that_reaches_the_goal_of_a_training_run_is_timed(monkeypatch):
    monkeypatch.setattr("pomona.runtime.times.Times.seconds", lambda self, made: 1e-9 * made.bytes)
    shares, asked = iter([0.62, 0.54, 0.5]), []
    monkeypatch.setattr(Workload, "share", lambda self, plan, graph: asked.append(plan.provenance["price"]) or next(shares))
    recipe = gradual_magnitude.but(structure=Axes(), schedule=Cubic(every=2))
    plan, _ = trained(recipe)
    left = [price["after"] / price["before"] for price in asked]
    assert len(left) == 3 and left[0] > left[1] > left[2] and plan.provenance["price"] == asked[2]


@pytest.mark.parametrize(("ratio", "after", "said"), [(0.52, 6.0, 0), (0.6, 6.0, 1), (0.3, 6.0, 1)])
def test_a_goal_is_missed_by_more_than_a_tenth(ratio, after, said):
    timing = Latency(10.0, after, ratio, (ratio, ratio), 1, 1, 5, (), (), True)
    assert len(missed("latency=0.5x", timing)) == said
    assert not missed("macs=0.5x", timing) and not missed(None, timing) and not missed("latency=0.5x", None)
    assert not missed("latency=6.1ms", timing) and len(missed("latency=5ms", timing)) == 1


def test_threads_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="thread"):
        pomona.forecast(Plain(), X, threads=0)
