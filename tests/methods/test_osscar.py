"""OSSCAR: structured local search on the layer problem (Meng et al., 2024)."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import language
import pomona
from pomona.collect import collect
from pomona.recipes.language_structured import osscar
from pomona.solvers.admm import Admm
from pomona.solvers.alps import Alps
from pomona.solvers.dsnot import Dsnot
from pomona.solvers.least_squares import LeastSquares
from pomona.solvers.obc import Obc
from pomona.solvers.on_reader import OnReader
from pomona.solvers.osscar import Osscar
from pomona.solvers.sparsegpt import SparseGPT
from pomona.statistics.reader_gram import ReaderGram
from pomona.statistics.readers import places
from pomona.structures.axes import Axes
from pomona.vocabulary import InputError, View


def looked(model, x, name):
    site = next(s for s in Axes(("neuron", "channel")).sites(pomona.trace(model.eval(), x)) if s.name == name)
    values = {m.tensor: model.get_parameter(m.tensor).detach().clone() for m in site.members if not m.buffer}
    stats = collect(model, [site], [ReaderGram()], [x])[site.name]
    return View(site, Axes(("neuron", "channel")), values, torch.ones(site.units, dtype=torch.bool), stats)


def test_the_reader_is_fitted_as_by_least_squares_on_what_it_reads():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    x = torch.randn(60, 5, dtype=torch.float64)
    keep = torch.tensor([True, False, True, True, False, True, True, False])
    decision = Osscar(damping=1e-12, exchange=False).solve(looked(model, x, "0.weight:0"), keep)
    hidden = torch.relu(model[0](x)).detach()
    expected = torch.linalg.lstsq(hidden[:, keep], hidden @ model[2].weight.detach().T).solution.T
    assert decision.keep.tolist() == keep.tolist()
    assert_close(decision.tensors["2.weight"][:, keep], expected, rtol=1e-6, atol=1e-8)
    lost = (hidden @ (decision.tensors["2.weight"] - model[2].weight.detach()).T).square().sum()
    assert decision.error == pytest.approx(float(lost / (hidden @ model[2].weight.detach().T).square().sum()), rel=1e-6)


def test_units_that_others_can_make_up_for_leave_though_their_weights_are_the_largest():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    with torch.no_grad():
        model[0].weight[3], model[0].bias[3] = model[0].weight[1], model[0].bias[1]
        model[2].weight[:, [1, 3]] *= 3
    x = torch.randn(64, 4)
    recipe = osscar.but(solver=Osscar(damping=1e-6))  # damping pulls most at weights that are large
    result = pomona.prune(model, x, method=recipe, goal="units=0.84x", data=[x], latency=False)
    (keep,) = (decision.keep for decision in result.plan.decisions.values())
    assert int(keep.sum()) == 5 and keep[[1, 3]].sum() == 1
    assert_close(result.model(x), model(x), rtol=1e-3, atol=1e-3)


def test_a_convolution_reads_units_through_all_positions_of_its_kernel():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
    x = torch.randn(4, 2, 8, 8)
    view = looked(model, x, "0.weight:0")
    (reader,) = [m for m in view.site.members if m.role == "in"]
    assert places(reader).shape == (6, 9)
    decision = Osscar().solve(view, torch.tensor([True, False, True, False, True, True]))
    dead = view.structure.expand(view.site, decision.keep)["2.weight"].expand(4, 6, 3, 3)
    assert not decision.tensors["2.weight"][~dead].any() and int(decision.keep.sum()) == 4


@pytest.mark.parametrize("solver", [LeastSquares(), SparseGPT(), Alps(), Admm(), Obc()], ids=lambda s: type(s).__name__)
def test_any_solver_of_the_layer_problem_repairs_the_reader_of_an_axis(solver):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    keep = torch.tensor([True, False, True, True, False, True, True, False])
    view = looked(model, torch.randn(60, 5), "0.weight:0")
    found, best = (s.solve(view, keep) for s in (OnReader(solver), Osscar(exchange=False)))
    assert found.keep.equal(keep) and not found.tensors["2.weight"][:, ~keep].any()
    weight, gram = model[2].weight.detach().double(), view.stats[ReaderGram()][0]
    cut, repaired = (float(torch.trace(d @ gram @ d.T)) for d in (weight * ~keep, weight - found.tensors["2.weight"].double()))
    assert best.error * (1 - 1e-6) <= found.error and repaired < cut
    if not isinstance(solver, (SparseGPT, Admm)):  # of which one settles columns in turn, the other stops after some rounds
        assert found.error == pytest.approx(best.error, rel=1e-4)


def test_solvers_that_read_more_are_refused_on_readers():
    with pytest.raises(InputError, match="Dsnot reads more"):
        OnReader(Dsnot())


def test_axes_with_several_readers_are_refused_before_the_data_are_read():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.make, self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 2)

        def forward(self, x):
            return self.one(h := torch.relu(self.make(x))) + self.two(h)

    x = torch.randn(8, 4)
    with pytest.raises(InputError, match=r"read by one.weight, two.weight"):
        pomona.prune(Two(), x, method="osscar", goal="units=0.5x", data=[x], latency=False)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_blocks_lose_less_than_by_fitting_alone_and_outputs_change_less_than_by_cutting_alone(name):
    model, data = language.model(name, batches=16)
    lost, changed = {}, {}
    for way, solver in {"osscar": Osscar(), "fitted": Osscar(exchange=False), "bare": None}.items():
        recipe = osscar.but(solver=solver)
        result = pomona.prune(model, data[0], method=recipe, goal="units=0.7x", data=data[:12], latency=False)
        assert result.report.proof.passed
        lost[way] = sum(result.plan.provenance.get("blocks", {}).values())
        changes = [(result.model(**batch)[0] - model(**batch)[0]).detach().square().mean() for batch in data[12:]]
        changed[way] = float(torch.stack(changes).mean())
    assert lost["osscar"] < lost["fitted"]
    assert changed["osscar"] < changed["bare"]


def test_two_axes_that_one_weight_reads_leave_each_others_zeros():
    model, data = language.model("llama")
    recipe = osscar.but(structure=Axes(("head", "kv-group")))
    result = pomona.prune(model, data[0], method=recipe, goal="heads=0.5,kv-groups=0.5", data=data, latency=False)
    assert result.report.proof.passed
    keep = {name: decision.keep for name, decision in result.plan.decisions.items()}
    for number in range(3):
        one, two = (
            next(k for name, k in keep.items() if f"layers.{number}." in name and name.endswith(end))
            for end in ("kv-group", "head")
        )
        alive = (one[:, None] & two[None]).flatten().repeat_interleave(8)
        solved = [d.tensors for name, d in result.plan.decisions.items() if name.endswith("head") and f"layers.{number}." in name]
        weight = solved[0][f"model.layers.{number}.self_attn.o_proj.weight"]
        assert not weight[:, ~alive].any() and weight[:, alive].any(0).all()
