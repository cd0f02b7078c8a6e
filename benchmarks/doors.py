"""CPU time of the help, of mistyped commands and of imports, compared with importing the command line's libraries.

python benchmarks/doors.py
"""

import argparse
import resource
import subprocess
import sys

BASE = "import typer, rich"
DOORS = [
    "--help",
    "--version",
    "convrt",
    "convert --help",
    "convert logs --help",
    "preprocess --help",
    "benchmark --help",
    "benchmark --modle",
    "analyze groups --help",
]
CODE = "import sys; from recbole_gserec.cli.main import main; sys.argv[0] = 'gserec'; main()"


def seconds(code: str, *arguments: str, times: int) -> float:
    """Minimum CPU time of several runs; other programs can only add to it."""
    taken = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7, help="runs of each")
    times = parser.parse_args().times
    base = seconds(BASE, times=times)
    print("| | processor, s | of the first |\n| --- | ---: | ---: |")
    print(f'| `python -c "{BASE}"` | {base:.2f} | 1.0 |')
    rows = [("`import recbole_gserec`", seconds("import recbole_gserec", times=times))]
    rows += [(f"`gserec {door}`", seconds(CODE, *door.split(), times=times)) for door in DOORS]
    for name, taken in rows:
        print(f"| {name} | {taken:.2f} | {taken / base:.1f} |")


if __name__ == "__main__":
    main()
