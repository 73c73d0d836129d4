"""A backup is whole or refused: everything travels, a cut or a flipped byte is never overlooked."""

import json
import os
import random
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_tools import backup
from data_tools.restoring.manifest import Manifest
from data_tools.store import Store
from loctex.jobs import checkpoint_files
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command, training
from loctex.jobs.run import Run
from tests.data_tools.test_backup import contents, filled
from ui.workspace import Workspace

OLD = Path(__file__).parents[1] / "old"


def add_checkpoint(run: Run, step: int) -> Path:
    folder = run.checkpoints / f"step-{step:08d}"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "training.pt"):
        (folder / name).write_text(f"{run.name} {step} {name}")
    return folder


def add_run(root: Path, name: str, state: str) -> Run:
    """A run in a state, as its files and locks would say it; with checkpoints where it worked."""
    run = Run(root / "runs" / name)
    run.path.mkdir(parents=True)
    words = training(run.path, [root / "snapshots" / "one"], "tiny", {})
    command = Command(words, snapshots={str(root / "snapshots" / "one"): "x"}, token=name)
    run.command_file.write_text(command.to_json())
    run.settings_file.write_text(
        json.dumps(
            {"data": {"snapshots": [str(root / "snapshots" / "one")]}, "model": {"init": ""}}
        )
    )
    if state == "waiting":
        run.wait(1.0)
        return run
    for step in (2, 4):
        run.log(step, loss=1 / step)
        checkpoint_files.link(run.path, "best" if step == 2 else "last", add_checkpoint(run, step))
    run.train_lock.write_text("1")
    run.log_file.write_text("$ python\n")
    if state == "stopped":
        run.request_stop()
    if state != "running":
        run.exit_file.write_text(json.dumps({"code": int(state == "failed"), "time": 1.0}))
    if state == "done":
        run.finish({"step": 4})
    assert run.state == {"running": "failed"}.get(state, state)  # nobody holds its lock
    return run


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace that has everything."""
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)
    root = tmp_path / "from"
    filled(root, None).close()
    shutil.rmtree(root / "runs")
    for state in ("done", "stopped", "failed", "waiting", "running"):
        add_run(root, f"is {state}", state)
    add_run(root, "padlock", "done")
    for name in (
        "voices/drafts/a.pcm",
        "snapshots/one/data/train-00000-of-00001.parquet",
        "exports/mine/narratives.jsonl",
        "evaluations/runs/first/result.json",
        "evaluations/runs/first/exit.json",
        "handover/runs/first/files/README.md",
        "runs/is done/remarks.json",
        "runs/is done/film.jsonl",
        "runs/is done/starts.jsonl",
        "runs/is done/atlas/key/atlas.arrow",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('{"code": 0}' if name.endswith("exit.json") else name)
    manifest = {"hash": "x", "splits": {"train": {}}}
    (root / "snapshots" / "one" / "snapshot.json").write_text(json.dumps(manifest))
    (root / "launchers.yaml").write_text("cluster: srun {command}\n")
    yield root


def files_of(root: Path) -> dict[str, bytes]:
    """Every file and link that counts, and what is in it."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path).encode()
        elif path.is_file() and not name.startswith("studio.db") and not name.endswith(".lock"):
            found[name] = path.read_bytes()
    return found


def saved(root: Path, **options: object) -> Path:
    file = root.with_name("saved.tar")
    backup.save(root, file, **options)
    return file


def test_everything_of_a_workspace_travels(root: Path, tmp_path: Path) -> None:
    done = backup.restore(saved(root), tmp_path / "to", has_launchers=True)
    assert (done.missing, done.left_out, done.held, done.is_proven) == ((), (), (), True)
    old, new = files_of(root), files_of(tmp_path / "to")
    for name in list(old):
        if "/.cache/" in name:
            del old[name]
        elif name.endswith(("command.json", "settings.yaml")):
            text = old[name].replace(bytes(root), bytes(tmp_path / "to"))
            assert bytes(root) not in new[name] and text.split() != []
            del old[name], new[name]
    del old["runs/is waiting/waiting"]
    stops = {f"runs/is {state}/stop" for state in ("waiting", "running")}
    assert stops <= set(new) and "handover/runs/first/stop" in new
    assert {name: new.get(name) for name in old} == old and len(old) > 60
    assert set(new) - set(old) == stops | {"handover/runs/first/stop"}

    one, two = Store.of_workspace(root), Store.of_workspace(tmp_path / "to")
    assert contents(one) == contents(two)
    for store in (one, two):
        store.close()


