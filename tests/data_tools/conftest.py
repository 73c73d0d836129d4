"""A store in SQLite and in a real PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_tools.store import Store
from tests.data_tools.postgres import new_database, programs, server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a fresh server on a free loopback port, without the name of a database."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with server(folder) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'studio.db'}"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def empty_postgres(postgres: str) -> str:
    """One more, beside `url`."""
    return new_database(postgres)


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    store = Store(url, tmp_path / "images")
    yield store
    store.close()
