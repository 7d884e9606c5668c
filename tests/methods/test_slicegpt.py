"""SliceGPT: the residual stream is turned onto its principal directions, of which the first stay (Ashkboos et al., 2024)."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import transformers
from torch.testing import assert_close

import language
import pomona
import tinylm
import zoo
from pomona.allocations.uniform import Uniform
from pomona.collect import collect
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.principal import Principal
from pomona.graph.precise import precise
from pomona.graph.reference import answer
from pomona.models import load_model
from pomona.quadratic.directions import directions, helmert, isometry, moment, way_back
from pomona.recipes.language_structured import slicegpt
from pomona.schedules.rounds import Rounds
from pomona.solvers.turned import Turned, turned
from pomona.statistics.stream_gram import StreamGram
from pomona.structures.axes import Axes
from pomona.vocabulary import InputError, View

CENTRED = ("gpt2", "opt")


def prepared(name, dtype=torch.float64):
    """A model whose embeddings are two tensors and whose norms scale and shift, with its data."""
    model, data = language.model(name, batches=4)
    if name in CENTRED:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        model.config.tie_word_embeddings = False
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.copy_(torch.rand(p.shape, generator=g) + 0.5)
    return model.to(dtype), data


def looked(model, data):
    """The stream of a model as a solver sees it."""
    structure = Axes(("width",))
    (site,) = structure.sites(pomona.trace(model, (), data[0]))
    tensors = {name: p.detach().clone() for name, p in model.named_parameters()}
    stats = collect(model, [site], [StreamGram()], data)[site.name]
    return View(site, structure, tensors, torch.ones(site.units, dtype=torch.bool), stats)


@torch.no_grad()
def written(model, tensors):
    for name, value in tensors.items():
        model.get_parameter(name).copy_(value)
    return model


def exact(model, batch):
    """The logits with every step in float64, those too that the code takes in float32."""
    return answer(precise(model), (), batch)[0]


def orthogonal(size, centred, seed=0):
    """A random rotation; for centred axes one that leaves the vector of ones alone."""
    g = torch.Generator().manual_seed(seed)
    found = torch.linalg.qr(torch.randn(size - centred, size - centred, generator=g, dtype=torch.float64))[0]
    if not centred:
        return found
    rest = helmert(size)
    return rest @ found @ rest.mT + 1 / size


@pytest.mark.parametrize("name", ["llama", *CENTRED])
def test_a_turned_model_that_lost_nothing_is_the_same_function(name):
    model, data = prepared(name)
    before = exact(model, data[0])
    view = looked(model, data)
    tensors = turned(view, orthogonal(32, name in CENTRED))
    assert all(not torch.equal(value, view.tensors[key]) for key, value in tensors.items() if value.dim() > 1)
    after = exact(written(model, tensors), data[0])
    assert (after - before).abs().max() < 1e-9 * before.abs().max()


@pytest.mark.parametrize("name", ["llama", *CENTRED])
def test_directions_that_the_stream_never_takes_cost_nothing(name):
    model, data = prepared(name)
    low = orthogonal(32, name in CENTRED)[:, :20]
    ones = torch.full((32, 1), 32**-0.5, dtype=torch.float64)
    basis = torch.cat([ones, low - ones @ (ones.mT @ low)], 1) if name in CENTRED else low
    onto = torch.linalg.qr(basis)[0]
    view = looked(model, data)
    for tensor, dim in view.site.axis.turning.writers:
        value = view.tensors[tensor].movedim(dim, -1)
        written(model, {tensor: (value @ onto @ onto.mT).movedim(-1, dim)})
    if name in CENTRED:  # the head has no bias for the shift, which would lose what lies elsewhere
        shift = next(p.shift for p in view.site.axis.turning.places if p.readers[0][0] == "lm_head.weight")
        written(model, {shift: torch.zeros(32)})
    result = pomona.prune(model, (), data[0], method="slicegpt", goal="width=0.7", data=data, latency=False)
    assert result.report.proof.passed and next(iter(result.plan.decisions.values())).keep.sum() == (20 if name == "llama" else 22)
    for batch in data:
        assert_close(exact(result.model, batch), exact(model, batch), rtol=1e-5, atol=1e-6)


def test_scores_are_the_shares_of_the_variance_and_fall():
    model, data = prepared("llama")
    view = looked(model, data)
    scores = Principal().score(view).value
    assert_close(scores.sum(), torch.tensor(1.0))
    assert (scores.diff() <= 0).all()
    gram = view.stats[StreamGram()]
    assert_close(gram.diagonal().sum(), torch.tensor(32.0, dtype=torch.float64))
    energies, found = directions(gram)
    assert_close(found @ torch.diag(energies) @ found.mT, gram)


def test_the_moments_are_those_that_every_reader_sees_before_its_scale():
    model, data = prepared("llama")
    seen = []
    norms = [m for name, m in model.named_modules() if name.endswith("norm")]
    hooks = [m.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().reshape(-1, 32))) for m in norms]
    for batch in data:
        model(**batch)
    for hook in hooks:
        hook.remove()
    x = torch.cat(seen)
    x = x / x.square().mean(1, keepdim=True).sqrt()
    assert_close(looked(model, data).stats[StreamGram()], x.mT @ x / len(x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("apart", [False, True])
def test_moments_of_two_halves_add_up_and_the_places_to_the_whole(apart):
    model, data = prepared("llama")
    site, need = looked(model, data).site, StreamGram(apart=apart)
    states = []
    for half in (data[:2], data[2:], data):
        state = None
        for batch in half:
            state = need.update(state, site, need.probe.run(model, pomona.vocabulary.Batch.of(batch), None, need.watch(site)))
        states.append(state)
    assert_close(need.value(need.merge(*states[:2]), site), need.value(states[2], site))
    assert_close(moment(need.value(states[2], site)), looked(model, data).stats[StreamGram()])


@pytest.mark.parametrize("keep", [2, 5, 8])
def test_the_isometry_of_a_centred_axis_takes_ones_to_ones(keep):
    x = torch.randn(40, 8, dtype=torch.float64)
    _, found = directions(x.mT @ x, centred=True)
    q = isometry(found, keep, centred=True)
    assert_close(q.mT @ q, torch.eye(keep, dtype=torch.float64))
    assert_close(torch.ones(8, dtype=torch.float64) @ q, torch.full((keep,), (8 / keep) ** 0.5, dtype=torch.float64))


@pytest.fixture(scope="module")
def walker():
    return tinylm.trained(), tinylm.text(16, seed=2), tinylm.text(8, seed=3)


def pruned_loss(walker, method, goal="width=0.75"):
    model, data, held_out = walker
    result = pomona.prune(model, (), data[0], method=method, goal=goal, data=data, latency=False)
    assert result.report.proof.passed
    return tinylm.loss(result.model, held_out), result


class RandomRotation(Turned):
    """As many directions, but any."""

    def solve(self, view, proposal):
        basis = orthogonal(len(proposal), False)
        basis[:, ~proposal] = 0
        return replace(super().solve(view, proposal), tensors=turned(view, basis, float(proposal.double().mean()) ** 0.5))


def test_principal_directions_beat_any_others_and_the_coordinates_of_a_trained_model(walker):
    dense = tinylm.loss(walker[0], walker[2])
    ours, result = pruned_loss(walker, "slicegpt")
    assert result.model.config.hidden_size == 24
    any_other, _ = pruned_loss(walker, slicegpt.but(solver=RandomRotation()))
    norms, _ = pruned_loss(walker, slicegpt.but(criterion=Magnitude("l2", roles=("out", "in")), solver=None))
    assert dense < ours < 0.8 * any_other and ours < 0.8 * norms
    refitted, _ = pruned_loss(walker, "slicegpt-refit")
    assert dense < refitted < ours


def test_what_left_is_told_from_what_stayed_by_least_squares():
    x = torch.randn(200, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    basis = orthogonal(6, False)[:, :4]
    expected = torch.linalg.lstsq(x @ basis, x).solution.T
    assert_close(way_back(x.mT @ x, basis, 0.0), expected)
    assert_close(way_back(x.mT @ x, basis, 1e12), basis)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_readers_that_are_fitted_give_more_of_what_they_gave(name):
    model, data = prepared(name)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(torch.linspace(4, 0.1, 32))
    before = torch.stack([exact(model, batch) for batch in data])
    missed = {}
    for method in ("slicegpt", "slicegpt-refit"):
        result = pomona.prune(model, (), data[0], method=method, goal="width=0.75", data=data, latency=False)
        assert result.report.proof.passed
        missed[method] = float((torch.stack([exact(result.model, batch) for batch in data]) - before).square().mean())
    assert missed["slicegpt-refit"] < missed["slicegpt"]


def test_tied_embeddings_become_two_and_the_goal_is_that_of_the_model_as_it_was(tmp_path):
    model, data = language.model("llama", batches=4)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "dense")
    loaded = load_model(str(tmp_path / "dense"))
    model = loaded.model
    size = sum(p.numel() for p in model.parameters())
    result = pomona.prune(
        model, (), data[0], method="slicegpt", goal="params=0.8x", data=data, latency=False, source=loaded.source
    )
    assert model.lm_head.weight is model.model.embed_tokens.weight and model.config.tie_word_embeddings
    assert result.report.params["before"] == size and 0.6 * size < result.report.params["after"] <= 0.8 * size
    assert any("became two tensors" in note for note in result.report.notes)
    result.save(tmp_path / "out")
    small = result.model(**data[0]).logits
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(plain) is type(model) and plain.config.head_dim == 8
    again = pomona.replay(model, tmp_path / "out" / "plan.safetensors", (), data[0], latency=False)
    for other in (plain, pomona.load(tmp_path / "out"), again.model):
        assert torch.equal(other(**data[0]).logits, small)


def test_the_stream_of_a_vision_transformer_is_turned_with_its_patches_and_positions():
    model, (x,) = zoo.vit(batch=16)
    model, x = model.double(), x.double()
    structure = Axes(("width",))
    (site,) = structure.sites(pomona.trace(model, x))
    assert ("patch.weight", 0) in site.axis.turning.writers
    view = View(site, structure, {n: p.detach().clone() for n, p in model.named_parameters()}, torch.ones(site.units).bool())
    before = model(x)
    turn = written(deepcopy(model), turned(view, orthogonal(site.units, centred=True)))
    assert_close(turn(x), before, rtol=1e-9, atol=1e-9)
    result = pomona.prune(model, x[:2], method="slicegpt-refit", goal="width=0.75", data=x.split(4), latency=False)
    by_norm = pomona.prune(
        model,
        x[:2],
        method=slicegpt.but(criterion=Magnitude("l2"), solver=None),
        goal="width=0.75",
        data=x.split(4),
        latency=False,
    )
    assert result.report.proof.passed and result.form == "eager"
    ours, theirs = ((r.model(x) - before).square().mean() for r in (result, by_norm))
    assert ours < 0.5 * theirs


@pytest.mark.parametrize(
    ("name", "why"),
    [("bert", "goes on"), ("gemma3", "op add at model.layers.0.input_layernorm"), ("t5", "the model returns it")],
)
def test_streams_that_cannot_be_turned_are_refused_with_what_is_in_the_way(name, why):
    model, data = language.model(name)
    release = "output" if name == "bert" else None
    with pytest.raises(InputError, match=rf"cannot be turned \(.*{why}.*prune heads and neurons"):
        pomona.prune(model, (), data[0], method="slicegpt", goal="width=0.5", data=data, latency=False, release=release)


def test_without_data_it_is_refused_before_ties_are_parted(monkeypatch):
    model, data = language.model("gpt2")
    monkeypatch.setattr("pomona.face.ties.untied", None)
    with pytest.raises(InputError, match="'slicegpt' needs data"):
        pomona.prune(model, (), data[0], method="slicegpt", goal="width=0.5", latency=False)


def test_a_tied_model_recovers_as_two(walker):
    _, data, held_out = walker
    torch.manual_seed(0)
    tied = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**walker[0].config.to_dict(), "tie_word_embeddings": True}))
    tied.load_state_dict(walker[0].state_dict(), strict=False)
    tied.tie_weights()
    wish = {"method": "slicegpt", "goal": "width=0.75", "data": data, "latency": False}
    cut = pomona.prune(tied, (), data[0], **wish)
    trained = pomona.prune(tied, (), data[0], recover="finetune:2epochs", **wish)
    assert trained.report.proof.passed and tinylm.loss(trained.model, held_out) < tinylm.loss(cut.model, held_out)


def test_a_stream_is_turned_once():
    model, data = prepared("llama")
    with pytest.raises(InputError, match="schedule of one round"):
        pomona.prune(model, (), data[0], method=slicegpt.but(schedule=Rounds(2)), goal="width=0.5", data=data, latency=False)


def test_a_shift_that_no_bias_takes_stays_with_its_norm():
    model, data = prepared("gpt2")  # the head has no bias
    (place,) = [p for p in looked(model, data).site.axis.turning.places if p.scale == "transformer.ln_f.weight"]
    tensors = turned(looked(model, data), orthogonal(32, True))
    assert tensors[place.shift].abs().max() > 0.1 and not tensors["transformer.h.0.ln_1.bias"].any()
    with torch.no_grad():
        model.transformer.ln_f.weight[3] = 0
    with pytest.raises(InputError, match="has zeros where"):
        turned(looked(model, data), orthogonal(32, True))


def test_the_recipe_is_the_sentence():
    assert slicegpt.allocation == Uniform() and slicegpt.needs == {"data"}
