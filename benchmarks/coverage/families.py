"""The smallest variant of every model file of timm: `python -m benchmarks.coverage.families` writes the list anew."""

from __future__ import annotations

import json
from math import inf, prod
from pathlib import Path

import torch

from pomona.models.torchvision_stub import import_timm

LIST = Path(__file__).with_name("timm_families.json")


def families() -> dict[str, str]:
    """Module of timm -> its smallest variant, as committed."""
    found: dict[str, str] = json.loads(LIST.read_text())
    return found


def smallest(module: str) -> str:
    """The variant with the fewest parameters; of equals, the one that looks at the fewest pixels."""
    timm = import_timm()

    def weight(name: str) -> tuple[float, float]:
        with torch.device("meta"):
            try:
                model = timm.create_model(name)
            except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
                print(f"  {name} cannot be built on meta: {type(error).__name__}: {error}")
                return inf, inf
        return sum(p.numel() for p in model.parameters()), prod((model.pretrained_cfg or {}).get("input_size", (3, 224, 224)))

    return min(sorted(timm.list_models(module=module)), key=weight)


def main() -> None:
    """Build every variant on the meta device and write the list."""
    found = {}
    for module in import_timm().list_modules():
        found[module] = smallest(module)
        print(f"{module}: {found[module]}", flush=True)
    LIST.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
