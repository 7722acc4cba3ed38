"""The shape of the house: sizes, import arrows, docstrings, and what `import hornbeam` loads."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "hornbeam"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

# Who may import whom: a package sees its own rank and those below. Every module directly under hornbeam/ stands here.
RANKS = (
    ("graph",),
    ("core",),
    ("ops",),
    ("activations", "initializers", "regularizers", "constraints"),
    ("layers", "optimizers", "losses", "metrics"),
    ("training", "inspect", "saving", "export", "distribution", "adapt"),
    ("models",),
    ("compat", "applications", "datasets", "utils", "config", "random", "tree", "dtype_policies"),
    ("backend", "mixed_precision", "callbacks", "preprocessing"),
    ("hornbeam",),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}

CLASS_BUDGETS = {
    "layers.dense.Dense": 60,
    "layers.convolution.BaseConv": 120,
    "layers.normalization.BatchNormalization": 90,
    "layers.recurrent.LSTMCell": 60,
    "core.layer.Layer": 400,
}

# Heavy, and not needed to describe a model.
FORBIDDEN = (
    "torch._dynamo", "torch._inductor", "sympy", "rich", "pandas", "matplotlib",
    "sklearn", "scipy", "h5py", "keras", "tensorflow", "jax",
)  # fmt: skip


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dotted(path: Path) -> str:
    """Returns the name below hornbeam: `core.layer`; the package's own name for the front door."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "hornbeam"


MODULES = {dotted(path): path for path in FILES}


def length(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def code_lines(node: ast.AST, source: list[str]) -> int:
    """Counts the lines of a node that are neither blank, nor comment, nor docstring."""
    silent = set()
    for inner in ast.walk(node):
        body = getattr(inner, "body", None)
        if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(inner) is not None:
            silent.update(range(body[0].lineno, body[0].end_lineno + 1))
    lines = ((number, source[number - 1].strip()) for number in range(node.lineno, node.end_lineno + 1))
    return sum(1 for number, text in lines if number not in silent and text and not text.startswith("#"))


def find_class(name: str) -> tuple[ast.ClassDef, list[str]]:
    """Finds a class by `package.file.Class`, or in another file of the same package when it has moved there."""
    package, title = name.split(".")[0], name.rsplit(".", 1)[1]
    for module, path in MODULES.items():
        if module.split(".")[0] == package:
            for node in TREES[path].body:
                if isinstance(node, ast.ClassDef) and node.name == title:
                    return node, path.read_text(encoding="utf-8").splitlines()
    raise LookupError(f"no class {title} in hornbeam.{package}")


def for_type_checkers(tree: ast.AST) -> set[ast.AST]:
    """Returns the nodes under `if TYPE_CHECKING:`; they are no imports at run time."""
    guards = (node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    return {inner for guard in guards for statement in guard.body for inner in ast.walk(statement)}


def imports(module: str) -> Iterator[tuple[int, str]]:
    """Yields line and target of each import of a hornbeam module, also of those inside functions."""
    path = MODULES[module]
    skipped = for_type_checkers(TREES[path])
    home = path.parent.relative_to(PACKAGE.parent).parts
    for node in ast.walk(TREES[path]):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(home[: len(home) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == "hornbeam" or name.startswith("hornbeam."):
                yield node.lineno, resolve(name)


def resolve(name: str) -> str:
    """Shortens `hornbeam.core.layer.Layer` to the module that holds it: `core.layer`."""
    below = name.removeprefix("hornbeam").lstrip(".")
    while below and below not in MODULES:
        below = below.rpartition(".")[0]
    return below or "hornbeam"


def top(module: str) -> str:
    return module.split(".")[0]


def test_files_are_small():
    sizes = {label(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {name: size for name, size in sizes.items() if size > 600}
    large = {name: size for name, size in sizes.items() if size > 400}
    assert len(large) <= 0.1 * len(sizes), large


def test_functions_are_small():
    sizes = {f"{label(path)}:{node.lineno} {node.name}": length(node) for path, tree in TREES.items() for node in functions(tree)}
    long = {name: size for name, size in sizes.items() if size > 60}
    assert len(long) <= 0.03 * len(sizes), long


@pytest.mark.parametrize(("name", "budget"), CLASS_BUDGETS.items())
def test_class_budgets(name, budget):
    node, source = find_class(name)
    assert code_lines(node, source) <= budget


SAMPLE = '''class A:
    """One.

    Two.
    """

    # three
    x = 1

    def f(self):
        """Four."""
        return 4
'''


def test_code_lines_leaves_out_what_is_no_code():
    assert code_lines(ast.parse(SAMPLE).body[0], SAMPLE.splitlines()) == 4


@pytest.mark.parametrize("module", MODULES)
def test_import_arrows(module):
    assert top(module) in RANK, f"give hornbeam.{top(module)} a rank in RANKS"
    upward = [f"line {line}: {target}" for line, target in imports(module) if RANK[top(target)] > RANK[top(module)]]
    assert not upward, f"hornbeam.{module} imports from above its rank: {upward}"


def test_packages_import_each_other_in_no_circle():
    arrows: dict[str, set[str]] = {}
    for module in MODULES:
        arrows.setdefault(top(module), set()).update(top(target) for _, target in imports(module) if top(target) != top(module))
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_folders_are_two_levels_deep_at_most():
    assert not [label(path) for path in FILES if len(path.relative_to(PACKAGE).parts) > 3]


def test_no_star_imports():
    stars = [
        f"{label(path)}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]
    assert not stars


def test_modules_and_public_classes_have_docstrings():
    silent = [label(path) for path, tree in TREES.items() if tree.body and not ast.get_docstring(tree)]
    silent += [
        f"{label(path)}:{node.lineno} {node.name}"
        for path, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert not silent


def test_examples_are_short():
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "examples").glob("*.py")}
    assert sizes
    assert not {name: size for name, size in sizes.items() if size >= 80}


def loaded_by(code: str) -> set[str]:
    """Returns the modules that the code loads in a fresh process, over those of `import torch`."""
    program = f"import sys, torch\nbefore = set(sys.modules)\n{code}\nprint('== loaded', *(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("== loaded")[2].split())


def heavy(modules: set[str], allowed: tuple[str, ...] = ()) -> list[str]:
    names = [name for name in FORBIDDEN if name not in allowed]
    return sorted(m for m in modules if any(m == name or m.startswith(name + ".") for name in names))


def test_import_is_light():
    modules = loaded_by("import hornbeam")
    assert "hornbeam" in modules
    assert not heavy(modules)
    foreign = [m for m in modules if not m.startswith("hornbeam")]
    assert len(foreign) < 30, sorted(foreign)
    assert len(modules) < 250, sorted(modules)


def test_describing_a_model_loads_no_compiler():
    modules = loaded_by("""
import torch.nn.functional as F
import hornbeam as keras
x = inputs = keras.Input((28, 28, 1))
x = torch.relu(keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3)(x)))
x = F.gelu(keras.layers.Flatten()(x) * 2)
keras.Model(inputs, keras.layers.Dense(10)(x)).summary()
""")
    assert "hornbeam.layers" in modules
    assert not heavy(modules, allowed=("rich",))
