"""What mkdocstrings does with every docstring before it is rendered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import prepared
from names import linked


class Docstrings(griffe.Extension):
    """Prepare every docstring for Markdown."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object once it is loaded."""
        if obj.docstring is not None:
            package = obj.path.split(".")[1] if "." in obj.path else ""
            obj.docstring.value = linked(prepared(obj.docstring.value), package)
