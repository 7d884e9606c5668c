import torch
from torch.testing import assert_close

from layers import fitted, half, random_layer
from pomona.quadratic import Quadratic
from pomona.quadratic.refit import descended, refit


def test_supports_of_unequal_size_are_fitted_as_by_the_normal_equations():
    problem = Quadratic.of(random_layer(9, 12))
    mask = torch.rand(9, 12, generator=torch.Generator().manual_seed(0)) > torch.linspace(-0.1, 1.1, 9)[:, None]
    assert mask.all(1).any() and (~mask).all(1).any()
    expected = fitted(problem.weight[0], problem.damped[0], mask)
    assert_close(refit(problem.damped, problem.weight, mask[None])[0], expected, rtol=1e-9, atol=1e-9)


def test_rows_are_solved_together_or_one_by_one_alike(monkeypatch):
    problem = Quadratic.of(random_layer(9, 12))
    mask = problem.mask(half(random_layer(9, 12)))
    together = refit(problem.damped, problem.weight, mask)
    monkeypatch.setattr("pomona.quadratic.refit._AT_ONCE", 40)
    assert_close(refit(problem.damped, problem.weight, mask), together, rtol=1e-12, atol=1e-12)


def test_conjugate_gradients_end_in_as_many_steps_as_there_are_survivors():
    problem = Quadratic.of(random_layer(9, 12))
    mask = problem.mask(half(random_layer(9, 12)))
    found = descended(problem.damped, problem.weight, mask, problem.weight, steps=6, tolerance=0.0)
    assert_close(found, refit(problem.damped, problem.weight, mask), rtol=1e-8, atol=1e-8)
    assert not found[~mask].any()


def test_the_tolerance_bounds_what_is_missing_to_the_optimum():
    problem = Quadratic.of(random_layer(20, 60))
    mask = problem.mask(half(random_layer(20, 60)))
    best = refit(problem.damped, problem.weight, mask)
    errors = [problem.error(descended(problem.damped, problem.weight, mask, problem.weight, 500, t)) for t in (1e-1, 1e-2, 1e-6)]
    assert problem.error(best) <= errors[2] * (1 + 1e-9) <= errors[1] <= errors[0]
    assert errors[2] - problem.error(best) < 1e-9
