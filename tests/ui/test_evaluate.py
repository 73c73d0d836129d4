"""Evaluate and Export: what a question becomes, and what a result says."""

import json
import time
import zipfile
from pathlib import Path

import pytest

from loctex.export import formats as exporting
from loctex.jobs.command import Command, training
from loctex.jobs.run import Run
from loctex.jobs.watcher import Job
from tests.loctex.stand_ins import stand_in
from ui.evaluate import evaluation_view as view
from ui.evaluate import questions
from ui.evaluate import tab as evaluate
from ui.evaluate.questions import LABELS, SPLIT, Question
from ui.export import export_view, exports
from ui.workspace import Workspace

FOUND = {
    "protocol": "efficiency",
    "measure": "accuracy",
    "counts": [10, 100],
    "rows": [
        {
            "name": "random initialization",
            "mean": [0.25, 0.5],
            "std": [0.05, 0],
            "scores": [[0.2, 0.5], [0.3, 0.5]],
        },
        {
            "name": "<mine>",
            "mean": [0.375, 0.75],
            "std": [0.025, 0],
            "scores": [[0.35, 0.75], [0.4, 0.75]],
        },
    ],
    "sentences": ["<mine> with 22 labels equals random initialization with 100."],
    "classes": ["ant", "bee"],
    "num_train": 100,
    "num_test": 25,
    "left_out": {"image <x>.png": "is damaged"},
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def words(workspace: Workspace, question: Question) -> list[str]:
    return list(questions.command(workspace, question)[1].words[1:])


def test_a_question_about_labels_is_the_command_a_person_would_type(workspace, tmp_path) -> None:
    (tmp_path / "insects").mkdir()
    asked = Question(
        LABELS,
        str(workspace.runs_dir / "mine" / "last"),
        (str(workspace.runs_dir / "plain"), "timm:resnet18"),
        labels=f" {tmp_path / 'insects'} ",
        seeds=3,
    )
    job, command = questions.command(workspace, asked)
    assert job.name == "mine-on-insects-1" and command.grace == 0
    assert list(command.words[1:]) == [
        "-m",
        "loctex.transfer.efficiency",
        "--run",
        f"{workspace.runs_dir}/mine",
        "--checkpoint",
        "last",
        "--to",
        f"{job.path}/result.json",
        "--labels",
        f"{tmp_path}/insects",
        "--seeds",
        "3",
        "--also",
        f"{workspace.runs_dir}/plain",
        "--also",
        "timm:resnet18",
        "--skip-damaged",
    ]


def test_a_question_about_a_split_and_what_is_missing_in_one(workspace, tmp_path) -> None:
    model = str(workspace.runs_dir / "mine" / "best")
    found = words(workspace, Question(SPLIT, model, snapshot=str(tmp_path / "snap"), split="test"))
    assert found[1] == "loctex.evaluate"
    assert found[-4:] == ["--data", f"{tmp_path}/snap", "--split", "test"]
    for question, message in (
        (Question(LABELS, "", labels=str(tmp_path)), "Choose a model"),
        (Question(SPLIT, model), "Choose a snapshot"),
        (Question(LABELS, model, labels=" "), "Name the labels"),
        (Question(LABELS, model, labels="/gone/here"), "There is nothing at /gone/here"),
        (Question(LABELS, model, labels=str(tmp_path), images="/gone"), "nothing at /gone"),
    ):
        with pytest.raises(ValueError, match=message):
            questions.command(workspace, question)


def test_the_chart_has_error_bars_and_shows_the_model_in_question_first() -> None:
    panel = questions.chart(Run("mine-1"), FOUND)["panels"][0]
    assert [line["name"] for line in panel["lines"]] == ["<mine>", "random initialization"]
    assert panel["lines"][0]["error"] == [0.025, 0] and panel["ticks"] == [10, 100]
    assert "25 images never trained on" in panel["note"] and "2 draws" in panel["note"]
    assert questions.chart(Run("mine-1"), {"metrics": {}})["panels"] == []


def test_a_result_is_said_in_a_sentence_and_a_table_with_what_is_left_out() -> None:
    assert "&lt;mine&gt; with 22 labels equals" in view.headline(FOUND)
    html = view.report(FOUND)
    assert "<td class='best'>37.5 <small>±2.5</small></td>" in html
    assert html.index("&lt;mine&gt;") < html.index("random initialization")
    assert "image &lt;x&gt;.png: is damaged" in html and "<x>" not in html
    lines = questions.spreadsheet(FOUND).splitlines()
    assert lines[0] == "encoder,labels,measure,mean,std,draws"
    assert lines[1:3] == [
        "random initialization,10,accuracy,0.25,0.05,2",
        "random initialization,100,accuracy,0.5,0,2",
    ]
    assert len(lines) == 5


def test_a_split_s_result_stands_beside_its_chance() -> None:
    metrics = {"pointing_region": 0.8, "pointing_region_chance": 0.15, "auc": 0.7}
    found = {
        "metrics": metrics,
        "num_images": 30,
        "num_words": 90,
        "split": "val",
        "checkpoint": "step-7",
        "words": {
            "red dog": {"num_regions": 30, "pointing_region": 0.5},
            "a": {"count": 7, "pointing_trace": 0.25},
            "cat": {"count": 9, "pointing_trace": 0.5},
        },
    }
    html = view.report(found)
    cells = "<td>0.800</td><td></td><td></td><td>0.150</td>"
    assert f"<tr><th>Points at the thing named</th>{cells}</tr>" in html
    assert "30 images" in html and "<th>cat</th><td>9</td><td>0.50</td>" in html
    assert html.index("<th>cat</th>") < html.index("<th>a</th>") and "red dog" not in html
    assert "split val · step 7" in html and view.headline(found) == ""
    assert "auc,0.7" in questions.spreadsheet(found)


def test_pointing_is_said_in_words_beside_always_pointing_at_the_middle() -> None:
    metrics = {"pointing_region": 0.52, "pointing_region_center": 0.48}
    assert view.verdict({"auc": 0.7}, {}) == ""
    sentence = (
        "Points at the thing named 52% of the time, better than always pointing at the middle"
    )
    assert f"{sentence} (48%).</p>" in view.verdict(metrics, {"pointing_region": [0.5, 0.54]})
    unsure = view.verdict(metrics, {"pointing_region": [0.45, 0.6]})
    assert f"{sentence} (48%); with so few pictures that may be chance." in unsure
    assert "not better than always" in view.verdict(metrics | {"pointing_region": 0.4}, {})


def test_progress_is_what_the_last_bar_says(tmp_path) -> None:
    job = Run(tmp_path)
    assert view.progress(job) == (None, "")
    job.log_file.write_bytes(
        b"$ x\nmine:   0%|   | 0/450 [00:00<?, ?image/s]\rmine:  45%|###  | 200/450 [00:10<00:12, "
        b"20.0image/s]"
    )
    assert view.progress(job) == (0.45, "mine, 00:12 left of this part")
    job.log_file.write_bytes(b"  0%|   | 0/4 [00:00<?, ?batch/s]")
    assert view.progress(job) == (0.0, "Scoring")


def test_a_stopped_evaluation_ends_at_once(workspace, tmp_path, monkeypatch) -> None:
    """Its command does not look for a stop file, so it gets its SIGTERM without the usual grace."""
    root = questions.root(workspace)
    job = Run(root / "runs" / "mine-1")
    stand_in(tmp_path / "stand-ins", "mine-1", "import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand-ins"))
    job.path.mkdir(parents=True)
    job.command_file.write_text(Command(training(job.path, [], "", {}), grace=0.0).to_json())
    job.settings_file.touch()
    job.wait(0.0)
    work = Job(job, grace=1000.0)
    assert not work.has_ended()
    job.request_stop()
    deadline = time.monotonic() + 20
    while not work.has_ended():
        assert time.monotonic() < deadline
    assert job.exit_code == -15 and job.state == "stopped"


