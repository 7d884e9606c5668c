import pytest
import torch
from torch import nn

from pomona.runtime.diagnosis import diagnose
from pomona.runtime.work import Work, work_of


def test_work_is_counted_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU())
    with torch.no_grad():
        net[0].weight[:4] = 0
        work = work_of(net, (torch.randn(2, 3, 6, 6),), {})
    assert work.macs == 2 * 8 * 16 * 27 and work.params == 216 and work.zeros == 0.5 and work.weight_bytes == 864
    assert work.ops == 2


DENSE = Work(ops=100, macs=10**9, params=10**7, zeros=0.0, weight_bytes=4 * 10**7)


def changed(**numbers):
    return Work(**{**vars(DENSE), **numbers})


@pytest.mark.parametrize(
    ("after", "seconds", "reason", "advice"),
    [
        (changed(zeros=0.9), 0.1, "90% of the values are zero", "channels"),
        (changed(macs=10**9 * 97 // 100), 0.1, "Only 3%", "macs=0.5x"),
        (changed(macs=10**8), 1e-3, "100 operations", "larger batch"),
        (changed(macs=10**8), 8e-3, "reading 40 MB of weights", "params=0.5x"),
        (changed(macs=10**8, params=10**6, weight_bytes=4 * 10**6), 0.1, "fell to 10%", "multiple"),
    ],
)
def test_each_cause_is_told_from_the_counts(after, seconds, reason, advice):
    found = diagnose(DENSE, after, seconds, batch=1, ratio=1.0, noisy=False)
    assert reason in found.reason and advice in found.advice


def test_noise_is_named_before_any_cause():
    assert "scatter" in diagnose(DENSE, changed(zeros=0.9), 0.1, 1, 0.8, noisy=True).reason


def test_when_zeros_pay_depends_on_the_batch():
    at = [diagnose(DENSE, changed(zeros=0.9), 0.1, batch, 1.0, False).advice for batch in (1, 64)]
    assert "batch 1" in at[0] and "half" in at[1]
