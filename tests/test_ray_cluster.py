import sys
import types

import pytest

from recbole_gserec.errors import SettingError
from recbole_gserec.ray_cluster import connect


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.0.0.1:6379", r"^--address: cannot join Ray at '10.0.0.1:6379' \(wrong token\)$"),
        (None, r"^Ray does not start on this machine \(wrong token\)$"),
    ],
)
def test_why_there_is_no_ray_is_told_in_a_line(monkeypatch, address, message):
    def refuse(**given):
        assert given["address"] == (address or "local")
        raise ConnectionError("wrong\ntoken")

    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(is_initialized=lambda: False, init=refuse))
    with pytest.raises(SettingError, match=message):
        connect(address, 1)
