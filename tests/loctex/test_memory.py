"""Memory that a step frees and takes again stays with the process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from loctex import cli
if sys.argv[1] == "kept":
    cli.keep_freed_memory()
def step():
    return sum(torch.ones(8 << 20).sum() for _ in range(4))  # 32 MB each
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's malloc")
def test_a_steps_memory_is_not_asked_of_the_system_again():
    def pages(how: str) -> int:
        command = [sys.executable, "-c", PROGRAM, how]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(result.stdout)

    assert pages("kept") < 100
    assert pages("given back") > 1000
