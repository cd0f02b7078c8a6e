"""Time and peak memory from raw files to the first training batch, for one model in a fresh process.

Example: python benchmarks/first_batch.py --data data --dataset generated --history 10 --model GSERec
RecBole alone, on the interactions: --model SASRec --stock
"""

from __future__ import annotations

import time

from loading import arguments, load, peak_gib, quiet_single_thread, report


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="GSERec")
    parser.add_argument("--stock", action="store_true", help="RecBole without this package, on the interactions alone")
    args = parser.parse_args()
    quiet_single_thread()
    import recbole.quick_start  # noqa: F401

    if not args.stock:
        import recbole_gserec  # noqa: F401
    imports, start, cpu_start = peak_gib(), time.perf_counter(), time.process_time()
    loaded = load(args.model, args.dataset, args.data, history=args.history, stock=args.stock)
    next(iter(loaded.loader("train")))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    report({"cpu_seconds": cpu, "seconds": seconds, "peak_gib": peak_gib(), "imports_gib": imports}, args.json)


if __name__ == "__main__":
    main()
