"""Batches on a real Ray of this machine."""

import os

import pytest

from recbole_gserec.errors import InterruptedWorkError, SettingError
from recbole_gserec.preprocess.runners import RayRunner
from recbole_gserec.settings.offline import PreprocessSettings


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def runner(**settings):
    return RayRunner(PreprocessSettings(preprocess_ray=True, preprocess_ray_cpus=0.5, **settings))


# Each makes what works on a batch; they go to the workers by value, since workers cannot import tests.
def reverse():
    return lambda batch: batch[::-1]


def refuse():
    raise SettingError("llm: no language model in 'x'")


def refuse_later():
    def work(batch):
        raise SettingError(f"too short for {batch[0]}")

    return work


def fail():
    def work(batch):
        raise ZeroDivisionError("half\nof it")

    return work


def die():
    return lambda batch: os._exit(1)


@pytest.fixture(autouse=True)
def by_value(ray):
    import sys

    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_every_batch_comes_back_whole_and_with_its_place(ray):
    batches = [[index, str(index), None] for index in range(7)]
    results = dict(runner(preprocess_ray_workers=2).run(reverse, batches))
    assert results == {index: batch[::-1] for index, batch in enumerate(batches)}


@pytest.mark.parametrize(
    ("make_worker", "kind", "message"),
    [
        (refuse, SettingError, "llm: no language model in 'x'"),
        (refuse_later, SettingError, "too short for 5"),
        (fail, InterruptedWorkError, "a worker on Ray failed (ZeroDivisionError: half of it)"),
    ],
)
def test_errors_of_workers_are_reported_as_they_are(ray, make_worker, kind, message):
    with pytest.raises(kind) as error:
        list(runner().run(make_worker, [[5]]))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.slow
def test_a_worker_that_keeps_dying_is_given_up(ray):
    with pytest.raises(InterruptedWorkError, match="workers on Ray died"):
        list(runner().run(die, [[1], [2]]))


def test_a_worker_that_fits_nowhere_is_refused(ray):
    with pytest.raises(SettingError, match="a worker needs 0.5 CPU and 3 GPU"):
        runner(preprocess_ray_gpus=3)
