"""Users per second when GSERec recommends the best ten of all items, as ``gserec recommend`` does.

With --retrieve, the model has a next-item head, and it ranks only the items that this head retrieves.

Example: python benchmarks/recommending.py --data dataset --dataset ml-100k-search --users 500
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from loading import arguments, cpu_seconds, load, peak_gib, quiet_single_thread, report


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="GSERec")
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--retrieve", type=int, default=0, help="items to retrieve for each user; 0 ranks all")
    parser.add_argument("--repeat", type=int, default=2, help="the median of this many repeats counts")
    args = parser.parse_args()
    quiet_single_thread()
    head = {"lambda_next_item": 1.0} if args.retrieve else {}
    loaded = load(args.model, args.dataset, args.data, history=args.history, **head)
    from recbole_gserec.recommend import Recommender, load_trained

    with tempfile.TemporaryDirectory() as folder:
        trainer = loaded.trainer(loaded.model())
        trainer.saved_model_file = str(Path(folder) / "untrained.pth")
        trainer._save_checkpoint(0, verbose=False)
        trained = load_trained(trainer.saved_model_file)
    recommender = Recommender(trained)
    users = recommender.choose().users[: args.users]

    def recommend() -> None:
        for _ in recommender.recommend(users, 10, retrieve=args.retrieve):
            pass

    seconds = cpu_seconds(recommend, args.repeat)
    measured = {
        "users": len(users),
        "items": int(trained.dataset.item_num - 1),
        "users_per_second": len(users) / seconds,
        "peak_gib": peak_gib(),
    }
    report(measured, args.json)


if __name__ == "__main__":
    main()
