"""Which settings a run is given, and what is refused before anything starts."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from recbole.model.sequential_recommender import SASRec

from recbole_gserec import register_model
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.models import SearchRecommender
from recbole_gserec.plugin import forget_model
from recbole_gserec.runs.plan import (
    Request,
    canonical,
    plan_entries,
    read_model_settings,
    read_preset,
    read_shared_settings,
    with_objective,
)
from recbole_gserec.runs.prepare import dataset_digest, derived_digests, missing_derived

TABLE_2 = (
    "LightGCN SGL SimGCL GRU4Rec SASRec BERT4Rec CL4SRec KAR LLMESR "
    "NRHUB QuerySeqRec JSR USER SESRec UnifiedSSR UniSAR GSERec"
).split()
PROTOCOL = {
    "epochs": 100,
    "stopping_step": 4,
    "train_batch_size": 1024,
    "eval_candidate_seed": 2020,
    "metrics": ["Hit", "NDCG"],
    "topk": [1, 5, 10],
    "valid_metric": "NDCG@5",
    "MAX_ITEM_LIST_LENGTH": 20,
}
MEASURED = {"all_items_users": 1000}
"""What is measured besides, which is no part of a run."""
FOUR = {"distribution": "uniform", "sample_num": 4, "alpha": 1.0, "dynamic": False, "candidate_num": 0}
OWN_LOSS = {"LightGCN", "SGL", "SimGCL", "BERT4Rec", "Caser"}
BY_DOT_PRODUCT = {"GRU4Rec", "SASRec", "CL4SRec", "LLMESR", "NRHUB", "QuerySeqRec", "UnifiedSSR"}


def entries(datasets=("toy",), models=("SASRec",), seeds=(1,), **options):
    return plan_entries(Request(datasets, models, seeds, Path("dataset"), **options))


def refusal(**options) -> str:
    with pytest.raises(SettingError) as error:
        entries(**options)
    return str(error.value)


def test_the_preset_of_table_2():
    assert read_preset("table2") == (TABLE_2, {**PROTOCOL, **MEASURED}, {"train_neg_sample_args": FOUR})


def test_presets_of_other_commands_are_refused():
    with pytest.raises(SettingError, match="there is no preset 'paper'; choose from: table2"):
        read_preset("paper")


def test_every_model_on_every_dataset_starts_from_the_protocol():
    made = entries(datasets=("a", "b", "a"), models=("SASRec", "GSERec", "SASRec"))
    assert [(entry.dataset, entry.model) for entry in made] == [
        ("a", "SASRec"),
        ("a", "GSERec"),
        ("b", "SASRec"),
        ("b", "GSERec"),
    ]
    assert all(entry.requested == PROTOCOL and entry.machine == MEASURED for entry in made)


def test_settings_of_a_dataset_outrank_the_protocol():
    (requested,) = (entry.requested for entry in entries(datasets=("amazon-electronics",)))
    assert requested == {name: value for name, value in PROTOCOL.items() if name != "MAX_ITEM_LIST_LENGTH"}
    (requested,) = (
        entry.requested for entry in entries(datasets=("amazon-electronics",), settings={"MAX_ITEM_LIST_LENGTH": 5})
    )
    assert requested["MAX_ITEM_LIST_LENGTH"] == 5


def test_settings_of_one_model_outrank_those_of_all():
    asked = []

    def settings_of(model, dataset):
        asked.append((model, dataset))
        return {"epochs": 9, "lambda_u_cl": 0.5} if (model, dataset) == ("GSERec", "b") else {}

    made = entries(("a", "b"), ("SASRec", "GSERec"), settings={"epochs": 7}, settings_of=settings_of)
    assert asked == [("SASRec", "a"), ("GSERec", "a"), ("SASRec", "b"), ("GSERec", "b")]
    assert [entry.requested["epochs"] for entry in made] == [7, 7, 7, 9]
    assert [entry.requested.get("lambda_u_cl") for entry in made] == [None, None, None, 0.5]


def test_a_setting_reaches_the_models_that_read_it():
    made = entries(models=("SASRec", "GSERec", "UniSAR"), settings={"lambda_u_cl": 0.5, "epochs": 3})
    assert [entry.requested.get("lambda_u_cl") for entry in made] == [None, 0.5, None]
    assert [entry.requested["epochs"] for entry in made] == [3, 3, 3]


def test_a_falling_learning_rate_reaches_the_models_that_have_one():
    plateau = {"patience": 3, "min_lr": 0.000001}
    made = entries(models=("SASRec", "UniSAR", "SimGCL", "KAR"), settings={"reduce_lr_on_plateau": plateau})
    found = {entry.model: entry.requested.get("reduce_lr_on_plateau") for entry in made}
    assert found == {"SASRec": None, "UniSAR": plateau, "SimGCL": None, "KAR": plateau}


def test_where_a_run_is_made_is_no_part_of_it():
    (entry,) = entries(settings={"gpu_id": (0, 1), "show_progress": True, "epochs": 1})
    assert entry.requested == {**PROTOCOL, "epochs": 1}
    assert entry.machine == {"gpu_id": "0,1", "show_progress": True, **MEASURED}
    (entry,) = entries(settings={"all_items_users": 0})
    assert (entry.requested, entry.machine) == (PROTOCOL, {"all_items_users": 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ()}, "no models given: give --model"),
        ({"datasets": ()}, "no datasets given: give --dataset"),
        ({"seeds": ()}, "no seeds given: give --seeds"),
        ({"seeds": (-1,)}, "a seed is -1"),
        ({"models": ("SASrec",)}, "there is no model 'SASrec'. Did you mean 'SASRec'?"),
        ({"datasets": ("../toy",)}, "'../toy' is not a dataset name"),
        ({"settings": {"seed": 3}}, "use --seeds"),
        ({"settings": {"checkpoint_dir": "x"}}, "use --output"),
        ({"settings": {"epoch": 3}}, "unknown setting 'epoch'. Did you mean 'epochs'?"),
        ({"settings": {"modle": "SASRec"}}, "unknown setting 'modle'. Did you mean 'model'?"),
        ({"settings_of": lambda model, dataset: {"lambda_u_clx": 1}}, "unknown setting 'lambda_u_clx'"),
    ],
)
def test_what_cannot_be_run_is_refused(options, message):
    assert message in refusal(**options)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("1e-3", 0.001),
        ("None", None),
        ("{'mode': 'full'}", {"mode": "full"}),
        ("both", "both"),
        ("[3,inf)", "[3,inf)"),
        ("__import__('os')", "__import__('os')"),
        ((1, 2), [1, 2]),
    ],
)
def test_values_have_one_form(value, meant):
    assert canonical({"name": value}) == {"name": meant}


def test_paths_count_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert canonical({"pre_model_path": "a/b.pth"}) == {"pre_model_path": str(tmp_path / "a" / "b.pth")}


def test_the_best_settings_of_a_sweep_can_be_given(tmp_path):
    path = tmp_path / "best.yaml"
    path.write_text("model: GSERec\ndataset: shop\nseed: 7\ndata_path: /data\nlambda_u_cl: 0.1\nepochs: 50\n")
    assert read_shared_settings([path], ["GSERec"], ["shop"]) == {"lambda_u_cl": 0.1, "epochs": 50}
    assert read_shared_settings([], ["GSERec", "SASRec"], ["shop"]) == {}


@pytest.mark.parametrize(
    ("models", "datasets", "message"),
    [
        (["SASRec"], ["shop"], "best.yaml: the model is 'GSERec', and the settings would be given to SASRec"),
        (["GSERec", "SASRec"], ["shop"], "the model is 'GSERec', and the settings would be given to GSERec, SASRec"),
        (["GSERec"], ["books"], "the dataset is 'shop', and the settings would be given to books"),
        ([], ["shop"], "the model is 'GSERec', and the settings would be given to all"),
    ],
)
def test_the_best_settings_of_a_sweep_are_no_others(tmp_path, models, datasets, message):
    path = tmp_path / "best.yaml"
    path.write_text("model: GSERec\ndataset: shop\nlambda_u_cl: 0.1\n")
    with pytest.raises(SettingError, match=message):
        read_shared_settings([path], models, datasets)


def test_settings_of_models_from_a_file(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("GSERec: {lambda_u_cl: 1e-1}\nSASRec:\n  hidden_size: 32\n")
    settings_of = read_model_settings(path)
    assert settings_of("GSERec", "a") == {"lambda_u_cl": 0.1}
    assert settings_of("SASRec", "b") == {"hidden_size": 32}
    assert settings_of("BPR", "a") == {}


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ("GSERec: 3\n", DataError, "no settings of GSERec"),
        ("GSERek: {epochs: 3}\n", SettingError, "Did you mean 'GSERec'?"),
        ("[1]\n", DataError, "no settings in it"),
    ],
)
def test_other_files_are_refused(tmp_path, content, kind, message):
    path = tmp_path / "models.yaml"
    path.write_text(content)
    with pytest.raises(kind, match=message.replace("?", r"\?")):
        read_model_settings(path)


# ---- the files a run reads -------------------------------------------------------------------------------------------


@pytest.fixture
def config(random_dataset):
    base = {"benchmark_filename": None, "data_path": str(random_dataset / "toy"), "dataset": "toy"}
    return {**base, "additional_feat_suffix": ["search", "query", "code"], "preprocess_missing_vectors": None}


def test_the_digest_is_of_the_data_and_not_of_the_codes(config, random_dataset):
    import hashlib
    import json

    content = {}
    for suffix in ("inter", "item", "query", "search"):
        data = (random_dataset / "toy" / f"toy.{suffix}").read_bytes()
        content[suffix] = [len(data), hashlib.sha256(data).hexdigest()]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    assert dataset_digest(config) == digest
    code = random_dataset / "toy" / "toy.code"
    code.write_text(code.read_text() + "\n")
    assert dataset_digest(config) == digest
    inter = random_dataset / "toy" / "toy.inter"
    inter.write_text(inter.read_text() + "u0\ti1\t99\n")
    assert dataset_digest(config) != digest


def test_a_dataset_without_interactions_is_refused(config, random_dataset):
    (random_dataset / "toy" / "toy.inter").unlink()
    with pytest.raises(DataError, match="toy.inter: file not found"):
        dataset_digest(config)


def test_codes_and_vectors_belong_to_the_models_that_read_them(config, random_dataset):
    import hashlib

    code = random_dataset / "toy" / "toy.code"
    assert derived_digests(config) == {"toy.code": hashlib.sha256(code.read_bytes()).hexdigest()}
    assert missing_derived(config) == []
    assert derived_digests({**config, "additional_feat_suffix": None}) == {}
    code.unlink()
    reads_both = {**config, "preprocess_missing_vectors": False}
    (random_dataset / "toy" / "toy.item.vectors.parquet").write_bytes(b"vectors")
    assert derived_digests(reads_both) == {"toy.item.vectors.parquet": hashlib.sha256(b"vectors").hexdigest()}
    assert missing_derived(reads_both) == ["code", "user.vectors.parquet"]


def test_a_setting_of_another_model_is_warned_of_and_makes_no_other_run(caplog):
    (usual,) = entries()
    for arguments in ({"settings": {"lambda_u_cl": 1}}, {"settings_of": lambda model, dataset: {"lambda_u_cl": 1}}):
        caplog.clear()
        (entry,) = entries(**arguments)
        assert entry == usual
        assert f"{entry.model} does not read 'lambda_u_cl', a setting of GSERec: it has no effect" in caplog.text


# ---- one objective -------------------------------------------------------------------------------------------------


def of_objective(loss_type, models=(*TABLE_2, "Caser"), **options) -> dict[str, tuple]:
    """Loss and negatives that the models are given."""
    request = with_objective(Request(["a", "b"], models, [1], Path("dataset"), **options), loss_type)
    made = [(entry.model, entry.requested) for entry in plan_entries(request)]
    by_model = {model: (own.get("loss_type"), own.get("train_neg_sample_args", "none given")) for model, own in made}
    assert all(by_model[model][0] == own.get("loss_type") for model, own in made)
    return by_model


@pytest.mark.parametrize("loss_type", ["BCE", "gBCE", "sampled_CE"])
def test_one_objective_trains_all_models_that_leave_a_choice(loss_type):
    found = of_objective(loss_type)
    assert {model for model, given in found.items() if given == (None, "none given")} == OWN_LOSS
    assert {model for model, given in found.items() if given == (loss_type, FOUR)} == set(TABLE_2) - OWN_LOSS


def test_negatives_of_the_command_are_those_of_all():
    eight = {**FOUR, "sample_num": 8}
    found = of_objective("BCE", settings={"train_neg_sample_args": eight})
    assert {given[1]["sample_num"] for given in found.values()} == {8}


def test_cross_entropy_over_all_items_takes_no_negatives():
    models = ["LightGCN", *sorted(BY_DOT_PRODUCT)]
    found = of_objective("CE", models)
    assert found.pop("LightGCN") == (None, "none given")
    assert set(found.values()) == {("CE", "none given")}
    # RecBole refuses them beside CE; LightGCN has its own loss.
    found = of_objective("CE", models, settings={"train_neg_sample_args": FOUR})
    assert found["LightGCN"] == (None, FOUR)
    assert all(found[model] == ("CE", None) for model in ("SASRec", "GRU4Rec", "CL4SRec"))


def test_cross_entropy_over_all_items_is_refused_for_other_scores():
    with pytest.raises(SettingError) as error:
        of_objective("CE")
    refused = [model for model in TABLE_2 if model not in OWN_LOSS | BY_DOT_PRODUCT]
    assert str(error.value) == (
        f"--objective CE scores all items at once by dot products, as {', '.join(refused)} cannot: choose BCE or "
        "sampled_CE or gBCE, or leave out these models"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": {"loss_type": "BCE"}}, "loss_type is given for all models, but --objective BCE sets it"),
        (
            {"settings_of": lambda model, dataset: {"loss_type": "CE"} if dataset == "b" else {}},
            "loss_type is given for GRU4",
        ),
        ({"settings_of": lambda *_: {"train_neg_sample_args": FOUR}}, "train_neg_sample_args is given for GRU4Rec"),
    ],
)
def test_settings_that_contradict_the_objective_are_refused(options, message):
    with pytest.raises(SettingError, match=message):
        of_objective("BCE", **options)


def test_a_model_with_its_own_loss_may_choose_it():
    own = {"Caser": {"loss_type": "BPR"}}
    assert of_objective("BCE", settings_of=lambda model, _: own.get(model, {}))["Caser"] == ("BPR", "none given")


def test_unknown_objectives_are_refused():
    with pytest.raises(SettingError, match="--objective is 'BPR'; it must be 'BCE' or 'sampled_CE' or 'gBCE' or 'CE'"):
        of_objective("BPR")


@pytest.mark.parametrize(
    ("base", "written", "expected"),
    [
        (SearchRecommender, "loss_type: BCE\n", "BCE"),
        (SearchRecommender, "mean_size: 8\n", None),  # It has the setting by default, but may not read it.
        (SASRec, "loss_type: CE\n", "BCE"),
        (SASRec, "n_layers: 1\n", None),
    ],
)
def test_registered_models_are_trained_by_it_if_their_file_lists_the_loss(tmp_path, base, written, expected):
    (tmp_path / "Other.yaml").write_text(written)
    register_model(type("Other", (base,), {"__module__": __name__}), settings=tmp_path / "Other.yaml")
    try:
        assert of_objective("BCE", ["Other"])["Other"][0] == expected
        refused = base is SearchRecommender and expected
        with pytest.raises(SettingError, match="as Other cannot") if refused else nullcontext():
            of_objective("CE", ["Other"])
    finally:
        forget_model("Other")
