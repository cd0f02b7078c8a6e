"""A language model of some thousand random weights, with a tokenizer trained on a few sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SENTENCES = [
    "The user likes war films, and slow dramas about the war.",
    "Alien; horror and science fiction of 1979, sci-fi",
    "\u6211\u60f3\u8981\u4e00\u53cc\u597d\u770b\u7684\u978b\u5b50\uff0c\u8dd1\u978b\u6216\u8005\u76ae\u978b\u90fd\u53ef\u4ee5\u3002",
]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<user>{{ message['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)


def save_tokenizer(folder: Path, template: str | None = TEMPLATE, end: str | None = "<end>") -> Path:
    """Save a byte-level BPE of 300 tokens: common words are one token, rare characters are several."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "<end>", "<user>", "<bot>"],
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token=end)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def save_model(folder: Path, end: int | list[int] | None = 1, seed: int = 0, **generation: Any) -> Path:
    """Save a Llama beside its tokenizer; ``generation`` are its own defaults for generating."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        # Weights of the usual size would make nearly the same logits of everything.
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=end,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=end, **generation)
    model.save_pretrained(folder)
    return folder
