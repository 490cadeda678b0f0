"""`steepest implicit-bias`."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from steepest.cli import main
from steepest.implicit_bias import RULES, survey


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal that is wide enough for the whole table."""
    monkeypatch.setenv("COLUMNS", "130")


def run(monkeypatch, *arguments):
    """Run the command in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["steepest", "implicit-bias", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0


def rows_of(text):
    """The cells of each rule's row."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]
    return {name: rest for name, *rest in cells}


def test_the_table_of_the_homework(monkeypatch, capsys):
    assert run(monkeypatch, "--matrix", "[[1,.1,.01]]", "--target", "[1]", "--steps", "0") == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["gradient descent"][:2] == ["[.99, .099, .0099]", "yes"]
    assert rows["rescaled features"] == ["[.333, 3.33, 33.3]", "yes", "[.333, .333, .333]", "[.333, 3.33, 33.3]"]
    assert rows["epoch-preconditioned"][:2] == ["[.901, .901, .901]", "yes"]
    assert rows["torch Adam"] == ["no"]
    assert set(rows) >= {name.strip() for name in RULES}


def test_the_module_is_the_same_command():
    shown = subprocess.run(
        [sys.executable, "-m", "steepest", "implicit-bias", "--steps", "0"], check=True, capture_output=True, text=True
    )
    assert "[.99, .099, .0099]" in shown.stdout
    assert shown.stderr == ""


def test_json_holds_every_rule_with_its_reason(monkeypatch, capsys):
    assert run(monkeypatch, "--json", "--steps", "20") == 0
    rows = {row["rule"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["gradient descent"]["point"] == pytest.approx([1 / 1.0101, 0.1 / 1.0101, 0.01 / 1.0101], rel=1e-12)
    assert rows["gradient descent"]["spread"] is None
    assert rows["torch Adam"]["determined"] is False
    assert rows["torch Adam"]["point"] is None
    assert rows["torch Adam"]["spread"] > 0
    assert all(len(row["reason"]) > 30 for row in rows.values())


def test_numbers_come_from_files(monkeypatch, capsys, tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1.0, 0.1, 0.01]]))
    (tmp_path / "b.csv").write_text("1\n")
    arguments = ["--matrix", str(tmp_path / "a.npy"), "--target", str(tmp_path / "b.csv"), "--steps", "0"]
    assert run(monkeypatch, *arguments) == 0
    assert "[.99, .099, .0099]" in capsys.readouterr().out


def test_a_csv_matrix_has_a_row_a_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    assert run(monkeypatch, "--matrix", str(tmp_path / "a.csv"), "--target", "[1, 1]", "--steps", "0") == 0
    assert "[-1, 1]" in capsys.readouterr().out


def test_a_narrow_terminal_gets_the_table_without_its_last_column(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "95")
    assert run(monkeypatch, "--steps", "0") == 0
    shown = capsys.readouterr().out
    assert "other scales" not in shown
    assert rows_of(shown)["gradient descent"] == ["[.99, .099, .0099]", "yes", "[.99, .0099, 9.9e-05]"]


def test_one_equation_comes_from_a_csv_of_one_row(monkeypatch, capsys, tmp_path):
    (tmp_path / "a.csv").write_text("1,.1,.01\n")
    assert run(monkeypatch, "--matrix", str(tmp_path / "a.csv"), "--steps", "0") == 0
    assert "[.99, .099, .0099]" in capsys.readouterr().out


def test_labels_give_directions(monkeypatch, capsys):
    arguments = ["--matrix", "[[2,0],[0,1]]", "--target", "[1,1]", "--loss", "logistic", "--steps", "0"]
    assert run(monkeypatch, *arguments, "--reasons") == 0
    shown = capsys.readouterr().out
    assert "-> [.447, .894]" in shown
    assert "Soudry et al. 2018" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--matrix", "[[1, 2"], "numbers must be a list of finite numbers, as in Python"),
        (["--matrix", "[[1, 2], [3]]"], "the rows of a matrix must have one length"),
        (["--matrix", "nowhere.npy"], "nowhere.npy"),
        (["--matrix", "[1, 2]"], "A must be a matrix"),
        (["--matrix", "[['a']]"], "A must hold numbers"),
        (["--target", "[1, 2]"], "b must be a vector of 1"),
        (["--theta0", "[1]"], "theta0 must be a vector of 3"),
        (["--scales", "[1]"], "scales must be a vector of 3"),
        (["--scales", "[1, 1, -1]"], "scales must be >= 0"),
        (["--loss", "hinge"], "there is no such loss"),
        (["--loss", "logistic", "--target", "[2]"], "labels of the logistic loss must be -1 or 1"),
        (["--matrix", "[[1, 1e400, 1]]"], "A must be finite"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_status_2(monkeypatch, capsys, arguments, says):
    assert run(monkeypatch, *arguments, "--steps", "0") == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_a_rule_that_cannot_start_at_theta0_says_so_and_the_others_go_on(monkeypatch, capsys):
    assert run(monkeypatch, "--theta0", "[-1, 0, 0]", "--steps", "0", "--reasons") == 0
    shown = capsys.readouterr().out
    assert "cannot start there" in rows_of(shown)["mirror, entropy"]
    assert "yes" in rows_of(shown)["gradient descent"]


def test_a_survey_simulates_only_what_is_not_determined():
    rows = {row.name.strip(): row for row in survey([[1.0, 2.0], [2.0, -1.0], [0.3, 0.4]], [1.0, 0.0, 0.7], steps=30)}
    assert rows["gradient descent"].spread is None
    assert rows["gradient descent"].like is not None
    assert rows["sign descent"].prediction.determined is False
    assert len(rows["sign descent"].spread.points) == 6
    assert rows["sign descent"].like is None
