"""Blocks that are freed are taken again without new pages of the system."""

import os
import platform
import subprocess
import sys

import pytest

LIBRARY, VERSION = platform.libc_ver()
IS_SET = LIBRARY == "glibc" and tuple(map(int, VERSION.split("."))) >= (2, 36)

PAGES = """
import resource
import torch
from recbole_gserec.compute.processes import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

new_pages()
usual = new_pages()
keep_freed_memory()
new_pages()
print(usual, new_pages())
"""


def pages(**environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PAGES], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    usual, kept = map(int, done.stdout.split())
    return usual, kept


@pytest.mark.skipif(not IS_SET, reason="a recent glibc alone is told")
def test_freed_blocks_are_kept():
    usual, kept = pages()
    assert kept < usual / 10


@pytest.mark.skipif(not IS_SET, reason="a recent glibc alone is told")
@pytest.mark.parametrize(
    "environment", [{"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"}]
)
def test_what_the_environment_says_is_left(environment):
    usual, kept = pages(**environment)
    assert kept > usual / 2
