import errno

import pytest
import torch

from recbole_gserec.files import stored


def test_what_is_saved_comes_back(tmp_path):
    stored.save_tensors({"a": torch.arange(5)}, tmp_path / "new" / "a.pth")
    assert torch.equal(torch.load(tmp_path / "new" / "a.pth", weights_only=True)["a"], torch.arange(5))


@pytest.mark.parametrize("size", [3, 100_000])
def test_no_room_is_said_and_leaves_the_old_file(tmp_path, size):
    """As on a full disk: a write comes back with less than was given to it, whether early or in the last block."""
    resource = pytest.importorskip("resource")
    stored.save_tensors("old", tmp_path / "a.pth")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(OSError, match="a.pth") as caught:
            stored.save_tensors({"a": torch.zeros(size)}, tmp_path / "a.pth")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(tmp_path / "a.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
    assert torch.load(tmp_path / "a.pth", weights_only=True) == "old"


def test_other_errors_stay_what_they_are(tmp_path):
    class Broken:
        def __reduce__(self):
            raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        stored.save_tensors(Broken(), tmp_path / "a.pth")
