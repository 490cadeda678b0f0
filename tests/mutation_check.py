"""Break lines of src at random places, one at a time, and see whether the fast tests of that package notice.

    python tests/mutation_check.py --lines 30 --seed 0 --jobs 2

A change that survives the fast tests is run against the slow ones of its package: those that only these catch are what
the fast tier has lost. What survives both may be equivalent code; it is printed, to be read. Each change is made in a
copy of the checkout.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parent.parent
FAST_SECONDS = 600  # a loop without end is noticed as well

# Files directly in steepest/ have no folder of tests.
TESTS = {
    "train": ["tests/test_train.py", "tests/compare"],
    "errors.py": ["tests/test_errors.py"],
    "_check.py": ["tests/test_check.py"],
    "_figure.py": ["tests/test_figure.py"],
    "_contained.py": ["tests/test_contained.py"],
    "_frozen.py": ["tests/init", "tests/diagnose"],
    "_layers.py": ["tests/optim", "tests/init"],
    "_series.py": ["tests/linearize", "tests/diagnose", "tests/implicit_bias"],
    "_files.py": ["tests/report", "tests/test_cli.py"],
    "_random.py": ["tests/test_train.py", "tests/init"],
    "_sharding.py": ["tests/optim", "tests/init"],
    "cli": ["tests/test_cli.py", "tests/implicit_bias/test_command.py", "tests/features/test_command.py"],
}

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}


@dataclass(frozen=True)
class Mutation:
    """One change: the file, the line, and the line's text before and after."""

    path: Path
    line: int
    before: str
    after: str
    text: str


def sites(tree: ast.Module) -> list[ast.AST]:
    """Return the nodes inside of functions that can be changed; annotations, docstrings and messages are left out."""
    found: list[ast.AST] = []

    def visit(node: ast.AST, inside: bool) -> None:
        inside = inside or isinstance(node, (ast.FunctionDef, ast.Lambda))
        if isinstance(node, ast.Raise):
            return
        if inside and (
            isinstance(node, (ast.Compare, ast.BoolOp))
            or (isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in SWAPS)
            or (isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)))
            or (isinstance(node, ast.Constant) and type(node.value) in (int, float, bool))
            or (isinstance(node, (ast.If, ast.IfExp, ast.While)))
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
            or (isinstance(node, ast.Return) and node.value is not None)
        ):
            found.append(node)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list") or isinstance(node, ast.JoinedStr):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, inside)

    visit(tree, inside=False)
    return found


