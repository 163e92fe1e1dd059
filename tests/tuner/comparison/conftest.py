import pytest

from tuner.agent.policy import Policy


@pytest.fixture(scope="session")
def policy() -> Policy:
    return Policy.load()
