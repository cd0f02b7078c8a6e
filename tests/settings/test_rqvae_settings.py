import pytest

from recbole_gserec.errors import SettingError
from recbole_gserec.settings.offline import RQVAESettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_codebooks", 0),
        ("codebook_size", 2.5),
        ("epochs", True),
        ("epochs", "10"),
        ("warmup_epochs", -1),
        ("warmup_epochs", 500),
        ("seed", False),
        ("tau_1", 0),
        ("learning_rate", "1e-3"),
        ("learning_rate", float("nan")),
        ("lambda_rq_cl", -1e-4),
        ("sinkhorn", 1),
        ("loss_reduction", "median"),
        ("hidden_sizes", (512, 0)),
        ("hidden_sizes", 512),
    ],
)
def test_wrong_settings_are_named(name, value):
    with pytest.raises(SettingError, match=f"'{name}' is .*must be"):
        RQVAESettings(**{name: value})


def test_settings_accept_what_yaml_gives():
    settings = RQVAESettings(hidden_sizes=[8, 4], lambda_rq=1, lambda_rq_cl=0, warmup_epochs=0, seed=0)
    assert settings.hidden_sizes == (8, 4)
    assert settings == RQVAESettings(hidden_sizes=(8, 4), lambda_rq=1, lambda_rq_cl=0, warmup_epochs=0, seed=0)