def test_runs_come_back_with_their_links_and_wait_for_a_click(root: Path, tmp_path: Path) -> None:
    backup.restore(saved(root), tmp_path / "to")
    runs = {run.name: run for run in jobs.all_runs(tmp_path / "to")}
    assert {name: run.state for name, run in runs.items()} == {
        "is done": "done",
        "is stopped": "stopped",
        "is failed": "failed",
        "is waiting": "stopped",
        "is running": "stopped",
        "padlock": "done",
    }
    assert jobs.queue(tmp_path / "to") == [] and not jobs.has_work(tmp_path / "to")
    for name in ("is done", "is stopped", "is failed", "is running"):
        assert checkpoint_files.find(runs[name].path, "last").name == "step-00000004"
        assert checkpoint_files.find(runs[name].path, "best").name == "step-00000002"
    jobs.resume(tmp_path / "to", runs["is waiting"])
    jobs.resume(tmp_path / "to", runs["is running"])
    words = {run.name: jobs.command_of(run).words for run in jobs.queue(tmp_path / "to")}
    for name in ("is waiting", "is running"):
        assert str(tmp_path / "to" / "runs" / name) in words[name]
        assert str(root) not in " ".join(words[name])
    assert words["is running"][-1] == "--resume" and "--resume" not in words["is waiting"]
    assert [row["step"] for row in runs["is running"].metrics()] == [2, 4]
    assert len(checkpoint_files.folders(runs["is running"].path)) == 2


def test_launchers_and_users_are_put_in_place_on_request_only(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "users").write_text("eve admin hash\n")
    file, to = saved(root, users=tmp_path / "users"), tmp_path / "to"
    assert backup.main(["restore", str(file), "--workspace", str(to)]) == 0
    assert not (to / "launchers.yaml").exists() and "held" not in os.listdir(to)
    words = capsys.readouterr().err
    assert "launchers.yaml was not put in place; add --launchers" in words and "--users" in words
    arguments = ["--workspace", str(tmp_path / "again"), "--launchers"]
    assert backup.main(["restore", str(file), *arguments, "--users", str(tmp_path / "new")]) == 0
    assert (tmp_path / "again" / "launchers.yaml").read_text() == "cluster: srun {command}\n"
    assert (tmp_path / "new").read_text() == "eve admin hash\n"
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError, match="name another file for the users"):
        backup.restore(file, tmp_path / "third", users=tmp_path / "users")


def test_what_does_not_travel_is_named(root: Path, tmp_path: Path, capsys) -> None:
    (root / "snapshots" / "far").symlink_to(tmp_path)
    (root / "notes.txt").write_text("mine")
    (root / "studio.db.before-0009").write_text("old")
    file = tmp_path / "saved.tar"
    assert backup.main(["save", str(file), "--workspace", str(root)]) == 0
    words = capsys.readouterr().err
    assert "left out: notes.txt" in words and "left out: studio.db.before-0009" in words
    assert f"snapshots/far: a link to {tmp_path}, out of the workspace" in words
    assert len(backup.restore(file, tmp_path / "to").left_out) == 3


def without_stops(root: Path) -> dict[str, bytes]:
    """A stop file holds the moment in which the run was restored."""
    return {name: one for name, one in files_of(root).items() if not name.endswith("/stop")}


def outcome(file: Path, to: Path, expected: dict[str, bytes]) -> str:
    """Whether it was "refused", or "healed": all is as it was. Else a backup was lost unseen."""
    try:
        done = backup.restore(file, to, has_launchers=True)
    except ValueError:
        assert not to.exists() and not [one for one in to.parent.iterdir() if ".tmp" in one.name]
        return "refused"
    assert done.is_proven and without_stops(to) == expected
    shutil.rmtree(to)
    return "healed"


def damaged(root: Path, tmp_path: Path, how: str, seed: int, tries: int) -> dict[str, int]:
    """How often a file that was cut, or had a byte flipped, was refused and healed."""
    whole = saved(root).read_bytes()
    to, broken, rng = tmp_path / "to", tmp_path / "broken.tar", random.Random(seed)
    backup.restore(root.with_name("saved.tar"), to, has_launchers=True)
    expected = without_stops(to)
    shutil.rmtree(to)
    counts = {"refused": 0, "healed": 0}
    for _ in range(tries):
        place = rng.randrange(1, len(whole))
        piece = bytearray(whole)
        if how == "cut":
            del piece[place:]
        else:
            piece[place] ^= 1 << rng.randrange(8)
        broken.write_bytes(piece)
        counts[outcome(broken, to, expected)] += 1
    return counts


