import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_task():
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tiny_task
