"""What the tests prune, in one process and in several: the same wishes, by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

import language
import pomona


class Expert(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))


class Block(nn.Module):
    """Experts of unlike sizes, every token weighted between all of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, 3)
        self.experts = nn.ModuleList(Expert(width, hidden) for hidden in (24, 40, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates = self.router(x).softmax(-1)
        return x + sum(gates[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


def experts() -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.Sequential(Block(16), Block(16), Block(16)), nn.Linear(16, 4)).eval()
    return model, [torch.randn(3, 7, 12) for _ in range(5)]


def pictures() -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(12, 4)).eval(), [torch.randn(2, 3, 9, 9) for _ in range(3)]


def few() -> tuple[nn.Module, list[Any]]:
    model, data = language.model("llama")
    return model, data[:1]


def llama() -> tuple[nn.Module, list[Any]]:
    return language.model("llama", 5)


_HALF = {"goal": "sparsity=0.5"}
JOBS: dict[str, tuple[Any, dict[str, Any]]] = {
    "wanda": (llama, _HALF),
    "ria": (llama, _HALF),
    "magnitude": (llama, _HALF),
    "sparsegpt": (llama, _HALF),
    "alps": (llama, _HALF),
    "sparsegpt-asymmetric": (llama, _HALF),
    "owl": (llama, _HALF),
    "sparsegpt 2:4": (llama, {"structure": "2:4"}),
    "wanda 2:4": (llama, {"structure": "2:4"}),
    "flap": (llama, {"goal": "params=0.8x"}),
    "sparsegpt at once": (llama, {**_HALF, "sequential": False}),
    "wanda of one batch": (few, _HALF),
    "sparsegpt, true sequential": (llama, {**_HALF, "true_sequential": True}),
    "wanda of one batch, true sequential": (few, {**_HALF, "true_sequential": True}),
    "wanda with a head": (llama, {**_HALF, "only": ["lm_head", "model.layers"]}),
    "shortgpt": (llama, {"structure": "layers", "goal": "layers=0.67"}),
    "sparsegpt of experts": (experts, {**_HALF, "sequential": True}),
    "wanda of experts": (experts, {**_HALF, "sequential": True}),
    "mean-activation of pictures": (pictures, {"goal": "params=0.6x"}),
    "chip of pictures": (pictures, {"goal": "params=0.6x"}),
}


def planned(job: str, **more: Any) -> pomona.Plan:
    make, wish = JOBS[job]
    model, data = make()
    return pomona.plan(model, data[0], method=job.split()[0].rstrip(","), data=data, **wish, **more)


def as_text(plan: pomona.Plan) -> dict[str, Any]:
    """What must be equal, as plain data and tensors."""
    decisions = {name: (decision.keep, dict(decision.tensors)) for name, decision in plan.decisions.items()}
    return {"decisions": decisions, "blocks": plan.provenance.get("blocks"), "price": plan.provenance["price"]}


STREAMED: dict[str, Any] = {
    "wanda": lambda folder: {"method": "wanda"},
    "continued": lambda folder: {"method": "sparsegpt", "checkpoint": folder / "begun"},
    "tight": lambda folder: {"method": "sparsegpt", "max_memory": "150MB"},
}
QUICK = ("wanda", "sparsegpt of experts", "sparsegpt, true sequential", "wanda of one batch", "streamed continued")
SLOW = tuple(name for name in (*JOBS, *(f"streamed {name}" for name in STREAMED)) if name not in QUICK)


def streamed(name: str, folder: Path, out: str, **more: Any) -> pomona.Streamed:
    wish = STREAMED[name](folder) | {"goal": "sparsity=0.5", "data": llama()[1]} | more
    return pomona.prune_folder(folder / "dense", folder / f"{out} {name}", **wish)


def main(folder: Path, names: tuple[str, ...]) -> None:
    with pomona.joined() as processes:
        for name in names:
            if name.startswith("streamed "):
                made = streamed(name.removeprefix("streamed "), folder, "several", processes=processes)
                assert (made.folder / "report.json").is_file()  # whichever process looks
            else:
                torch.save(as_text(planned(name, processes=processes)), folder / f"{name}-{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), {"quick": QUICK, "slow": SLOW}[sys.argv[2]])