def changed(node: ast.AST, source: str) -> tuple[ast.AST, str] | None:
    """Return the part of the source that is replaced, as a node, and what replaces it."""
    new: ast.AST | None = None
    target: ast.AST = node
    if isinstance(node, ast.Compare):
        if type(node.ops[0]) not in SWAPS:
            return None
        new = ast.Compare(node.left, [SWAPS[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        new = ast.BoolOp(SWAPS[type(node.op)](), node.values)
    elif isinstance(node, ast.BinOp):
        new = ast.BinOp(node.left, SWAPS[type(node.op)](), node.right)
    elif isinstance(node, ast.AugAssign):
        new = ast.AugAssign(node.target, SWAPS[type(node.op)](), node.value)
    elif isinstance(node, ast.UnaryOp):
        new = node.operand
    elif isinstance(node, ast.Constant):
        new = ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        target, new = node.test, ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Expr):
        new = ast.Constant(None)
    elif isinstance(node, ast.Return):
        new = ast.Return(ast.Constant(None))
    if new is None or ast.get_source_segment(source, target) is None:
        return None
    text = ast.unparse(ast.fix_missing_locations(new))
    return target, text if isinstance(new, (ast.Return, ast.AugAssign)) else f"({text})"


def draw(lines: int, seed: int, only: list[str]) -> list[Mutation]:
    """Choose lines uniformly among those of src that can be changed, and one change in each."""
    by_line: dict[tuple[Path, int], list[ast.AST]] = {}
    for path in sorted((ROOT / "src/steepest").rglob("*.py")):
        part = path.relative_to(ROOT / "src/steepest").parts[0]
        if part in ("__init__.py", "__main__.py", "_version.py", "_shapes.py") or (only and part not in only):
            continue
        for node in sites(ast.parse(path.read_text())):
            by_line.setdefault((path, node.lineno), []).append(node)
    rng = random.Random(seed)
    keys = sorted(by_line)
    rng.shuffle(keys)
    found: list[Mutation] = []
    for path, line in keys:
        source = path.read_text()
        change = changed(rng.choice(by_line[path, line]), source)
        if change is None:
            continue
        target, new = change
        # Columns of the syntax tree count bytes.
        rows = source.encode().splitlines(keepends=True)
        start = sum(map(len, rows[: target.lineno - 1])) + target.col_offset
        stop = sum(map(len, rows[: target.end_lineno - 1])) + target.end_col_offset
        text = (source.encode()[:start] + new.encode() + source.encode()[stop:]).decode()
        compile(text, str(path), "exec")
        if ast.dump(ast.parse(text)) == ast.dump(ast.parse(source)):
            continue
        old = " ".join(source.encode()[start:stop].decode().split())
        found.append(Mutation(path.relative_to(ROOT), target.lineno, old, new, text))
        if len(found) == lines:
            break
    return found


def tests_of(path: Path) -> list[str]:
    """Return the tests of a file's package, its doctests, and those of what public functions refuse."""
    part = path.relative_to("src/steepest").parts[0]
    own = TESTS.get(part, [f"tests/{part.removesuffix('.py')}"])
    return [*own, f"src/steepest/{part}", "tests/public"]


def notice(copy: Path, mutation: Mutation, tier: str, seconds: int) -> str:
    """Run the tests of a tier in the copy; return the first failure, "" if there is none."""
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", tier]
    try:
        done = subprocess.run(
            [*command, *tests_of(mutation.path)],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return "ran out of time"
    if done.returncode in (0, 5):  # 5: there are none
        return ""
    if "file or directory not found" in done.stderr:
        raise RuntimeError(f"name the tests of {mutation.path} in TESTS: {done.stderr}")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0][:110] if failed else (done.stdout + done.stderr).strip().splitlines()[-1][:110]


def judge(mutation: Mutation, copies: Queue[Path], slow_seconds: int) -> tuple[Mutation, str, str]:
    """Return what becomes of a change: "fast", "slow" or "survived", and which test noticed."""
    copy = copies.get()
    path = copy / mutation.path
    original = path.read_text()
    try:
        path.write_text(mutation.text)
        if why := notice(copy, mutation, "not slow", FAST_SECONDS):
            return mutation, "fast", why
        why = notice(copy, mutation, "slow", slow_seconds) if slow_seconds else "its slow tests were not run"
        return mutation, "slow" if why.startswith(("FAILED", "ERROR")) else "survived", why
    finally:
        path.write_text(original)
        copies.put(copy)


def main() -> None:
    """Draw, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--slow-seconds", type=int, default=2400, help="0 leaves the slow tests out")
    parser.add_argument("packages", nargs="*", help="only these folders or files of src/steepest")
    options = parser.parse_args()
    mutations = draw(options.lines, options.seed, options.packages)
    counts = {"fast": 0, "slow": 0, "survived": 0}
    with tempfile.TemporaryDirectory() as folder:
        copies: Queue[Path] = Queue()
        for job in range(options.jobs):
            ignored = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", ".hypothesis")
            copies.put(Path(shutil.copytree(ROOT, Path(folder, str(job)), ignore=ignored)))
        begun = time.monotonic()
        with ThreadPoolExecutor(options.jobs) as pool:
            for mutation, tier, why in pool.map(lambda one: judge(one, copies, options.slow_seconds), mutations):
                counts[tier] += 1
                print(f"{tier:9}{mutation.path}:{mutation.line}: {mutation.before} -> {mutation.after}", flush=True)
                if why:
                    print(f"         {why}", flush=True)
        print(*(f"{count} {tier}" for tier, count in counts.items()), sep=", ", end=f" of {len(mutations)}")
        print(f"; {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
