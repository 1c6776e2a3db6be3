"""What every test stands on: a tiny corpus, tiny trained references, a cache of its own, and no network."""

import json
import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import emulated
import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings
from markupsafe import Markup
from tiny import VOCABULARY, recipe_tree, trained_model, words
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from inheritune.data.vocabulary import train_tokenizer
from inheritune.runtime.device import NAMED

# Every run tries the same examples, however long one takes: a suite fails by the code alone. `faults/test_fuzz.py` tries others.
settings.register_profile("same examples", derandomize=True, deadline=None, database=None)
settings.load_profile("same examples")

# Files of one to two minutes each, which begin first.
_LONGEST = (
    "runtime/test_device.py", "faults/test_table.py", "docs/test_runs.py", "surgery/test_in_files.py", "runs/test_killed.py",
    "runs/test_default.py", "comparison/test_compare.py", "runs/test_distributed.py", "runs/test_run.py", "tests/test_gpu_check.py",
    "runs/test_crash_points.py",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", default="cpu", help="cpu, or the accelerator (cuda, emulated) that the tests marked `device` use"
    )
    parser.addoption("--order", default="written", help="written, reversed, or a number that shuffles files and tests")


def pytest_configure(config: pytest.Config) -> None:
    """Models are on the CPU, also where there is a GPU, or where `--device` says."""
    config.addinivalue_line(
        "markers", "device: needs an accelerator; runs with --device alone, and then nothing else does"
    )
    os.environ[NAMED] = config.getoption("--device")
    if os.environ[NAMED] == emulated.NAME:
        emulated.install()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only what is meant for the device; another order of files, and of the tests in each, which stay together as fixtures do."""
    wanted = config.getoption("--device") != "cpu"
    left = [item for item in items if bool(item.get_closest_marker("device")) != wanted]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]
    order = config.getoption("--order")
    if order == "reversed":
        items.reverse()
    elif order != "written":
        files: dict[Path, list[pytest.Item]] = {}
        for item in items:
            files.setdefault(item.path, []).append(item)
        source = random.Random(int(order))
        shuffled = [source.sample(held, len(held)) for held in files.values()]
        items[:] = [item for held in source.sample(shuffled, len(shuffled)) for item in held]
    items.sort(key=lambda item: not item.path.as_posix().endswith(_LONGEST))


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Ctrl-C as it is in a terminal: a shell starts what it puts in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    def refuse(_socket: socket.socket, address: object) -> None:
        raise AssertionError(f"a test asked for the network: {address}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INHERITUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_quiet_thread() -> None:
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module", autouse=True)
def _quick_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drawing takes longer than a tiny run: what is drawn is looked at in `tests/report`. Samples go on by two tokens."""
    with pytest.MonkeyPatch.context() as patch:
        if "report" not in request.path.parts:
            patch.setattr(
                "inheritune.report.pictures.drawn_twice", lambda name, _: Markup("<svg id='{}'/>").format(name)
            )
            patch.setattr("inheritune.runs.sampled.NEW", 2)
        yield


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """150 documents of words that follow each other by rule, so that there is something to learn."""
    source = random.Random(7)
    return [words(source, source.randint(30, 60)) for _ in range(150)]


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    return train_tokenizer(texts, VOCABULARY)


@pytest.fixture(scope="session")
def corpus(texts: list[str], tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same documents as `words.jsonl`, `words.txt` and `words.bin`."""
    folder = tmp_path_factory.mktemp("corpus")
    folder.joinpath("words.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    folder.joinpath("words.txt").write_text("\n\n".join(texts * 2))
    rows = [[*tokenizer(text)["input_ids"], 0] for text in texts]
    np.concatenate([np.asarray(row, dtype="<u2") for row in rows]).tofile(folder / "words.bin")
    return folder


@pytest.fixture(scope="session")
def references(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of a family's tiny trained reference, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("references")

    def reference(family: str) -> Path:
        place = folder / family
        if not place.exists():
            with emulated.unused():
                trained_model(family, texts, tokenizer).save_pretrained(place)
            tokenizer.save_pretrained(place)
        return place

    return reference


@pytest.fixture(scope="session")
def gpt2(references: Callable[[str], Path]) -> Path:
    return references("gpt2")


@pytest.fixture
def tree(gpt2: Path, corpus: Path) -> dict[str, Any]:
    """A whole tiny run as a recipe's tree, to be changed by the test."""
    return recipe_tree(gpt2, corpus / "words.jsonl")


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    """Writes a recipe's tree to a file and gives its path."""

    def write(tree: dict[str, Any], name: str = "recipe.yaml") -> str:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(tree))
        return str(path)

    return write
