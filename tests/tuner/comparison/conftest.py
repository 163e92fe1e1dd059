import pytest

from tuner.agent.policy import Policy
from tuner.agent.warm_start import WarmStart
from tuner.comparison.methods import Kit


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit(Policy.load(), WarmStart.load())
