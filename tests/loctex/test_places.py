"""Places as people have them: file systems without symbolic links, read-only shares."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_tools import backup
from loctex import settings
from loctex.evaluate import main as evaluate
from loctex.jobs import checkpoint_files, provenance
from loctex.jobs.run import Run
from loctex.records.files import user_folder
from loctex.records.snapshot import Snapshot
from loctex.scoring.atlas_job import AtlasJob
from loctex.scoring.predictor import Predictor
from tests.loctex.small import small
from ui.train import run_facts
from ui.viewing import models
from ui.workspace import Workspace

NO_LINKS = """
import os
def refuse(*arguments, **options):
    raise {error}
os.symlink = refuse
"""


def train(run: Path, folder: Path, *words: str) -> None:
    """In a process whose file system refuses links."""
    subprocess.run(
        [sys.executable, "-m", "loctex.train", f"--run={run}", *words],
        cwd=provenance.ROOT,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def trained(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of one run, trained where there are no links: four steps, then resumed to six."""
    root = tmp_path_factory.mktemp("linkless")
    (root / "site").mkdir()
    (root / "site" / "sitecustomize.py").write_text(
        NO_LINKS.format(error="OSError(95, 'Operation not supported')")
    )
    chosen = small(snapshot, train__steps=4, train__checkpoint_every=2, train__film_every=0)
    (root / "settings.yaml").write_text(settings.dump(chosen))
    run = root / "runs" / "one"
    train(run, root / "site", f"--settings={root / 'settings.yaml'}")
    train(run, root / "site", "--resume", "--train.steps=6")
    return root


def test_training_goes_on_and_resumes_without_links(trained: Path) -> None:
    run = Run(trained / "runs" / "one")
    assert json.loads(run.result_file.read_bytes())["step"] == 6
    for name in ("best", "last"):
        assert (run.path / name).is_file() and not (run.path / name).is_symlink()
    last = checkpoint_files.find(run.path, "last")
    assert last == run.checkpoints / "step-00000006"
    best = checkpoint_files.find(run.path, "best")
    assert set(checkpoint_files.folders(run.path)) == {last, best}, "the others are removed"
    assert [row["step"] for row in run.metrics() if "loss" in row][-1] == 6


def test_every_reader_knows_the_text_in_place_of_a_link(trained: Path) -> None:
    run = Run(trained / "runs" / "one")
    assert Predictor.load(run.path, "best", device="cpu")
    workspace = Workspace(trained)
    choices = dict(models.checkpoints(workspace))
    place = choices["one · best"]
    assert workspace.checkpoint(place) == run.path / "best"
    assert models._key(place)[0] == checkpoint_files.find(run.path, "best")
    assert run_facts.checkpoints(run)[0] == ("the last one, step 6", "last")
    workspace.store.close()


@pytest.mark.parametrize(
    "error", ["OSError(95, 'no')", "PermissionError(1, 'no')", "NotImplementedError('no')"]
)
def test_whichever_way_links_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    for step in (2, 4):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    two, four = checkpoint_files.folders(tmp_path)
    checkpoint_files.link(tmp_path, "last", two)
    assert (tmp_path / "last").is_symlink()
    patched: dict[str, object] = {"os": os}
    monkeypatch.setattr(os, "symlink", os.symlink)  # put back when this ends
    exec(NO_LINKS.format(error=error), patched)
    checkpoint_files.link(tmp_path, "last", four)
    assert (tmp_path / "last").is_file() and checkpoint_files.linked(tmp_path, "last") == four
    monkeypatch.undo()
    checkpoint_files.link(tmp_path, "last", two)
    assert (tmp_path / "last").is_symlink() and checkpoint_files.linked(tmp_path, "last") == two


@pytest.mark.parametrize("text", ["", "../../etc", "checkpoints/step-00000009", "checkpoints/..\n"])
def test_a_text_that_names_no_checkpoint_is_no_link(tmp_path: Path, text: str) -> None:
    (tmp_path / "checkpoints" / "step-00000002").mkdir(parents=True)
    (tmp_path / "last").write_text(text)
    assert checkpoint_files.linked(tmp_path, "last") is None
    assert checkpoint_files.linked_folders(tmp_path) == set()


