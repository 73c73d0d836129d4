"""What a run records of itself, and what it refuses when that no longer holds."""

import json
import platform
import subprocess

import pytest
import torch

from loctex import settings
from loctex.jobs import provenance
from loctex.jobs.run import Run
from loctex.records.snapshot import Snapshot
from loctex.train import main
from tests.loctex.small import small


def test_each_start_records_snapshots_code_and_machine(snapshot, tmp_path):
    file = tmp_path / "wanted.yaml"
    file.write_text(settings.dump(small(snapshot, train__steps=2, train__film_every=0)))
    run = Run(tmp_path / "run")
    main([f"--run={run.path}", f"--settings={file}", f"--data={snapshot}=2"])
    main([f"--run={run.path}", "--resume", "--train.steps=4"])
    first, second = provenance.starts(run)
    assert first["snapshots"] == {str(snapshot): Snapshot.open(snapshot).hash}
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=provenance.ROOT, text=True)
    assert first["code"]["commit"] == commit.strip() and len(first["code"]["hash"]) == 64
    assert first["environment"]["python"] == platform.python_version()
    assert first["environment"]["packages"]["torch"] == torch.__version__.split("+")[0] or (
        first["environment"]["packages"]["torch"] == torch.__version__
    )
    assert {**first, "time": 0, "command": 0} == {**second, "time": 0, "command": 0}
    assert json.loads(run.result_file.read_bytes())["step"] == 4


def test_a_run_is_not_resumed_on_another_snapshot(snapshot, tmp_path, capsys):
    frozen = tmp_path / "frozen"
    (frozen / "data").mkdir(parents=True)
    for file in [snapshot / "snapshot.json", *(snapshot / "data").glob("*.parquet")]:
        (frozen / file.relative_to(snapshot)).write_bytes(file.read_bytes())
    wanted = tmp_path / "wanted.yaml"
    wanted.write_text(settings.dump(small(frozen, train__steps=1, train__film_every=0)))
    run = Run(tmp_path / "run")
    main([f"--run={run.path}", f"--settings={wanted}"])
    manifest = json.loads((frozen / "snapshot.json").read_bytes())
    (frozen / "snapshot.json").write_text(json.dumps(manifest | {"hash": "another"}))
    with pytest.raises(SystemExit, match="was changed since this run began"):
        main([f"--run={run.path}", "--resume", "--train.steps=2"])
    assert len(provenance.starts(run)) == 1


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("a/b", "a/b"),
        ("a/b=2", "a/b"),
        ("a/b=.5", "a/b"),
        ("a=b/c", "a=b/c"),
    ],
)
def test_a_weight_is_no_part_of_the_folder(name, folder):
    assert provenance.without_weight(name) == folder


def test_a_snapshot_at_a_url_is_left_to_its_reader(tmp_path):
    assert provenance.hashes(["s3://bucket/snapshot"]) == {}
    with pytest.raises(ValueError, match="is gone: put it back"):
        provenance.hashes([str(tmp_path)])


def test_a_run_by_another_program_has_no_starts(tmp_path):
    run = Run(tmp_path)
    assert provenance.starts(run) == []
    run.starts_file.write_text('{"time": 1}\n{"time": 2, "sn')
    assert provenance.starts(run) == []  # neither line says what it was made of