def test_every_format_of_the_command_can_be_chosen() -> None:
    assert [name for name, _ in exports.FORMATS] == list(exporting.FORMATS)


def test_an_export_is_done_when_its_folder_is_there(workspace, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(exports, "get_upload_folder", lambda: str(tmp_path / "uploads"))
    job, command = exports.command(workspace, str(workspace.runs_dir / "mine" / "best"), "timm")
    assert command.words[2:] == (
        "loctex.export",
        "--run",
        f"{workspace.runs_dir}/mine",
        "--checkpoint",
        "best",
        "--format",
        "timm",
        "--to",
        f"{job.path}/files",
    )
    with pytest.raises(ValueError, match="Choose a model"):
        exports.command(workspace, "", "timm")
    small = workspace.runs_dir / "small" / "best"
    small.mkdir(parents=True)
    (small / "config.json").write_text('{"backbone_options": {"layers": [1, 1]}}')
    with pytest.raises(ValueError, match="small has layers of its own.*choose timm"):
        exports.command(workspace, str(small), "torchvision")
    assert exports.command(workspace, str(small), "onnx")[0].name == "small-onnx-1"
    assert exports.state(job) == "new"
    exports.files(job).mkdir(parents=True)
    (exports.files(job) / "model.safetensors").write_bytes(b"0" * 1_500_000)
    (exports.files(job) / "README.md").write_text('---\nlibrary_name: "timm"\n---\n\n# mine\n')
    job.log_file.write_text("image_features   differs by 0.0e+00 after reloading\n")
    assert exports.state(job) == "done"
    html = export_view.status(job)
    assert "image features 0.0e+00" in html and "1.5 MB" in html
    packed = exports.packed(job)
    with zipfile.ZipFile(packed) as archive:
        assert sorted(archive.namelist()) == [
            "mine-timm-1/README.md",
            "mine-timm-1/model.safetensors",
        ]
    assert exports.packed(job) == packed
    assert exports.without_head((exports.files(job) / "README.md").read_text()) == "\n# mine\n"


def test_a_finished_evaluation_can_be_downloaded(workspace, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(evaluate, "get_upload_folder", lambda: str(tmp_path / "uploads"))
    job = Run(tmp_path / "mine-1")
    job.finish(FOUND)
    table, whole = map(Path, evaluate.downloads(job))
    assert table.read_text().count("\n") == 5 and table.name == "mine-1.csv"
    assert json.loads(whole.read_text()) == FOUND
