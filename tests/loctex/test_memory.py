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
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
before = pages()
for _ in range(20):
    step()
print(pages() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's malloc")
def test_a_steps_memory_is_not_asked_of_the_system_again():
    def pages(how: str) -> int:
        command = [sys.executable, "-c", PROGRAM, how]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(result.stdout)

    given_back = pages("given back")
    assert given_back > 20_000
    # Not none: a small thing that happens to lie behind a freed tensor makes the heap longer by one
    # tensor, now and then.
    assert pages("kept") < given_back / 4
