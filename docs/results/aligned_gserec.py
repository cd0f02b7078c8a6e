r"""GSERec with the alignment of queries and clicked items that SESRec and UniSAR have, and its paper has not.

``python aligned_gserec.py`` trains it on ml-100k-search as the benchmark trains GSERec.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml
from recbole.data.interaction import Interaction
from recbole.quick_start import run_recbole
from torch import Tensor

from recbole_gserec import register_model
from recbole_gserec.layers import QueryItemAlignment, clicked_pairs
from recbole_gserec.models import GSERec
from recbole_gserec.settings import model_settings

ALIGNMENT = {name: model_settings("SESRec")[name] for name in ("lambda_align", "tau_align", "n_align_negatives")}


class AlignedGSERec(GSERec):
    """GSERec with one more loss."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.lambda_align = config["lambda_align"]
        self.alignment = QueryItemAlignment(
            config["embedding_size"],
            len(dataset.query_words),
            self.n_items,
            config["n_align_negatives"],
            config["tau_align"],
        )

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        losses = super().calculate_loss(interaction)
        if self.lambda_align == 0:
            return losses
        pairs = clicked_pairs(
            interaction["search_query_id_list"], interaction["search_item_ids_list"], self.search_mask(interaction)
        )
        embed = self.session_embedding.query_embedding, self.item_embedding
        self.loss_names = (*self.loss_names, "align")
        return *losses, self.lambda_align * self.alignment(*pairs, *embed)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "AlignedGSERec.yaml"
        settings.write_text(yaml.safe_dump({**model_settings("GSERec"), **ALIGNMENT}), encoding="utf-8")
        register_model(AlignedGSERec, settings)
        benchmark = {"epochs": 100, "eval_candidate_seed": 2020}
        run_recbole(model="AlignedGSERec", dataset="ml-100k-search", config_dict=benchmark)
