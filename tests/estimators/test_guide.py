"""The blocks of Python in docs/estimators.md."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/estimators.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def test_the_blocks_run_one_after_another():
    defined = {"__name__": "guide"}
    for code in BLOCKS:
        exec(compile(code, str(PAGE), "exec"), defined)
        if code == BLOCKS[0]:
            assert (defined["x"] - 1).abs().max() < 0.5
