"""Every command and every piece of code on the pages runs, or is one that the programs understand.

A block is run unless the comment ``<!-- not run: why -->`` stands above it; then its commands are checked against the
options, settings, presets and files that there are.
"""

from __future__ import annotations

import importlib
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs.command_checks import check_command, check_files
from tests.docs.pages import PAGES, ROOT, blocks, blocks_of, write_shown_files
from tests.docs.workplace import (
    copied,
    few_of_ml_100k,
    link_examples,
    models_of_the_package,
    run_command,
    run_python,
)

LANGUAGES = {"bash", "bibtex", "csv", "python", "text", "toml", "yaml"}
"""Of blocks; in another one, or in none, a command would escape these tests."""

FIRST = """
python docs/examples/shop_logs.py .
gserec convert logs --interactions interactions.csv --searches searches.csv --items items.csv --name shop
gserec preprocess --dataset shop
gserec preprocess --dataset ml-100k-search
run_recbole --model=GSERec
gserec benchmark --dataset ml-100k-search --model GSERec --model UniSAR --model SASRec --seeds 2020,2021,2022
"""
"""What readers of several pages have done; on the pages that show them these are not run again."""

SWEEP = "gserec tune --model GSERec --dataset ml-100k-search --samples 20"
"""The same, of those pages that go on with its folder."""

FROM_NOTHING = ("docs/tutorial.md", "docs/data.md", "docs/converters/logs.md", "docs/adding_a_converter.md")
"""Pages whose readers have nothing yet."""

SHOW_FILES = FROM_NOTHING[2:]
"""Those that show the files themselves, each below its name."""

NEW_EVENTS = {
    "today.inter": "user_id:token\titem_id:token\ttimestamp:float\n196\t242\t900000000\n",
    "today.search": "search_user_id:token\tsearch_query_id:token\tsearch_timestamp:float\tsearch_item_ids:token_seq\n"
    "196\t0\t900000001\t242\n",
}


def keep_newest(*names: str) -> None:
    """Copy the checkpoint written last to names that pages call it by."""
    trained = max(Path("saved").glob("GSERec-*.pth"), key=lambda path: path.stat().st_mtime_ns)
    for name in names:
        shutil.copy(trained, name)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with datasets, codes, checkpoints and a benchmark."""
    folder = tmp_path_factory.mktemp("reader") / "prepared"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        link_examples()
        few_of_ml_100k(Path("dataset"))
        for line in FIRST.strip().splitlines():
            run_command(shlex.split(line))
        keep_newest("saved/GSERec.pth", "GSERec.pth", "with.pth")
        run_command(["run_recbole", "--model=GSERec", "--use_user_code_graph=False"])
        keep_newest("GSERec-without-graph.pth")
        for name, text in NEW_EVENTS.items():
            Path(name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def swept(prepared) -> None:
    """A sweep in that folder."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(prepared)
        run_command(shlex.split(SWEEP))
        run_command(["run_recbole", "--model=GSERec", "--lambda_u_cl=0"])
        keep_newest("without.pth")
        # A second setting, for what looks at several.
        run_command(shlex.split("gserec benchmark --dataset ml-100k-search --model GSERec --lambda_u_cl=0.01"))
        shutil.copytree("tune/ml-100k-search", "tune/shop")
        best = Path("tune/shop/GSERec/best.yaml")
        settings = yaml.safe_load(best.read_text(encoding="utf-8"))
        own_of_the_dataset = {"dataset": "shop", **dict.fromkeys(("code_path", "preprocess_store", "lambda_rq_cl"))}
        settings = {name: own_of_the_dataset.get(name, value) for name, value in settings.items()}
        best.write_text(yaml.safe_dump({name: value for name, value in settings.items() if value is not None}))
    ray.shutdown()


def reader_of(page: Path, prepared: Path, folder: Path) -> Path:
    """The folder in which a reader of a page works."""
    name = str(page.relative_to(ROOT))
    if name in FROM_NOTHING:
        folder.mkdir()
        if name in SHOW_FILES:
            write_shown_files(page, folder)
        return folder
    copied(prepared, folder)
    return folder


RUN = [page for page in PAGES if any(b.language in ("bash", "python") and not b.not_run for b in blocks_of(page))]
CHECKED = [block for block in blocks("bash") if block.not_run]


def _parameter(page: Path):
    # Its ablations are nine trainings.
    marks = [pytest.mark.slow] if page.stem == "analyze" else []
    return pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks)


@pytest.mark.parametrize("page", map(_parameter, RUN))
def test_blocks_run(page, prepared, tmp_path, monkeypatch, request):
    if any(SWEEP in block.text or "tune/" in block.text for block in blocks_of(page) if not block.not_run):
        request.getfixturevalue("swept")
    monkeypatch.chdir(reader_of(page, prepared, tmp_path / "reader"))
    link_examples()
    from_nothing = str(page.relative_to(ROOT)) in FROM_NOTHING
    done = [] if from_nothing else [shlex.split(line) for line in [*FIRST.strip().splitlines(), SWEEP]]
    for block in blocks_of(page):
        if block.not_run or block.language not in ("bash", "python"):
            continue
        if block.language == "python":
            run_python(block.text)
            continue
        for words in block.commands:
            if words not in done:
                run_command(words)


@pytest.mark.parametrize("block", CHECKED, ids=lambda block: block.name)
def test_commands_that_are_not_run_are_understood(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert block.commands
    with models_of_the_package(), monkeypatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs" / "examples")
        if "LastSearch" in block.text:
            importlib.import_module("last_search")
        for words in block.commands:
            check_command(words)
    check_files(block.text)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.name)
def test_code_compiles(block):
    compile(block.text, block.name, "exec")


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.name)
def test_settings_are_yaml(block):
    assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.name)
def test_packages_are_toml(block):
    assert tomllib.loads(block.text)


def test_no_block_escapes():
    found = {block.language for page in PAGES for block in blocks_of(page)}
    assert found <= LANGUAGES
    for page in PAGES:
        n_fences = sum(line.lstrip().startswith("```") for line in page.read_text().splitlines())
        assert n_fences == 2 * len(blocks_of(page)), page
