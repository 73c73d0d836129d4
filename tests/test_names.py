"""Names say what a thing is: those that name nothing are counted, and are few."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Participles and pronouns: what was done to a thing, not what it is.
NAMING_NOTHING = set(
    "wanted given told said found kept known shown chosen asked made taken seen looked listed "
    "left done read drawn both each part parts one ones other others rest these those first "
    "last whole here there".split()
)


def bound_names(tree: ast.AST) -> list[str]:
    """The names that arguments, assignments and loops bind."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            names.append(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
    return names


def test_at_most_one_and_a_half_percent_of_the_bound_names_name_nothing():
    names = []
    for package in ("loctex", "data_tools", "ui"):
        for file in (ROOT / package).rglob("*.py"):
            names += bound_names(ast.parse(file.read_text()))
    nothing = [name for name in names if name.strip("_") in NAMING_NOTHING]
    assert len(names) > 10_000
    assert len(nothing) <= 0.015 * len(names)


def test_no_line_escapes_the_formatter():
    mark = "# fmt: " + "skip"
    files = [file for file in ROOT.rglob("*.py") if ".venv" not in file.parts]
    assert [file for file in files if mark in file.read_text()] == []
