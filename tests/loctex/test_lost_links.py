"""A run whose links were lost keeps its checkpoints, and Resume finds the newest."""

from pathlib import Path

import pytest

from loctex import settings
from loctex.jobs import checkpoint_files
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command
from loctex.jobs.run import Run
from loctex.train import main
from loctex.training.loop import train
from tests.loctex.small import small


def steps(run: Run) -> list[int]:
    return [checkpoint_files.step_of(folder) for folder in checkpoint_files.folders(run.path)]


@pytest.fixture(scope="module")
def trained(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four checkpoints, all kept."""
    run = Run(tmp_path_factory.mktemp("lost") / "run")
    run.path.mkdir()
    chosen = small(snapshot, train__steps=4, train__keep_every=1, train__film_every=0)
    (run.path.parent / "settings.yaml").write_text(settings.dump(chosen))
    main(["--run", str(run.path), "--settings", str(run.path.parent / "settings.yaml")])
    assert steps(run) == [1, 2, 3, 4]
    return run


def without_links(run: Run) -> None:
    for name in ("last", "best"):
        (run.path / name).unlink(missing_ok=True)


def test_without_links_a_run_is_found_resumed_and_nothing_of_it_deleted(trained: Run) -> None:
    without_links(trained)
    assert checkpoint_files.find(trained.path, "last").name == "step-00000004"
    with pytest.raises(ValueError, match="best is lost; name the checkpoint: step-00000001"):
        checkpoint_files.find(trained.path, "best")
    with pytest.raises(ValueError, match="holds a run already; name another, or add --resume"):
        start_anew(trained)
    before = trained.metrics()
    words = ["--run", str(trained.path), "--resume", "--train.steps", "6", "--train.keep_every"]
    main([*words, "0"])
    best = int((trained.path / "best").resolve().name.removeprefix("step-"))
    # 4 was the last one until 6 was, and stays where it is the best; nothing else is deleted
    assert steps(trained) == sorted({1, 2, 3, 6, best}) and best in (4, 6)
    assert trained.metrics()[: len(before)] == before
    assert (trained.path / "last").resolve().name == "step-00000006"


def start_anew(run: Run) -> None:
    """Without --resume, and without the result that would refuse it already."""
    run.result_file.rename(run.path / "kept")
    try:
        main(["--run", str(run.path)])
    except SystemExit as error:
        raise ValueError(str(error)) from error
    finally:
        (run.path / "kept").rename(run.result_file)


def test_the_apps_resume_takes_a_run_without_links_for_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "ensure_watcher", lambda workspace: None)
    run = jobs.submit(
        tmp_path, Run(tmp_path / "runs" / "one"), Command(("python", "-m", "loctex.train"))
    )
    jobs.stop(tmp_path, run)
    for step in (2, 4):
        run.log(step, loss=1.0)
        (run.checkpoints / f"step-{step:08d}").mkdir(parents=True)
        (run.checkpoints / f"step-{step:08d}" / "config.json").write_text("{}")
    jobs.resume(tmp_path, run)
    assert jobs.command_of(run).words[-1] == "--resume" and len(run.metrics()) == 2
    assert steps(run) == [2, 4]


def test_links_are_mended_to_what_a_trainer_would_have_kept(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (2, 4):
        (run.checkpoints / f"step-{step:08d}").mkdir(parents=True)
        (run.checkpoints / f"step-{step:08d}" / "config.json").write_text("{}")
    checkpoint_files.mend_links(tmp_path)
    names = {name: (tmp_path / name).resolve().name for name in ("last", "best")}
    assert names == {"last": "step-00000004", "best": "step-00000002"}
    checkpoint_files.mend_links(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_run_with_its_links_keeps_last_and_best_alone(snapshot: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    train(small(snapshot, train__steps=6, train__checkpoint_every=1, train__film_every=0), run)
    linked = {(run.path / name).resolve().name for name in ("last", "best")}
    assert {folder.name for folder in checkpoint_files.folders(run.path)} == linked
