import pytest
import torch

from handmade import linear_site
from pomona.allocations.above import Above
from pomona.allocations.everywhere import Global
from pomona.vocabulary import Budget, Scores


class Count:
    dense = 18.0

    def __call__(self, keeps):
        return float(sum(int(n.sum()) for n in keeps.values()))


SITES = {name: linear_site(name, (3, 3)) for name in ("a", "b")}
SCORES = {"a": Scores(torch.linspace(-1, 1, 9).view(3, 3)), "b": Scores(torch.full((3, 3), -1.0))}


def budget(limit):
    return Budget(Count(), limit, dict.fromkeys(SITES, 1), dict.fromkeys(SITES, 9))


@pytest.mark.parametrize(("threshold", "counts"), [(0.0, (4, 0)), (0.6, (2, 0)), (-2.0, (9, 9))])
def test_without_a_wish_the_scores_decide_alone(threshold, counts):
    keeps = Above(threshold).allocate(SITES, SCORES, budget(18.0))
    assert (int(keeps["a"]), int(keeps["b"])) == counts


def test_a_wish_moves_the_one_threshold():
    keeps = Above().allocate(SITES, SCORES, budget(7.0))
    same = Global().allocate(SITES, SCORES, budget(7.0))
    assert sum(int(n) for n in keeps.values()) == 7 and all(int(keeps[n]) == int(same[n]) for n in SITES)


def test_its_density_emerges():
    assert Above().emerges
