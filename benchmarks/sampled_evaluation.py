"""Time to evaluate RecBole's own models among 99 sampled items, by RecBole alone and with this package.

CPU seconds of one thread, which other programs on the machine hardly change. Each measurement has its own process; that
of RecBole alone never imports this package. The models are untrained, because training does not change the time.
RecBole draws new negatives in each evaluation. This package draws them once, before the first.

Example: python benchmarks/sampled_evaluation.py --data dataset --dataset ml-100k-search --model LightGCN SASRec
"""

from __future__ import annotations

from loading import arguments, cpu_seconds, in_own_process, load, quiet_single_thread, report

PROTOCOL = {
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni99"},
    "metrics": ["Hit", "NDCG"],
    "topk": [1, 5, 10],
    "valid_metric": "NDCG@5",
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", nargs="+", default=["LightGCN", "SGL", "GRU4Rec", "SASRec", "BERT4Rec"])
    parser.add_argument("--repeat", type=int, default=5, help="evaluations; the median is reported")
    parser.add_argument("--one", choices=["stock", "package"], help="one of the two ways, of one model")
    args = parser.parse_args()
    if args.one:
        report(measure(args.one, args.model[0], args), args.json)
        return
    for model in args.model:
        options = ["--data", args.data, "--dataset", args.dataset, "--history", str(args.history), "--model", model]
        options += ["--repeat", str(args.repeat), "--one"]
        stock, ours = (in_own_process("sampled_evaluation.py", *options, way) for way in ("stock", "package"))
        measured = {
            "model": model,
            "stock_seconds": stock["evaluation"],
            "package_seconds": ours["evaluation"],
            "times_as_fast": stock["evaluation"] / ours["evaluation"],
            "candidates_seconds": ours["loader"],
        }
        report(measured, args.json)


def measure(way: str, model_name: str, args) -> dict[str, float]:
    """Seconds to make the dataloader, and median seconds of an evaluation."""
    quiet_single_thread()
    loaded = load(model_name, args.dataset, args.data, history=args.history, stock=way == "stock", **PROTOCOL)
    loaders = []
    made = cpu_seconds(lambda: loaders.append(loaded.loader("test")))
    model = loaded.model()
    trainer = loaded.trainer(model)

    def evaluate() -> None:
        # A first evaluation after training propagates embeddings anew; so does each here.
        model.train()
        trainer.evaluate(loaders[0], load_best_model=False)

    return {"loader": made, "evaluation": cpu_seconds(evaluate, args.repeat)}


if __name__ == "__main__":
    main()
