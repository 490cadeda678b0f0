"""The blocks of Python in docs/communication.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/communication.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def test_the_blocks_run_one_after_another():
    defined = {"__name__": "guide"}
    for code in BLOCKS[1:]:
        exec(compile(code, str(PAGE), "exec"), defined)


@pytest.mark.slow
def test_the_program_prints_what_the_page_says(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(BLOCKS[0])
    printed = subprocess.run([sys.executable, program], check=True, capture_output=True, text=True, timeout=60).stdout
    assert printed.strip() == BLOCKS[0].rpartition("# ")[2].strip()
