"""Uploads by role, and with a quota: asked of a running studio by people without a browser."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from data_tools.store import Store
from tests.browser.conftest import Studio
from tests.ui.client import Client
from ui import users
from ui.guard.uploads import HOUR, QUOTA, Quotas

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    root = tmp_path_factory.mktemp("uploads")
    for name, role in (("ann", "annotator"), ("rob", "reviewer"), ("eve", "admin")):
        users.add(root / "users", name, role, PASSWORD)
    Store.of_workspace(root / "workspace", is_new=True).close()
    running = Studio(root / "workspace", f"--users={root / 'users'}")
    yield running
    running.stop()


@pytest.mark.parametrize(("name", "code"), [("ann", 403), ("rob", 200), ("eve", 200)])
def test_an_annotator_uploads_nothing(studio: Studio, name: str, code: int) -> None:
    client = Client(studio, name, PASSWORD)
    answer = client.session.post("/gradio_api/upload", files={"files": ("one.txt", b"x" * 999)})
    assert answer.status_code == code
    if code == 403:
        assert "Only a reviewer or an admin may upload" in answer.json()["detail"]
    else:
        assert Path(answer.json()[0]).read_bytes() == b"x" * 999
    client.session.close()


def test_who_has_no_login_uploads_nothing(studio: Studio) -> None:
    for cookie in ("", "access-token-x=y", "a=b; =;;;\x7f"):
        headers = {"cookie": cookie} if cookie else {}
        files = {"files": ("one.txt", b"x")}
        answer = httpx.post(f"{studio.url}/gradio_api/upload", files=files, headers=headers)
        # 400: with httptools installed the server itself refuses the last one as no HTTP
        assert answer.status_code in ((400, 401, 403) if "\x7f" in cookie else (401, 403))


def test_a_quota_is_of_an_hour_and_of_each_person() -> None:
    now = 0.0
    quotas, most = Quotas(lambda: now), QUOTA["reviewer"]
    assert quotas.take("rob", "reviewer", most - 1) == "" == quotas.take("rob", "reviewer", 1)
    assert "more than 1 GB in an hour" in quotas.take("rob", "reviewer", 1)
    assert quotas.take("sue", "reviewer", most) == ""
    now = HOUR + 1
    assert quotas.take("rob", "reviewer", most) == ""
    assert "Only a reviewer" in quotas.take("ann", "", 0)


def test_where_nobody_logs_in_everybody_uploads(tmp_path: Path) -> None:
    Store.of_workspace(tmp_path / "workspace", is_new=True).close()
    alone = Studio(tmp_path / "workspace")
    files = {"files": ("one.txt", b"x")}
    answer = httpx.post(f"{alone.url}/gradio_api/upload", files=files)
    alone.stop()
    assert answer.status_code == 200 and Path(answer.json()[0]).read_bytes() == b"x"
