"""The embedded default: three real models, real data, minutes, a report each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.face.demo.garments import garments
from pomona.face.demo.pictures import pictures
from pomona.face.demo.sentences import sentences
from pomona.face.folders import check_free, whole_folder
from pomona.face.saving import save_result
from pomona.vocabulary import Progress, Silent


def demo(folder: str | Path = "out/demo", *, seed: int = 0, progress: Progress | None = None) -> dict[str, dict[str, Any]]:
    """Run the three stories; each leaves a folder with model, plan and report. Returns the reports by name.

    A convolutional net on Fashion-MNIST, cut to 0.35 of its MACs by channels and recovered; EfficientNet-Lite0 with its
    pretrained weights; the sentence encoder MiniLM, by 2:4 and by heads and neurons. About ten minutes on two cores.
    """
    folder, progress = Path(folder), progress or Silent()
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder) as partial:
        results = {**garments(seed, progress), **pictures(seed, progress), **sentences(seed, progress)}
        for name, result in results.items():
            save_result(result, partial / name, shown=folder / name)
    return {
        name: {**result.report, "plan": str(folder / name / "plan.safetensors"), "out": str(folder / name)}
        for name, result in results.items()
    }
