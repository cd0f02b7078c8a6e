"""The states of all random generators that a training uses, as plain data."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

Generator = torch.Generator | np.random.Generator


def global_states() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's global generators, readable with ``weights_only``."""
    state: Any = np.random.get_state()  # noqa: NPY002  (RecBole draws from it)
    kind, keys, *others = state
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *others),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_global_states(states: dict[str, Any]) -> None:
    """Restore the states from :func:`global_states`."""
    random.setstate(states["python"])
    kind, keys, *others = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *others))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def own_states(*owners: object) -> dict[str, Any]:
    """Return the states of generators that are attributes of objects, or of their modules and dataloaders."""
    return {name: _state(generator) for name, generator in _generators(owners)}


def set_own_states(states: dict[str, Any], *owners: object) -> None:
    """Restore the states from :func:`own_states`, for the same objects in their initial state."""
    for name, generator in _generators(owners):
        state = states[name]
        if isinstance(generator, torch.Generator):
            generator.set_state(state)
            continue
        bits: Any = generator.bit_generator
        bits.state = state["bits"]
        # Generators spawned from this one depend on the number of earlier ones.
        bits.seed_seq.spawn(state["spawned"] - bits.seed_seq.n_children_spawned)


def _state(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    bits: Any = generator.bit_generator
    return {"bits": bits.state, "spawned": bits.seed_seq.n_children_spawned}


def _generators(owners: tuple[object, ...]) -> Iterator[tuple[str, Generator]]:
    for index, owner in enumerate(owners):
        for part, value in _parts(owner):
            for name, attribute in vars(value).items():
                if isinstance(attribute, Generator):
                    yield f"{index}.{part}.{name}", attribute


def _parts(owner: object) -> Iterator[tuple[str, object]]:
    if isinstance(owner, nn.Module):
        yield from owner.named_modules()
        return
    yield "", owner
    # RecBole's dataloader for knowledge graphs has a generator for each of its two kinds of rows.
    yield from ((name, value) for name, value in vars(owner).items() if isinstance(value, DataLoader))
