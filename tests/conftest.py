"""The order of the tests: those of the longest files first, so that processes that share the files end together."""

import pytest

LONGEST = tuple(f"test_{name}.py" for name in ("conformance", "study", "search", "pipeline", "resume", "together"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