def test_a_copy_that_made_folders_of_the_links_loses_nothing(tmp_path: Path) -> None:
    for name in ("checkpoints/step-00000002", "checkpoints/step-00000004", "last"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    four = checkpoint_files.folders(tmp_path)[1]
    assert checkpoint_files.find(tmp_path, "last") == tmp_path / "last"
    checkpoint_files.link(tmp_path, "last", four)
    assert checkpoint_files.find(tmp_path, "last") == four
    assert (tmp_path / "last-copied-1" / "config.json").is_file()


def test_a_backup_with_links_is_restored_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Workspace(tmp_path / "from").store.close()
    run = tmp_path / "from" / "runs" / "one"
    (run / "checkpoints" / "step-00000002").mkdir(parents=True)
    (run / "checkpoints" / "step-00000002" / "config.json").write_text("{}")
    checkpoint_files.link(run, "last", run / "checkpoints" / "step-00000002")
    backup.save(tmp_path / "from", tmp_path / "saved.tar")

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "symlink", refuse)
    report = backup.restore(tmp_path / "saved.tar", tmp_path / "to")
    place = tmp_path / "to" / "runs" / "one" / "last"
    assert report.is_proven and report.missing == () and place.is_file()
    assert checkpoint_files.linked(place.parent, "last").name == "step-00000002"
    backup.save(tmp_path / "to", tmp_path / "again.tar")  # the text travels too
    again = backup.restore(tmp_path / "again.tar", tmp_path / "third")
    assert again.is_proven
    assert checkpoint_files.linked(tmp_path / "third" / "runs" / "one", "last") is not None


@pytest.fixture
def read_only(
    snapshot: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A share with a snapshot whose cache was never made, and a finished run; the user's cache
    is another folder."""
    share = tmp_path / "share"
    without_cache = shutil.ignore_patterns(".cache")
    shutil.copytree(snapshot, share / "snapshot", ignore=without_cache)
    shutil.copytree(trained / "runs" / "one", share / "run", symlinks=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    mount = ["mount", "--bind", str(share), str(share)]
    remount = ["mount", "-o", "remount,ro,bind", str(share)]
    if os.getuid() or any(
        subprocess.run(c, capture_output=True).returncode for c in (mount, remount)
    ):
        subprocess.run(["umount", str(share)], capture_output=True)
        pytest.skip("a read-only mount needs root")
    yield share
    subprocess.run(["umount", str(share)], check=True)


def test_a_read_only_snapshot_opens(read_only: Path, tmp_path: Path) -> None:
    split = Snapshot.open(read_only / "snapshot").split("train")
    assert len(split) == 32 and split[0].image is not None
    assert not (read_only / "snapshot" / ".cache").exists()
    caches = [*(tmp_path / "cache" / "loctex" / "snapshots").glob("*/*.arrow")]
    assert len(caches) == 1
    written = caches[0].stat().st_mtime_ns
    assert len(Snapshot.open(read_only / "snapshot").split("train")) == 32
    assert caches[0].stat().st_mtime_ns == written, "made once"


def test_an_evaluation_on_a_read_only_run_is_printed_and_kept(
    read_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    evaluate([f"--run={read_only / 'run'}", f"--data={read_only / 'snapshot'}", "--device=cpu"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5 and "cannot be written (Read-only file system)" in lines[-1]
    (file,) = (tmp_path / "cwd").iterdir()
    assert str(file) in lines[-1] and json.loads(file.read_bytes())["num_images"] == 4
    evaluate([f"--run={read_only / 'run'}", f"--data={read_only / 'snapshot'}", "--device=cpu"])
    assert len(list((tmp_path / "cwd").iterdir())) == 2, "the first is not overwritten"


def test_an_atlas_of_a_read_only_run_lies_in_the_users_cache(read_only: Path) -> None:
    folder = checkpoint_files.find(read_only / "run", "best")
    job = AtlasJob(folder, read_only / "snapshot", "val")
    assert job.make("cpu") and job.table.is_relative_to(user_folder("atlas"))
    assert AtlasJob(folder, read_only / "snapshot", "val").progress().state == "done"


def test_a_torn_arrow_file_is_made_anew(snapshot: Path, tmp_path: Path) -> None:
    frozen = shutil.copytree(snapshot, tmp_path / "frozen")
    Snapshot.open(frozen).split("train")
    for arrow in (frozen / ".cache").glob("*.arrow"):
        os.truncate(arrow, arrow.stat().st_size // 2)
    assert len(Snapshot.open(frozen).split("train")) == 32