@pytest.mark.parametrize("how", ["cut", "flip"])
@pytest.mark.parametrize(("seed", "tries"), [(1, 10), pytest.param(2, 100, marks=pytest.mark.slow)])
def test_a_damaged_backup_is_never_taken_for_whole(
    root: Path, tmp_path: Path, how: str, seed: int, tries: int
) -> None:
    counts = damaged(root, tmp_path, how, seed, tries)
    assert sum(counts.values()) == tries and counts["refused"] > 0


def test_a_backup_cut_at_every_kind_of_border_is_refused(root: Path, tmp_path: Path) -> None:
    file = saved(root)
    with tarfile.open(file) as tar:
        members = tar.getmembers()
    whole, broken = file.read_bytes(), tmp_path / "broken.tar"
    for entry in (members[0], members[1], members[len(members) // 2], members[-1]):
        for place in (entry.offset, entry.offset_data, entry.offset_data + 1):
            broken.write_bytes(whole[:place])
            with pytest.raises(ValueError, match="is not whole|is no saved workspace"):
                backup.restore(broken, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_part_of_a_damaged_backup_is_restored_on_request_and_says_what_is_missing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file, name = saved(root), "runs/is done/checkpoints/step-00000004/training.pt"
    with tarfile.open(file) as tar:
        place = tar.getmember(name).offset_data
    piece = bytearray(file.read_bytes())
    piece[place] ^= 1
    file.write_bytes(piece)
    words = ["restore", str(file), "--workspace", str(tmp_path / "to")]
    assert backup.main(words) == 1 and not (tmp_path / "to").exists()
    error = capsys.readouterr().err
    assert f"{name} is damaged" in error and "--partial" in error
    assert backup.main([*words, "--partial"]) == 0
    assert f"missing: {name} is damaged" in capsys.readouterr().err
    assert not (tmp_path / "to" / name).exists()
    assert (tmp_path / "to" / name).with_name("config.json").exists()

    file.write_bytes(bytes(piece[:place]))  # and cut off besides
    done = backup.restore(file, tmp_path / "cut", is_partial=True)
    assert any("cut off" in line for line in done.missing) and not done.is_proven
    assert (tmp_path / "cut" / "voices" / "a.wav").exists()
    store = Store.of_workspace(tmp_path / "cut")
    assert len(store.collections()) == 1
    store.close()


def test_a_backup_without_a_manifest_cannot_be_proven_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    to = tmp_path / "to"
    assert backup.main(["restore", str(OLD / "backup.tar"), "--workspace", str(to)]) == 0
    assert "cannot be proven whole" in capsys.readouterr().err
    (done, queued) = jobs.all_runs(to)
    assert (done.state, queued.state) == ("done", "stopped")
    for name in ("best", "last"):
        assert (
            checkpoint_files.find(done.path, name) == (done.checkpoints / "step-00000006").resolve()
        )
        assert (done.path / name).is_symlink()
    workspace = Workspace(to)
    assert [run.name for run in workspace.runs()] != []
    workspace.store.close()


def test_a_manifest_says_its_own_damage() -> None:
    text = Manifest({"a": (1, "x")}, {"b": "c"}, ["d"]).to_bytes()
    assert Manifest.from_bytes(text) == Manifest({"a": (1, "x")}, {"b": "c"}, ["d"])
    refused = 0
    for place in range(len(text)):
        piece = bytearray(text)
        piece[place] ^= 1
        try:
            same = Manifest.from_bytes(bytes(piece)) == Manifest.from_bytes(text)
            assert same
        except ValueError:
            refused += 1
    assert refused > 0.9 * len(text)


def test_what_is_hidden_deep_in_a_folder_travels_and_drafts_do_not(
    root: Path, tmp_path: Path
) -> None:
    (root / "exports" / "mine" / ".gitattributes").write_text("*.parquet lfs\n")
    draft = root / "images" / ".a.jpg.host.1.2.tmp"
    draft.write_text("half")
    (root / "runs" / ".old.17").mkdir()
    (root / "runs" / ".old.17" / "command.json").write_text("{}")
    (root / "statistics").mkdir()
    lines: list[str] = []
    backup.save(root, tmp_path / "saved.tar", has_runs=False, tell=lines.append)
    names = ("evaluations", "handover", "runs")
    assert lines == [f"{name}: as --without-runs says" for name in names]
    backup.restore(tmp_path / "saved.tar", tmp_path / "to")
    assert (tmp_path / "to" / "exports" / "mine" / ".gitattributes").exists()
    assert not (tmp_path / "to" / "images" / draft.name).exists()
    assert not (tmp_path / "to" / "runs").exists()
