"""The house: imports go down its floors, and its door is light."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "pomona"

OPTIONAL = {
    "transformers",
    "timm",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "gguf",
    "sklearn",
    "scipy",
    "PIL",
    "codecarbon",
    "foolbox",
    "gensim",
    "peft",
    "lm_eval",
    "openvino",
    "triton",
}
TERMINAL = {"typer", "rich"}
HEAVY = sorted(OPTIONAL | TERMINAL | {"torch._dynamo", "torch._inductor", "torch.onnx", "torchvision", "pandas", "matplotlib"})


def lint_imports(folder: Path, source: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    where = {"PYTHONPATH": str(source), "PATH": ""}
    return subprocess.run(command, cwd=folder, env=where, capture_output=True, text=True, timeout=120)


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def imported_at_the_top(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_imports_go_down_the_floors():
    result = lint_imports(ROOT, ROOT / "src")
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_planted_upward_import_is_caught(tmp_path):
    shutil.copytree(SOURCE, tmp_path / "pomona", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "pomona" / "vocabulary" / "errors.py").open("a") as file:
        file.write("\nimport pomona.cli\n")
    result = lint_imports(tmp_path, tmp_path)
    assert result.returncode == 1
    assert "pomona.vocabulary is not allowed to import pomona.cli" in result.stdout


def test_every_package_has_a_floor():
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    rooms = packages | {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    floors = (ROOT / "pyproject.toml").read_text().split("layers = [")[1].split("]")[0]
    assert not {room for room in rooms if room not in floors}


def test_importing_pomona_loads_nothing_heavy():
    # Modules, not seconds: a clock fails on a busy machine, this fails on a new import. What torch brings by itself is torch's.
    ours = modules_after("import torch, pomona") - modules_after("import torch")
    assert not ours & set(HEAVY)
    assert not {name for name in ours if name.split(".")[0] in OPTIONAL | TERMINAL}


def test_optional_packages_are_imported_where_they_are_used():
    def planted(path):
        return imported_at_the_top(path) & (OPTIONAL | TERMINAL) - (TERMINAL if "cli" in path.parts else set())

    found = {path.relative_to(SOURCE).as_posix(): planted(path) for path in SOURCE.rglob("*.py")}
    found.pop("runtime/packing/quantizer.py")  # subclasses of transformers' own: imported behind transformers, and by nobody else
    found.pop("runtime/gpu/kernel.py")  # kernels are functions of the module in Triton's language; imported where one is launched
    assert not {name: packages for name, packages in found.items() if packages}


def test_the_help_page_does_not_wait_for_torch():
    assert "torch" not in modules_after("import pomona.cli")
