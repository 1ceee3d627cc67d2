"""A batch program, and what it starts, leave others the processors; twice is no lower than once."""

import subprocess
import sys

PROGRAM = """
import os, subprocess, sys
from batch.give_way import give_way
give_way()
give_way()
print(os.nice(0))
subprocess.run([sys.executable, "-c", "import os; print(os.nice(0))"], check=True)
"""


def test_a_batch_program_and_its_children_have_a_low_priority() -> None:
    said = subprocess.run([sys.executable, "-u", "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["10", "10"]
