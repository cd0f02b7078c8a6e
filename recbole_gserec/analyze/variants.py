"""The rows of Table 3 of GSERec: the full model, and the model without each part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.preprocess.code_record import read_code_record
from recbole_gserec.preprocess.other_codes import other_codes

WEIGHT_OF_CODES = "lambda_rq_cl"


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        name: Name in the command.
        label: Printed name.
        settings: Settings on top of the full model's.
    """

    name: str
    label: str
    settings: Mapping[str, Any]

    @property
    def has_own_codes(self) -> bool:
        """Whether its users have other codes than the dataset's."""
        return WEIGHT_OF_CODES in self.settings


FULL = Variant("full", "GSERec", {})
VARIANTS = (
    Variant("rq-cl", "w/o L_RQ-CL", {WEIGHT_OF_CODES: 0.0}),
    Variant("graph", "w/o U-C Graph", {"use_user_code_graph": False}),
    Variant("u-cl", "w/o L_U-CL", {"lambda_u_cl": 0.0}),
    Variant("his-cl", "w/o L_His-CL", {"lambda_his_cl": 0.0}),
    Variant("mca", "w/o MCA", {"use_code_fusion": False}),
)
"""In the order of the paper."""


def chosen_variants(names: list[str]) -> tuple[Variant, ...]:
    """Return the variants with these names, in the paper's order; all by default.

    Raises:
        SettingError: For an unknown name.
    """
    known = [variant.name for variant in VARIANTS]
    for name in names:
        if name not in known:
            raise SettingError(f"--without is '{name}'; it takes {', '.join(known)}")
    return tuple(variant for variant in VARIANTS if not names or variant.name in names)


def check_variants(variants: tuple[Variant, ...], settings: Mapping[str, Any]) -> None:
    """Refuse variants that equal the full model under the common settings, or that would override those settings.

    Raises:
        SettingError: With the setting.
    """
    for variant in variants:
        for name, value in variant.settings.items():
            if name in settings and settings[name] == value:
                raise SettingError(f"{name} is {settings[name]}, so the full model is the same as '{variant.label}'")
    if any(variant.has_own_codes for variant in variants) and settings.get("code_path"):
        raise SettingError(
            "code_path is set, so 'w/o L_RQ-CL' would use the same codes. Name the other parts with --without"
        )


def variant_code_settings(variant: Variant, dataset: str, data_path: Path, output: Path) -> dict[str, Any]:
    """Return the settings of a variant with its own codes. They are made like the dataset's, but without one part.

    The codes are stored in a separate file; summaries and vectors come from the dataset's store.

    Args:
        variant: The variant.
        dataset: Name of the dataset, whose codes exist.
        data_path: Parent folder of all datasets.
        output: Folder of the ablation.

    Raises:
        DataError: If it is unknown how the dataset's codes were made, or they were made without that part.
    """
    prefix = Path(data_path).absolute() / dataset / dataset
    code_file = prefix.with_name(f"{dataset}.code")
    remedy = "Make the codes by gserec preprocess, or leave out this variant (--without)"
    record = read_code_record(code_file, remedy)
    for name, value in variant.settings.items():
        if record.settings.get(name) == value:
            raise DataError(code_file, f"made with {name}={value}: '{variant.label}' would be the same", remedy)
    deciding = json.loads(json.dumps({**record.non_default_settings(dataset), **variant.settings}))
    return {**other_codes(Path(output).absolute(), prefix.parents[1], dataset, deciding), **deciding}
