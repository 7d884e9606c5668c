"""A small report with every part filled in; tests take away or change what they are about."""

import pytest


def _layer(name, before, after, macs):
    sizes = [shape[0] * shape[1] for shape in (before, after)]
    return {
        "name": name, "kind": "Linear", "shape_before": before, "shape_after": after, "params_before": sizes[0],
        "params_after": sizes[1], "nonzeros_after": sizes[1], "macs_before": macs * sizes[0], "macs_after": macs * sizes[1],
    }  # fmt: skip


@pytest.fixture
def sample():
    """Two layers, three classes, two rounds, a recovery of three epochs."""
    return {
        "pomona": "0.1.0", "created": "2026-11-24T16:00:00Z", "command": "pomona prune timm:toy --goal macs=0.5x", "seed": 7,
        "machine": {"cpu": "Test CPU", "cores": 2, "threads": 1, "torch": "2.13", "python": "3.11", "platform": "Linux"},
        "model": {"name": "toy", "class": "Toy", "source": "timm:toy"},
        "recipe": {
            "method": "magnitude", "text": "magnitude()", "sentence": "Remove channels, least important by magnitude.",
            "summary": "Small weights do little.", "papers": ["Han et al., Learning both Weights and Connections, 2015"],
            "needs": ["data"], "when": "after training", "structure": "channels",
        },
        "goal": "macs=0.5x",
        "params": {"before": 2000, "after": 1000}, "nonzeros": {"before": 2000, "after": 1000},
        "macs": {"before": 29_000, "after": 10_000}, "bytes": {"before": 8192, "after": 4096},
        "latency": {
            "before_ms": 9.0, "after_ms": 5.0, "ratio": 5 / 9, "spread": [0.5, 0.6], "batch": 1, "threads": 1, "pairs": 3,
            "samples_before_ms": [8.0, 9.0, 10.0], "samples_after_ms": [4.0, 5.0, 6.0], "faster": True, "reason": None,
            "advice": None,
        },
        "quality": {
            "metric": "accuracy", "higher_is_better": True, "before": 0.912, "after": 0.7, "recovered": 0.908,
            "agreement": 0.95, "kl": 0.02, "examples": 300,
            "per_class": [
                {"label": "cat", "support": 100, "before": 0.9, "after": 0.6, "recovered": 0.85},
                {"label": "dog", "support": 150, "before": 0.9, "after": 0.7, "recovered": 0.93},
                {"label": "owl", "support": 50, "before": 0.8, "after": 0.8, "recovered": None},
            ],
        },
        "proof": {
            "passed": True, "max_error": 3.1e-14, "tolerance": 1e-9, "exact_groups": ["fc1.out"],
            "approximate_groups": ["norm.channels"], "form": "eager", "sensitivity": 0.8, "notes": ["a note on the proof"],
        },
        "layers": [_layer("fc1", [30, 20], [15, 20], 1), _layer("fc2", [70, 20], [35, 20], 20)],
        "sites": [
            {"name": "fc1.out", "kind": "axis", "family": "channels", "before": 30, "after": 15, "held": True, "error": 0.04,
             "normalisers": []},
            {
                "name": "norm.channels", "kind": "axis", "family": "width", "before": 30, "after": 15, "held": False,
                "error": None, "normalisers": [f"layer_norm at blocks.{n}.norm" for n in range(5)],
            },
        ],
        "blocks": [{"name": "layers.0", "error": 0.12}, {"name": "layers.1", "error": 0.3}],
        "tasks": [
            {"task": "arc_easy", "metric": "acc", "filter": "none", "higher_is_better": True, "before": 0.61, "after": 0.58,
             "stderr": 0.012, "examples": 2376, "shots": 0},
        ],
        "frozen": [{"axis": "fc2.out", "reason": "is a model output"}],
        "rounds": [
            {"round": 1, "params": 1500, "macs": 20_000, "nonzeros": 1500, "quality": 0.85, "recovered": 0.91},
            {"round": 2, "params": 1000, "macs": 10_000, "nonzeros": 1000, "quality": 0.7, "recovered": 0.908},
        ],
        "recovery": {
            "name": "fine-tune", "seconds": 61.0,
            "epochs": [{"epoch": n, "loss": 1 / n, "quality": 0.8 + 0.03 * n} for n in (1, 2, 3)],
        },
        "notes": ["a note of the run"], "plan": "out/plan.json", "out": "out",
    }  # fmt: skip
