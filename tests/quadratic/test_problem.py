"""The layer problem: damping, dead inputs, what it says when it had to help itself, and its two factors."""

import pytest
import torch
from torch.testing import assert_close

from handmade import axis_site, net, view
from layers import layer, lost, random_layer
from papergraph import conv
from pomona.quadratic import Quadratic
from pomona.statistics.input_gram import InputGram
from pomona.structures.elements import element_site
from pomona.structures.weights import Weights
from pomona.vocabulary import Gathered, InputError, View


def test_damping_is_a_share_of_the_mean_diagonal():
    gram = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
    problem = Quadratic.of(layer(torch.ones(1, 2), gram), 0.1)
    assert_close(problem.damped[0], gram.double() + 0.3 * torch.eye(2))
    assert problem.notes == ()


def test_dead_inputs_stand_alone_and_are_worth_nothing():
    gram = torch.tensor([[4.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 2.0]])
    problem = Quadratic.of(layer(torch.ones(1, 3), gram), 0.1)
    assert_close(problem.damped[0], torch.tensor([[4.3, 0.0, 1.0], [0.0, 3.0, 0.0], [1.0, 0.0, 2.3]]).double())
    assert_close(problem.weight[0, 0], torch.tensor([1.0, 0.0, 1.0]))


def test_a_layer_that_never_read_anything_has_a_problem_all_the_same():
    problem = Quadratic.of(layer(torch.ones(2, 3), torch.zeros(3, 3)))
    assert not problem.weight.any() and problem.error(problem.weight * 0) == 0.0


def test_singular_inputs_are_damped_more_and_it_is_said():
    x = torch.randn(2, 5, dtype=torch.float64)  # two tokens, five features
    problem = Quadratic.of(layer(torch.randn(3, 5), x.T @ x), 0.0)
    assert len(problem.notes) == 1 and "1e-06" in problem.notes[0] and "instead of 0" in problem.notes[0]
    assert float(torch.linalg.eigvalsh(problem.damped[0]).min()) > 0
    assert not torch.equal(problem.damped[0], torch.eye(5))  # the inputs are still in it


def test_what_no_damping_helps_is_refused():
    with pytest.raises(InputError, match="positive definite"):
        Quadratic.of(layer(torch.ones(1, 2), torch.tensor([[1.0, 1e9], [1e9, 1.0]])))


def test_weights_that_are_not_numbers_are_refused_by_name():
    with pytest.raises(InputError, match="w holds NaN"):
        Quadratic.of(layer(torch.tensor([[float("nan"), 1.0]]), torch.eye(2)))


def test_what_is_not_finite_is_never_decided():
    problem = Quadratic.of(layer(torch.ones(1, 2), torch.eye(2)))
    for candidate, error in ((torch.full((1, 1, 2), torch.inf), 0.0), (problem.weight, float("nan"))):
        with pytest.raises(InputError, match="Solving for w gave NaN or infinite numbers"):
            problem.decision(torch.ones(1, 2, dtype=torch.bool), candidate, error)


def test_axes_are_refused():
    with pytest.raises(InputError, match="no site on a single weight"):
        Quadratic.of(view(net(), axis_site()))


def test_the_root_and_the_inverse_are_those_of_the_damped_matrix():
    problem = Quadratic.of(random_layer(2, 7))
    assert_close(problem.upper @ problem.upper.mT, problem.damped)
    assert not problem.upper.tril(-1).any()
    assert_close(problem.inverse @ problem.damped, torch.eye(7).double()[None])
    trailing = torch.linalg.inv(problem.damped[0, 3:, 3:])[0, 0]
    assert_close(problem.upper[0, 3, 3] ** -2, trailing)  # what SparseGPT divides by


def test_the_error_is_the_share_of_the_energy_without_the_ridge():
    v = random_layer(3, 5)
    w, gram = v.tensors["w"], v.stats[InputGram()][0]
    problem, other = Quadratic.of(v, 0.5), torch.randn(3, 5).double()
    assert problem.error(other[None]) == pytest.approx(lost(w, other, gram) / lost(w, 0 * w, gram))
    assert problem.error(problem.weight) == 0


def test_groups_of_a_convolution_are_problems_of_their_own():
    weight = conv("c", 4, 6, groups=2)
    site, x = element_site(weight), torch.randn(2, 40, 27, dtype=torch.float64)
    stats = Gathered({InputGram(): x.mT @ x})
    v = View(site, Weights(), {"c": torch.randn(weight.shape).double()}, torch.ones(weight.shape, dtype=torch.bool), stats)
    problem = Quadratic.of(v)
    assert problem.weight.shape == (2, 2, 27) and problem.inverse.shape == (2, 27, 27)
    mask = torch.rand(weight.shape) > 0.5
    assert torch.equal(problem.keep(problem.mask(mask)), mask)
    decision = problem.decision(mask, problem.weight)
    assert torch.equal(decision.tensors["c"], v.tensors["c"] * mask)
