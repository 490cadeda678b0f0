"""Rows of steepest.report."""

from __future__ import annotations

from tests.public.kinds import OBJECT, PATH, TEXT
from tests.public.rows import Fresh, Result, Row, row
from tests.public.table_compare import comparison
from tests.public.table_features import result

COMMAND = ("steepest features", TEXT)

TABLE: dict[str, Row | Result] = {
    "report.as_json": row(result=(Fresh(result), OBJECT), command=COMMAND),
    "report.write": row(result=(Fresh(comparison), OBJECT), folder=("results", PATH), command=COMMAND),
    "report.write_page": row(result=(Fresh(result), OBJECT), path=("report.html", PATH), command=COMMAND),
}
