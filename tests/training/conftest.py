"""What the tests of training share."""

from pathlib import Path

import pytest
import torch

import flashhead

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The miniature's tensors are too small to share out, least of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def bundle():
    """The miniature of Lite."""
    return flashhead.load_bundle(FIXTURES / "tiny-checkpoint", "lite")
