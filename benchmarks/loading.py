"""Shared by the measuring scripts: RecBole's data and models, CPU time, and separate processes."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

SEARCH_MODELS = ("NRHUB", "QuerySeqRec", "JSR", "USER", "SESRec", "UnifiedSSR", "UniSAR", "GSERec")
# Of RecBole's models; it refuses cross entropy together with its default negatives.
WITH_CROSS_ENTROPY = ("SASRec", "GRU4Rec", "BERT4Rec")


@dataclass
class Loaded:
    """Settings and data of a model.

    Attributes:
        config: RecBole's settings.
        dataset: The whole dataset.
        parts: Its training, validation and test part.
        samplers: RecBole's samplers of the three parts.
    """

    config: Any
    dataset: Any
    parts: Any
    samplers: Any

    def loader(self, phase: str, n_rows: int | None = None) -> Any:
        """Return RecBole's dataloader for a part, or for its first rows."""
        from recbole.data.utils import get_dataloader

        index = ("train", "valid", "test").index(phase)
        part = self.parts[index]
        if n_rows is not None:
            part = part.copy(part.inter_feat[:n_rows])
        return get_dataloader(self.config, phase)(self.config, part, self.samplers[index], shuffle=phase == "train")

    def model(self) -> Any:
        """Create an untrained model."""
        from recbole.utils import get_model

        return get_model(self.config["model"])(self.config, self.parts[0])

    def trainer(self, model: Any) -> Any:
        """Create a trainer of ``model`` that knows the number of items, as after training."""
        from recbole.utils import get_trainer

        trainer = get_trainer(self.config["MODEL_TYPE"], self.config["model"])(self.config, model)
        trainer.eval_collector.data_collect(self.loader("train"))
        return trainer


def load(model: str, dataset: str, data: str, *, history: int = 20, stock: bool = False, **settings: Any) -> Loaded:
    """Read a dataset for a model.

    Args:
        model: Name of the model.
        dataset: Name of the dataset.
        data: Folder of all datasets.
        history: Maximum length of a history.
        stock: Whether to use RecBole alone, on interactions; this package must not be imported before.
        settings: Further settings of RecBole.
    """
    if stock:
        restore_removed_names()
        settings["load_col"] = {"inter": ["user_id", "item_id", "timestamp"]}
    else:
        import recbole_gserec  # noqa: F401
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.data.utils import create_samplers
    from recbole.utils import init_seed

    settings |= {"data_path": data, "show_progress": False, "use_gpu": False, "MAX_ITEM_LIST_LENGTH": history}
    if not stock:
        settings["MAX_SEARCH_LIST_LENGTH"] = history
    if model in WITH_CROSS_ENTROPY:
        settings["train_neg_sample_args"] = None
    config = Config(model, dataset, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    whole = create_dataset(config)
    parts = whole.build()
    return Loaded(config, whole, parts, create_samplers(config, whole, parts))


def restore_removed_names() -> None:
    """Restore names that RecBole 1.2 needs and newer versions of NumPy and SciPy removed."""
    import numpy as np
    from scipy.sparse import dok_matrix

    names = {"float": float, "int": int, "object": object, "str": str, "complex": complex, "unicode": str}
    names |= {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "bool": np.bool_, "bool8": np.bool_}
    for name, value in names.items():
        setattr(np, name, value)
    dok_matrix._update = lambda self, data: self._dict.update(data)


def cpu_seconds(function: Callable[[], Any], repeat: int = 1) -> float:
    """Median CPU seconds of a call; other programs on the machine hardly change them."""
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def peak_gib() -> float:
    """Peak physical memory of this process in GiB, as reported by Linux."""
    # Not getrusage: it counts what the process held before it became another program.
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Create a parser with the options that all measuring scripts share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="dataset", help="folder of all datasets")
    parser.add_argument("--dataset", default="ml-100k-search")
    parser.add_argument("--history", type=int, default=20, help="events kept of each history")
    parser.add_argument("--json", action="store_true", help="print one line of JSON last")
    return parser


def quiet_single_thread() -> None:
    """Use one thread, and hide the script's options from RecBole."""
    sys.argv = sys.argv[:1]
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)


def report(measured: dict[str, Any], as_json: bool) -> None:
    """Print the measurements."""
    if as_json:
        print(json.dumps(measured), flush=True)
        return
    for name, value in measured.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}", flush=True)


def in_own_process(script: str, *options: str) -> dict[str, Any]:
    """Run a script of this folder with ``--json``; return its last line."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *options, "--json"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])
