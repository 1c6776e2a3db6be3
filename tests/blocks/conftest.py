"""Tests of surgery run tiny models on one thread, where threads only cost."""

import pytest
import torch
from transformers.utils import logging


@pytest.fixture(autouse=True, scope="session")
def _one_quiet_thread() -> None:
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
