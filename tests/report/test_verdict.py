import pytest

from pomona.report.verdict import judge


def sentence(report):
    return judge(report).sentence.replace("\u00a0", " ")


def test_the_good_case_is_one_sentence(sample):
    assert sentence(sample) == "2.9× fewer MACs, 1.8× faster, accuracy 91.2 → 90.8 %: proven equal to the masked model."


def test_a_slow_result_says_so_first_with_reason_and_advice(sample):
    slow = {**sample["latency"], "ratio": 1.25, "faster": False, "reason": "zeros are multiplied too", "advice": "cut channels"}
    verdict = judge({**sample, "latency": slow})
    assert verdict.sentence.startswith("Not faster: 2.9× fewer MACs, 0.8× the speed")
    assert (verdict.reason, verdict.advice) == ("zeros are multiplied too", "cut channels")


def test_a_failed_proof_overrules_all_good_news(sample):
    verdict = judge({**sample, "proof": {**sample["proof"], "passed": False, "max_error": 0.3}})
    assert verdict.sentence == "Do not use this model: it does not equal the masked model."
    assert verdict.claims[0].tone == "bad"


def test_zeros_in_place_are_not_called_fewer_parameters(sample):
    same = {"before": 1000, "after": 1000}
    report = {**sample, "macs": same, "params": same, "nonzeros": {"before": 1000, "after": 250}, "latency": None}
    assert sentence(report).startswith("75 % of the parameters are zero, accuracy")


def test_nothing_measured_is_not_proven():
    verdict = judge({})
    assert verdict.sentence == "Nothing removed: not proven."
    assert {claim.tone for claim in verdict.claims} == {"open"}


@pytest.mark.parametrize(
    ("after", "higher", "tone"), [(30.0, False, "bad"), (19.0, False, "good"), (30.0, True, "good"), (15.0, True, "bad")]
)
def test_the_direction_of_the_metric_decides_whether_quality_fell(sample, after, higher, tone):
    quality = {"metric": "perplexity", "higher_is_better": higher, "before": 20.0, "after": after}
    assert judge({**sample, "quality": quality}).claims[2].tone == tone


def test_accuracy_out_of_a_hundred_is_not_multiplied_again(sample):
    quality = {"metric": "accuracy", "before": 91.2, "after": 90.8}
    assert "accuracy 91.2 → 90.8:" in sentence({**sample, "quality": quality})
