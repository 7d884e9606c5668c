import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softmax
from torch.testing import assert_close

from pomona.training.distil import distilled, matched, relative_error, soft
from pomona.vocabulary import Batch, InputError


def net(width: int = 8, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 6)), nn.ReLU(), nn.Linear(6, 3))


BATCH = Batch((torch.randn(16, 4, generator=torch.Generator().manual_seed(1)),), target=torch.arange(16) % 3)


def test_soft_is_the_scaled_divergence_by_hand():
    ours, theirs = torch.randn(5, 3), torch.randn(5, 3)
    p, q = softmax(theirs / 3, 1), softmax(ours / 3, 1)
    assert_close(soft(ours, theirs, 3.0), 9 * (p * (p.log() - q.log())).sum(1).mean())


def test_a_copy_of_the_teacher_has_nothing_left_to_learn():
    teacher = net()
    objective = distilled(teacher, None, hard=0.0, features=1.0, at=("0", "1"))
    assert_close(objective(copy.deepcopy(teacher), BATCH).item(), 0.0, atol=1e-6, rtol=0)


def test_hard_one_is_the_users_loss_and_the_teacher_takes_no_gradients():
    teacher, student = net(seed=1), net()
    loss = distilled(teacher, cross_entropy, hard=1.0)(student, BATCH)
    assert_close(loss, cross_entropy(student(*BATCH.args), BATCH.target))
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters()) and student[2].weight.grad is not None


def test_blocks_that_kept_their_shape_are_matched_and_cut_layers_are_not():
    assert matched(net(5), net(8), BATCH) == ("0",)
    flat = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)), nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    assert matched(*flat, BATCH) == ("1",)


def test_hidden_states_are_compared_where_there_are_no_class_scores():
    ours, theirs = (SimpleNamespace(last_hidden_state=torch.randn(2, 4, 8)) for _ in range(2))
    assert_close(soft(ours, theirs, 2.0), relative_error(ours.last_hidden_state, theirs.last_hidden_state))


def test_features_of_other_shapes_are_named():
    with pytest.raises(InputError, match=r"\(16, 5\) and the teacher's \(16, 8\)"):
        distilled(net(8), None, hard=0.0, features=1.0, at=("0.0",))(net(5), BATCH)
