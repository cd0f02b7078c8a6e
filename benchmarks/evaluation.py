"""Users per second of a model's evaluation: among 99 sampled items (uni99), or all items (full).

CPU seconds of one thread. Drawing candidates is not included, because it happens once. The model is untrained, because
training does not change the time.

Example: python benchmarks/evaluation.py --data dataset --dataset ml-100k-search --model GSERec --mode full --users 500
"""

from __future__ import annotations

from loading import arguments, cpu_seconds, load, peak_gib, quiet_single_thread, report


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="GSERec")
    parser.add_argument("--mode", choices=["uni99", "full"], default="uni99")
    parser.add_argument("--users", type=int, default=1000, help="evaluate this many, the first")
    args = parser.parse_args()
    quiet_single_thread()
    splitting = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": args.mode}
    loaded = load(args.model, args.dataset, args.data, history=args.history, eval_args=splitting)
    model = loaded.model()
    trainer, loader = loaded.trainer(model), loaded.loader("test", args.users)

    def evaluate() -> None:
        # A first evaluation after training propagates embeddings anew; so does each here.
        model.train()
        trainer.evaluate(loader, load_best_model=False)

    evaluate()
    n_users = min(args.users, len(loaded.parts[2]))
    measured = {"users": n_users, "users_per_second": n_users / cpu_seconds(evaluate, 3), "peak_gib": peak_gib()}
    report(measured, args.json)


if __name__ == "__main__":
    main()
