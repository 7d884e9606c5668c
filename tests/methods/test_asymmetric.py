"""Asymmetric: layers solved for what the dense model has in their places (after GPTAQ, Li et al., 2025)."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import language
import pomona
import tinylm
from besides import distance
from deadly import Deadly, interrupt
from pomona.criteria.magnitude import Magnitude
from pomona.recipes.language import dsnot
from pomona.recipes.layerwise import sparsegpt, sparsegpt_asymmetric, wanda_refit
from pomona.solvers.asymmetric import Asymmetric
from pomona.solvers.least_squares import LeastSquares
from pomona.vocabulary import InputError

EXACT = LeastSquares(damping=1e-9)


class Stack(nn.Module):
    """Matrices one after another, each a block."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Residual(nn.Module):
    """One block that adds to its stream."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.back = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.back(torch.relu(self.wide(x)))


class Residuals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Residual() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def data(number: int = 4) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    mix = torch.randn(8, 8, generator=g)
    return [torch.randn(32, 8, generator=g) @ mix * torch.rand(32, 1, generator=g) ** 3 * 9 for _ in range(number)]


def prune(model: nn.Module, batches: list[torch.Tensor], solver: Asymmetric) -> nn.Module:
    recipe = wanda_refit.but(criterion=Magnitude(), solver=solver)
    return pomona.prune(model, batches[0], method=recipe, goal="sparsity=0.5", data=batches, latency=False, only=["layers"]).model


def test_each_weight_is_least_squares_between_what_it_reads_and_what_the_dense_one_gave():
    torch.manual_seed(0)
    dense, batches = Stack().requires_grad_(False), data()
    pruned = prune(dense, batches, Asymmetric(EXACT, stream=False, doubt=1e-9))
    wanted = read = torch.cat(batches)
    for before, after in zip(dense.layers, pruned.layers, strict=True):
        wanted = before(wanted)
        for row, weight in enumerate(after.weight):
            lives = weight != 0
            assert int(lives.sum()) == 4
            best = torch.linalg.lstsq(read[:, lives].double(), (wanted - before.bias)[:, row : row + 1].double()).solution
            assert_close(weight[lives].double(), best[:, 0], atol=2e-3, rtol=2e-3)
        read = after(read)


def test_what_the_fit_had_to_do_is_said_beside_what_the_solver_had_to_do():
    torch.manual_seed(0)
    dense, few = Stack(), [data(1)[0][:4]]  # four tokens for eight columns
    recipe = wanda_refit.but(criterion=Magnitude(), solver=Asymmetric(LeastSquares(), stream=False, doubt=0.0))
    result = pomona.prune(dense, few[0], method=recipe, goal="sparsity=0.5", data=few, latency=False, only=["layers"])
    said = [note for note in result.report.notes if "instead of 0 was needed" in note]
    assert any("layers.1.weight" in note for note in said)


@pytest.mark.parametrize("huge", [1.0, 300.0])
def test_what_is_added_to_a_stream_is_fitted_to_the_stream_token_by_token_relative_to_its_size(huge):
    torch.manual_seed(0)
    dense, batches = Residuals(), data()
    for batch in batches:
        batch[5] *= huge  # by which no token counts less than by eight times the median
    pruned = prune(dense, batches, Asymmetric(EXACT, doubt=1e-9)).double()
    here = there = torch.cat(batches).double()
    for before, after in zip(dense.double().layers, pruned.layers, strict=True):
        there = before(there).detach()
        size = there.square().mean(-1, keepdim=True).sqrt()
        most = 8 * size.reshape(len(batches), -1, 1).median(1, keepdim=True).values
        size = size.reshape(len(batches), -1, 1).minimum(most).reshape(-1, 1)
        after.back.weight.requires_grad_()
        far = ((after(here.detach()) - there) / size).square().sum()
        (slope,) = torch.autograd.grad(far, after.back.weight)
        alive = after.back.weight != 0
        assert slope[alive].abs().max() < 1e-3 * slope[~alive].abs().max()
        here = after(here).detach()
    assert far > 1e-3  # there was something to be fitted


def test_a_dense_model_before_it_leaves_nothing_to_take_back():
    """The first layer reads the same in both models, so there it is the other solver."""
    torch.manual_seed(0)
    dense, batches = Stack(), data()
    both = [prune(dense, batches, solver) for solver in (Asymmetric(EXACT, stream=False), EXACT)]  # type: ignore[arg-type]
    weights = [[layer.weight for layer in model.layers] for model in both]
    assert_close(weights[0][0], weights[1][0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(weights[0][1], weights[1][1], atol=1e-3)


@pytest.mark.parametrize("solver", ["sparsegpt", "alps"])
def test_on_a_model_that_has_learned_something_it_is_nearer_to_the_dense_one_on_unseen_text(solver):
    dense = tinylm.trained()
    seen, unseen = tinylm.text(16, seed=2), tinylm.text(16, seed=3)
    far = {}
    for method in (solver, f"{solver}-asymmetric"):
        result = pomona.prune(dense, seen[0], method=method, structure="2:4", data=seen, latency=False)
        assert result.report.proof.passed
        far[method] = distance(result.model, dense, unseen)
    assert far[f"{solver}-asymmetric"] < 0.9 * far[solver]


@pytest.mark.parametrize("name", ["gpt2", "opt", "bert", "t5", "gemma3"])
def test_whatever_the_model_looks_like_masks_are_kept_and_the_plan_replays(name):
    model, batches = language.model(name)
    result = pomona.prune(model, batches[0], method="sparsegpt-asymmetric", structure="2:4", data=batches, latency=False)
    assert result.report.proof.passed
    for site, decision in result.plan.decisions.items():
        value = result.model.state_dict()[site]
        assert torch.equal(value != 0, decision.keep & (decision.tensors[site] != 0))


def test_the_same_seed_gives_the_same_plan_within_the_goal_and_the_model_is_left_alone():
    model, batches = language.model("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wish = {"method": "alps-asymmetric", "goal": "sparsity=0.5", "data": batches}
    first, second = (pomona.plan(model, batches[0], **wish) for _ in range(2))
    for site, decision in first.decisions.items():
        assert torch.equal(second.decisions[site].tensors[site], decision.tensors[site])
        assert 2 * int(decision.keep.sum()) <= decision.keep.numel()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_run_that_was_broken_off_goes_on_and_ends_bit_identical(tmp_path):
    model, batches = language.model("opt")
    wish = {"method": "sparsegpt-asymmetric", "goal": "sparsity=0.5", "data": batches}
    with pytest.raises(KeyboardInterrupt):
        pomona.plan(model, batches[0], checkpoint=tmp_path, progress=Deadly(interrupt), **wish)
    assert list(tmp_path.glob("block-*"))
    resumed, whole = pomona.plan(model, batches[0], checkpoint=tmp_path, **wish), pomona.plan(model, batches[0], **wish)
    for site, decision in whole.decisions.items():
        assert torch.equal(resumed.decisions[site].tensors[site], decision.tensors[site])


def test_what_cannot_be_compared_is_refused_in_a_sentence():
    model, batches = language.model("llama")
    wish = {"data": batches, "latency": False}
    with pytest.raises(InputError, match="compares blocks with those of the dense model"):
        pomona.prune(model, batches[0], method="sparsegpt-asymmetric", structure="2:4", sequential=False, **wish)
    with pytest.raises(InputError, match="known within blocks only"):
        pomona.prune(model, batches[0], method="sparsegpt-asymmetric", structure="2:4", only=["lm_head"], **wish)
    plain = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    with pytest.raises(InputError, match="no list of blocks"):
        pomona.prune(plain, torch.randn(2, 8), method=sparsegpt_asymmetric, goal="sparsity=0.5", data=data(), latency=False)


def test_another_solvers_other_statistics_are_gathered_beside_as_well():
    model, batches = language.model("llama")
    recipe = dsnot.but(solver=Asymmetric(dsnot.solver))
    assert "beside" in recipe.needs and "beside" not in sparsegpt.needs
    result = pomona.prune(model, batches[0], method=recipe, goal="sparsity=0.5", data=batches, latency=False)
    assert result.report.proof.passed
