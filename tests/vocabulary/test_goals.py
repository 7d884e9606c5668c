import pytest

from pomona.vocabulary import Goal, InputError


@pytest.mark.parametrize(
    ("text", "cost", "ratio"),
    [
        ("sparsity=0.9", "sparsity", 0.1),
        ("params=0.5x", "params", 0.5),
        ("macs = 0.25x", "macs", 0.25),
        ("latency=0.5x", "latency", 0.5),
    ],
)
def test_goals_read_as_what_is_left(text, cost, ratio):
    goal = Goal.parse(text)
    assert (goal.cost, goal.ratio) == (cost, ratio)
    assert Goal.parse(str(goal)) == goal


@pytest.mark.parametrize(
    "text",
    [
        "sparsity=1",
        "sparsity=0",
        "sparsity=1.5",
        "params=-1x",
        "speed=2x",
        "macs",
        "macs=fast",
        "sparsity=0.5x",
        "",
        "params=nan",
        "latency=12",
        "latency=-3ms",
        "latency=0ms",
        "latency=soonms",
        "macs=12ms",
    ],
)
def test_impossible_goals_are_refused_in_one_sentence(text):
    with pytest.raises(InputError) as refusal:
        Goal.parse(text)
    assert "\n" not in str(refusal.value)


def test_a_time_is_a_goal_whose_ratio_is_known_when_the_model_has_been_timed():
    goal = Goal.parse("heads=0.5, latency=12.5ms")
    assert (goal.cost, goal.ms, goal.shares) == ("latency", 12.5, (("heads", 0.5),))
    assert str(goal) == "heads=0.5,latency=12.5ms" and Goal.parse(str(goal)) == goal
