"""What the tests of training share."""

from pathlib import Path

import pytest

import flashhead

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="session")
def bundle():
    """The miniature of Lite."""
    return flashhead.load_bundle(FIXTURES / "tiny-checkpoint", "lite")
