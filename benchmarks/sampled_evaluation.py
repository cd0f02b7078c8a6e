"""Time of one evaluation among 99 sampled items of RecBole's own models: by RecBole alone, and through this package.

CPU seconds of one thread, which other programs on the machine hardly change. Each measurement has a process of its own;
that of RecBole alone never imports this package. The models are not trained, on which the time does not depend. RecBole
draws negatives anew in each evaluation, this package once, before the first.

Example: python benchmarks/sampled_evaluation.py --data dataset --dataset ml-100k-search --model LightGCN SASRec
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings

import torch

PROTOCOL = {
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni99"},
    "metrics": ["Hit", "NDCG"],
    "topk": [1, 5, 10],
    "valid_metric": "NDCG@5",
    "MAX_ITEM_LIST_LENGTH": 20,
}
# Training is as in each model's own settings; RecBole refuses cross entropy together with its default negatives.
WITH_CROSS_ENTROPY = ("SASRec", "GRU4Rec", "BERT4Rec")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="dataset", help="folder of all datasets")
    parser.add_argument("--dataset", default="ml-100k-search")
    parser.add_argument("--model", nargs="+", default=["LightGCN", "SGL", "GRU4Rec", "SASRec", "BERT4Rec"])
    parser.add_argument("--repeat", type=int, default=5, help="evaluations; the median is reported")
    parser.add_argument("--one", choices=["stock", "package"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.model[0], args.dataset, args.data, args.repeat)))
        return
    print("| model | RecBole alone | this package | times as fast | its candidates, once |")
    print("| --- | --- | --- | --- | --- |")
    for model in args.model:
        stock, ours = (in_own_process(way, model, args) for way in ("stock", "package"))
        print(
            f"| {model} | {stock['evaluation']:.3g} s | {ours['evaluation']:.3g} s "
            f"| {stock['evaluation'] / ours['evaluation']:.3g} | {ours['loader']:.3g} s |",
            flush=True,
        )


def in_own_process(way: str, model: str, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", way, "--model", model, "--dataset", args.dataset]
    command += ["--data", args.data, "--repeat", str(args.repeat)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def measure(way: str, model_name: str, dataset_name: str, data_path: str, repeat: int) -> dict[str, float]:
    """Seconds to make the loader, and the median of an evaluation's."""
    sys.argv = sys.argv[:1]
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if way == "stock":
        restore_removed_names()
    else:
        import recbole_gserec  # noqa: F401
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.data.utils import create_samplers, get_dataloader
    from recbole.utils import get_model, get_trainer, init_seed

    settings = {**PROTOCOL, "data_path": data_path, "show_progress": False, "use_gpu": False}
    if model_name in WITH_CROSS_ENTROPY:
        settings["train_neg_sample_args"] = None
    if way == "stock":
        settings["load_col"] = {"inter": ["user_id", "item_id", "timestamp"]}
    config = Config(model_name, dataset_name, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    built = dataset.build()
    samplers = create_samplers(config, dataset, built)
    start = time.process_time()
    loader = get_dataloader(config, "test")(config, built[2], samplers[2], shuffle=False)
    made = time.process_time() - start
    model = get_model(model_name)(config, built[0])
    trainer = get_trainer(config["MODEL_TYPE"], model_name)(config, model)
    # RecBole learns the items' number from the training data.
    trainer.eval_collector.data_collect(get_dataloader(config, "train")(config, built[0], samplers[0], shuffle=True))
    seconds = []
    for _ in range(repeat):
        # A first evaluation after training propagates embeddings anew; so does each here.
        model.train()
        start = time.process_time()
        trainer.evaluate(loader, load_best_model=False)
        seconds.append(time.process_time() - start)
    return {"loader": made, "evaluation": statistics.median(seconds)}


def restore_removed_names() -> None:
    """What RecBole 1.2 needs of NumPy and SciPy and newer versions lack."""
    import numpy as np
    from scipy.sparse import dok_matrix

    names = {"float": float, "int": int, "object": object, "str": str, "complex": complex, "unicode": str}
    names |= {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "bool": np.bool_, "bool8": np.bool_}
    for name, value in names.items():
        setattr(np, name, value)
    dok_matrix._update = lambda self, data: self._dict.update(data)


if __name__ == "__main__":
    main()
