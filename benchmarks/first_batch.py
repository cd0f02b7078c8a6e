"""Time and peak memory from raw files to the first training batch, for one model in a fresh process.

Example: python benchmarks/first_batch.py --data /tmp/data --dataset generated --model GSERec
Compare with RecBole's own dataset on the interactions alone: --model SASRec
"""

from __future__ import annotations

import argparse
import resource
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of all datasets")
    parser.add_argument("--dataset", default="generated")
    parser.add_argument("--model", default="GSERec")
    parser.add_argument("--history", type=int, default=10, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--evaluation", action="store_true", help="also make the first validation batch")
    args = parser.parse_args()
    sys.argv = sys.argv[:1]

    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.data.utils import create_samplers, get_dataloader

    import recbole_gserec  # noqa: F401

    baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    settings = {"data_path": args.data, "MAX_ITEM_LIST_LENGTH": args.history, "MAX_SEARCH_LIST_LENGTH": args.history}
    config = Config(args.model, args.dataset, config_dict=settings)
    start = time.perf_counter()
    dataset = create_dataset(config)
    built = dataset.build()
    samplers = create_samplers(config, dataset, built)
    train = get_dataloader(config, "train")(config, built[0], samplers[0], shuffle=True)
    next(iter(train))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{args.model}: first batch after {seconds:.1f} s, peak {peak:.2f} GiB ({baseline:.2f} GiB of it imports)")
    if args.evaluation:
        start = time.perf_counter()
        valid = get_dataloader(config, "valid")(config, built[1], samplers[1], shuffle=False)
        next(iter(valid))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        seconds = time.perf_counter() - start
        print(f"{args.model}: candidates and first validation batch after {seconds:.1f} s, peak {peak:.2f} GiB")


if __name__ == "__main__":
    main()
