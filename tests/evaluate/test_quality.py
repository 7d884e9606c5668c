import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pomona.evaluate import ClassQuality, evaluate
from pomona.vocabulary import InputError


class Table(nn.Module):
    """Gives the row of scores that the input names, in the form asked for."""

    def __init__(self, rows, wrap=lambda scores: scores):
        super().__init__()
        self.rows, self.wrap = torch.tensor(rows), wrap

    def forward(self, x):
        return self.wrap(self.rows[x])


# Rows 0 to 3 choose the classes 0, 1, 1, 2.
CHOICES = [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 2.0]]
BATCHES = [(torch.tensor([0, 1]), torch.tensor([0, 1])), (torch.tensor([2, 3]), torch.tensor([0, 2]))]


def test_accuracy_and_its_parts_by_class():
    quality = evaluate(Table(CHOICES), BATCHES, names=("a", "b"))
    assert quality.value == 0.75 and quality.examples == 4 and quality.higher_is_better
    assert quality.per_class == (ClassQuality("a", 2, 0.5), ClassQuality("b", 1, 1.0), ClassQuality("2", 1, 1.0))


def test_macro_f1_by_hand():
    # Class 0: TP 1, FN 1 -> 2/3. Class 1: TP 1, FP 1 -> 2/3. Class 2: 1.
    assert evaluate(Table(CHOICES), BATCHES, "f1").value == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_a_class_that_nobody_asked_for_does_not_count_in_f1():
    assert evaluate(Table(CHOICES), [(torch.tensor([0]), torch.tensor([0]))], "f1").value == 1.0


@pytest.mark.parametrize("wrap", [lambda s: {"logits": s}, lambda s: (s, None), lambda s: type("Out", (), {"logits": s})()])
def test_outputs_are_read_in_every_form(wrap):
    assert evaluate(Table(CHOICES, wrap), BATCHES).value == 0.75


def test_a_batch_size_does_not_matter():
    whole = [(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 0, 2]))]
    assert evaluate(Table(CHOICES), whole).value == evaluate(Table(CHOICES), BATCHES).value


def test_a_map_of_labels_counts_positions():
    scores = torch.randn(2, 3, 4, 4)
    batch = [(torch.tensor([0, 1]), scores.argmax(1))]
    assert evaluate(Table(scores.tolist()), batch).value == 1.0


def test_a_uniform_language_model_has_the_perplexity_of_its_vocabulary():
    ids = torch.randint(0, 7, (3, 5))
    quality = evaluate(Table([[0.0] * 7] * 7), [ids], "perplexity")
    assert quality.value == pytest.approx(7.0) and quality.examples == 3 * 4 and not quality.higher_is_better


def test_perplexity_predicts_the_next_token_and_leaves_out_what_is_masked():
    rows = torch.randn(5, 5)
    ids = torch.tensor([[0, 1, 2, 4]])
    mask = torch.tensor([[1, 1, 1, 0]])

    class Masked(Table):
        def forward(self, input_ids, attention_mask):
            return self.rows[input_ids]

    nll = -rows.log_softmax(1)
    expected = math.exp((nll[0, 1] + nll[1, 2]) / 2)
    data = [{"input_ids": ids, "attention_mask": mask, "labels": ids}]
    assert evaluate(Masked(rows.tolist()), data, "perplexity").value == pytest.approx(expected)


def test_the_perplexity_of_a_decoder_is_that_of_its_labels_each_where_it_is_written():
    class Writer(Table):
        def forward(self, input_ids, decoder_input_ids):
            return self.rows[decoder_input_ids]

    rows = torch.randn(5, 5)
    nll = -rows.log_softmax(1)
    data = {"input_ids": torch.zeros(1, 7, dtype=torch.int64), "decoder_input_ids": torch.tensor([[0, 3, 1]])}
    labels = torch.tensor([[3, 1, -100]])
    quality = evaluate(Writer(rows.tolist()), [data | {"labels": labels}], "perplexity")
    assert quality.value == pytest.approx(math.exp((nll[0, 3] + nll[3, 1]) / 2)) and quality.examples == 2
    # Without labels, what the decoder reads is what it should have written.
    assert evaluate(Writer(rows.tolist()), [data], "perplexity").value == pytest.approx(quality.value)


def test_a_broken_language_model_has_infinite_perplexity():
    assert evaluate(Table([[0.0, -1e6], [0.0, -1e6]]), [torch.ones(1, 3, dtype=torch.int64)], "perplexity").value == math.inf


def test_mean_squared_error_by_hand():
    data = [(torch.tensor([0, 1]), torch.tensor([1.0, 5.0]))]
    assert evaluate(Table([[2.0], [3.0]]), data, "mse").value == 2.5


def test_agreement_and_kl_compare_with_the_dense_model():
    ours, theirs = Table([[0.0, 1.0], [1.0, 0.0]]), Table([[0.0, 2.0], [0.0, 2.0]])
    data = [torch.tensor([0, 1])]
    assert evaluate(ours, data, "agreement", dense=theirs).value == 0.5
    p, q = F.softmax(theirs.rows, 1), F.softmax(ours.rows, 1)
    assert evaluate(ours, data, "kl", dense=theirs).value == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-6)
    assert evaluate(ours, data, "kl", dense=ours).value == 0


def test_measuring_leaves_modes_and_gradients_as_they_were():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.99))
    net[0].eval()
    x = torch.ones(4, 2)
    first, second = (evaluate(net, [(x, torch.zeros(4, dtype=torch.int64))]).value for _ in range(2))
    assert first == second and [m.training for m in net] == [False, True] and net.training and torch.is_grad_enabled()


def test_progress_hears_of_every_batch():
    heard = []

    class Ear:
        def stage(self, name, total=None):
            heard.append((name, total))
            return self

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def advance(self, amount=1, **numbers):
            heard.append(numbers)

    evaluate(Table(CHOICES), BATCHES, progress=Ear())
    assert heard == [("measuring accuracy", 2), {"accuracy": 1.0}, {"accuracy": 0.75}]


@pytest.mark.parametrize(
    ("data", "metric", "says"),
    [
        (BATCHES, "acuracy", "is not a measure"),
        ([], "accuracy", "empty"),
        ([(torch.tensor([0]), torch.tensor([3]))], "accuracy", "from 3 to 3; the model has 3 classes"),
        ([(torch.tensor([0]), torch.tensor([-1]))], "accuracy", "0 to 2"),
        ([(torch.tensor([0]), torch.tensor([0, 1]))], "accuracy", "do not fit"),
        ([(torch.tensor([0]), torch.tensor([0.5]))], "accuracy", "whole-number labels"),
        ([torch.tensor([0])], "accuracy", "whole-number labels"),
        ([torch.tensor([0])], "agreement", "dense"),
        ([torch.tensor([0.5])], "perplexity", "token ids"),
        ([(torch.tensor([0]), torch.tensor([1.0]))], "mse", "do not fit"),
        (BATCHES, "pearson", "rated sentence pairs"),
    ],
)
def test_what_does_not_fit_is_refused(data, metric, says):
    with pytest.raises(InputError, match=says):
        evaluate(Table(CHOICES), data, metric)
