"""Imports point down only, `import vaelab` is light, and the library stays small."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vaelab"
# Floors of the house. A module may import from its own floor and from those below.
FLOORS = [
    ["__init__", "storage", "numbers"],
    ["distributions", "data"],
    ["networks", "objectives"],
    ["models", "autoencoder_kl", "stage1", "features"],
    ["training", "diffusion", "muon", "pretrained"],
    ["latent", "aggregate", "blend", "rate_distortion", "fidelity", "legibility", "metrics", "novelty", "preservation",
     "classifiers", "intervals", "augmentation"],
    ["plots", "exercises", "recipes", "recipes_kl", "check", "report"],
    ["creatives", "audit", "augment"],
    ["widgets"],
    ["cli"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
SMALL = ["distributions", "networks", "objectives", "models", "autoencoder_kl", "training", "storage"]
SMALL = [name for name in SMALL if (PACKAGE / f"{name}.py").exists()]
HEAVY = ["accelerate", "PIL", "matplotlib", "sklearn", "imblearn", "skimage", "scipy", "diffusers", "IPython", "safetensors",
         "ipywidgets", "anywidget", "pooch", "tqdm", "torchvision", "torchmetrics", "rapidocr", "cv2", "onnxruntime"]  # fmt: skip


def module_of(path):
    """The name under vaelab/ by which the floors know a file: `data/ads.py` belongs to `data`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path, text=None):
    """The parts of vaelab that a file imports, anywhere in it."""
    package = ["vaelab", *path.relative_to(PACKAGE).parts[:-1]]
    found = []
    for node in ast.walk(ast.parse(path.read_text() if text is None else text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(base + ([node.module] if node.module else []))
            found += [f"{base}.{alias.name}" for alias in node.names]
    parts = {name.split(".")[1] for name in found if name.startswith("vaelab.")}
    return {name if name in FLOOR or (PACKAGE / f"{name}.py").exists() else "__init__" for name in parts}


def upward(path, text=None):
    return {name for name in imported(path, text) if FLOOR[name] > FLOOR[module_of(path)]}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down(path):
    assert module_of(path) in FLOOR, "give the new module a floor"
    assert upward(path) == set()


def test_an_upward_arrow_is_seen():
    models = PACKAGE / "models.py"
    assert upward(models, "from vaelab.training import fit") == {"training"}
    assert upward(models, "def f():\n    from . import plots, networks") == {"plots"}
    assert upward(models, "import vaelab.training as t") == {"training"}
    assert upward(PACKAGE / "data" / "ads.py", "from ..models import vae") == {"models"}
    assert upward(PACKAGE / "data" / "ads.py", "from .pictures import read") == set()


@pytest.mark.parametrize("name", SMALL)
def test_the_small_library_needs_nothing_above_it(name):
    assert imported(PACKAGE / f"{name}.py") <= {*SMALL, "__init__"}


def loaded(statement):
    """Top-level packages loaded by a statement in a fresh Python."""
    code = (
        f"import json, sys; {statement}; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def test_importing_loads_torch_numpy_and_nothing_more():
    small = ", ".join(f"vaelab.{name}" for name in SMALL)
    by_torch = loaded("import torch, numpy")
    ours = loaded(f"import vaelab, vaelab.data, {small}") - by_torch
    assert ours - sys.stdlib_module_names <= {"vaelab"}
    assert not set(HEAVY) & ours


def code_lines(path):
    """Lines of code in a file: what is left without blank lines, comments and docstrings."""
    source = path.read_text()
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
    documented = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds) and ast.get_docstring(node)
    ]
    prose = {line for node in documented for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    lines = enumerate(source.splitlines(), 1)
    return sum(
        1 for n, line in lines if line.strip() and not line.lstrip().startswith("#") and n not in prose
    )


def test_code_lines_leave_out_blanks_comments_and_docstrings(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(
        '"""One.\n\nTwo."""\n\n# three\nx = 1  # four\n\n\ndef f():\n    """Five."""\n    return x\n'
    )
    assert code_lines(file) == 3


def test_the_library_stays_small():
    assert sum(code_lines(PACKAGE / f"{name}.py") for name in SMALL) <= 1000
    # The exercises' answers and named mistakes come with each chapter, like its text: they have a bound of their own.
    chapters = set(PACKAGE.glob("exercises/chapter*.py"))
    assert sum(code_lines(path) for path in set(PACKAGE.rglob("*.py")) - chapters) < 8000
    assert max(map(code_lines, chapters)) <= 220
