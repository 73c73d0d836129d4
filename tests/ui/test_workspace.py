"""The workspace, who may enter it, and the command that serves it."""

import asyncio
import os
import resource
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import app
from loctex.jobs.run import Run
from loctex.records.files import BusyError
from ui import users
from ui.workspace import Workspace, served

ROOT = Path(__file__).parents[2]


def test_a_new_folder_becomes_a_workspace(tmp_path):
    workspace = Workspace(tmp_path / "new" / "one")
    assert workspace.store.collections() == [] and workspace.runs() == workspace.snapshots() == []
    assert all(path.is_dir() for path in (workspace.images_dir, workspace.runs_dir))
    workspace.store.close()


def test_runs_and_snapshots_come_newest_first_and_unfinished_ones_do_not(tmp_path):
    workspace = Workspace(tmp_path)
    for age, name in enumerate(("new", "old")):
        for folder, file in (
            (workspace.runs_dir, "command.json"),
            (workspace.snapshots_dir, "snapshot.json"),
        ):
            (folder / name).mkdir()
            (folder / name / file).write_text("{}")
            os.utime(folder / name / file, (1e9 - age, 1e9 - age))
    (workspace.snapshots_dir / "unfinished").mkdir()
    assert [run.name for run in workspace.runs()] == ["new", "old"]
    assert isinstance(workspace.runs()[0], Run)
    assert [path.name for path in workspace.snapshots()] == ["new", "old"]
    workspace.store.close()


def test_a_second_studio_is_refused_while_the_first_is_alive(tmp_path):
    code = (
        "import sys, ui.workspace as w\n"
        "with w.served(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert first.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=rf"another studio .*{first.pid}.*--workspace"):
        with served(tmp_path):
            pass
    first.kill()
    first.communicate()
    with served(tmp_path):  # the lock of a dead process holds nobody off
        pass


def test_a_second_studio_ends_at_once_and_names_the_first(tmp_path):
    with served(tmp_path):
        done = subprocess.run(
            [sys.executable, "app.py", "--workspace", str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = done.stderr.strip().splitlines()
    assert said[0].startswith(f"studio: workspace {tmp_path} is open in another studio")
    assert f"process {os.getpid()}" in said[0] and len(said) == 1


def test_a_port_that_is_taken_says_which_option_names_another(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = [sys.executable, "app.py", f"--workspace={tmp_path}", f"--port={port}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    (sentence,) = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert sentence.startswith(f"studio: port {port} of 127.0.0.1 cannot be had")
    assert "--port" in sentence and "GRADIO" not in sentence


# --- users


def is_right(file: Path, name: str, password: str) -> bool:
    """What Gradio is answered; in a thread: browser tests leave a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, users.login(file)(name, password)).result()


def test_a_password_opens_and_another_does_not(tmp_path):
    file = tmp_path / "users"
    users.add(file, "ann", "annotator", "correct horse")
    users.add(file, "eve", "admin", "battery staple")
    assert is_right(file, "ann", "correct horse") and is_right(file, "eve", "battery staple")
    assert not is_right(file, "ann", "battery staple") and not is_right(file, "ann", "")
    assert not is_right(file, "nobody", "") and not is_right(file, "", "")
    assert "correct horse" not in file.read_text() and file.stat().st_mode & 0o077 == 0


def test_a_changed_password_takes_effect_at_once(tmp_path):
    file = tmp_path / "users"
    users.add(file, "ann", "annotator", "correct horse")
    assert is_right(file, "ann", "correct horse")
    users.add(file, "ann", "admin", "new password")
    assert not is_right(file, "ann", "correct horse") and is_right(file, "ann", "new password")
    assert users.read(file)["ann"][0] == "admin"


def test_a_bad_users_file_is_refused_with_its_line(tmp_path):
    file = tmp_path / "users"
    file.write_text("# staff\nann annotator plaintext\n")
    with pytest.raises(ValueError, match="users:2: must be `name"):
        users.read(file)
    file.write_text("\n")
    with pytest.raises(ValueError, match="names nobody"):
        users.login(file)
    for name, role, password in (
        ("a b", "admin", "12345678"),
        ("ann", "king", "12345678"),
        ("ann", "admin", "short"),
    ):
        with pytest.raises(ValueError, match="must"):
            users.add(file, name, role, password)


def test_only_an_admin_may_import_where_there_are_logins(tmp_path):
    file = tmp_path / "users"
    users.add(file, "ann", "annotator", "correct horse")
    users.add(file, "eve", "admin", "battery staple")
    workspace = Workspace(tmp_path / "workspace", users=file)
    workspace.demand_admin("eve")
    for name in ("ann", "nobody", None):
        with pytest.raises(ValueError, match="Only an admin"):
            workspace.demand_admin(name)
    workspace.users = None
    workspace.demand_admin(None)
    workspace.store.close()


# --- python app.py


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "studio.example"])
def test_an_open_host_demands_logins(host, capsys):
    with pytest.raises(SystemExit):
        app.parse(["--host", host])
    assert "demands --users FILE" in capsys.readouterr().err
    assert app.parse(["--host", host, "--users", "file"]).host == host


def test_by_default_only_this_machine_is_served():
    chosen = app.parse([])
    assert (chosen.host, chosen.workspace) == ("127.0.0.1", Path("workspace"))
    assert app.is_loopback("localhost") and app.is_loopback("::1") and not app.is_loopback("")


def processor_seconds(code: str) -> tuple[float, str]:
    """What a Python process takes (not what others take from it), and what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout.strip()


def test_the_page_is_built_in_little_more_time_than_gradio_takes_to_load(tmp_path):
    build = (
        "import app, sys; app.stay_local(); from ui import layout; "
        "from ui.workspace import Workspace; "
        f"layout.build(Workspace({str(tmp_path)!r})); "
        "print([m for m in ('torch', 'datasets', 'transformers', 'timm', 'sklearn', 'scipy') "
        "if m in sys.modules])"
    )
    gradio = min(processor_seconds("import gradio")[0] for _ in range(2))
    whole, heavy = min(processor_seconds(build) for _ in range(2))
    assert heavy == "[]"
    assert whole < 1.7 * gradio  # 1.7 s on a quiet laptop: together well below 4 s


def test_a_workspace_of_a_newer_version_is_refused_in_one_line(tmp_path):
    import sqlite3

    Workspace(tmp_path).store.close()
    with sqlite3.connect(tmp_path / "studio.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    done = subprocess.run(
        [sys.executable, "app.py", "--workspace", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "made by a newer version" in done.stderr
    assert "Traceback" not in done.stderr
