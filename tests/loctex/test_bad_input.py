"""What people hand to training and evaluation by mistake: a clear error, or the right result."""

import json
import re
import shutil

import numpy as np
import pytest

from loctex import settings
from loctex.jobs import checkpoint_files
from loctex.jobs.run import Run
from loctex.loading import tokenization
from loctex.model import build, losses
from loctex.train import main
from loctex.training import checkpoint
from loctex.training.loop import train
from tests.loctex.small import small


@pytest.fixture(scope="module")
def run(snapshot, tmp_path_factory):
    """Half of a run of 8 steps."""
    path = tmp_path_factory.mktemp("runs") / "run"
    wanted = small(snapshot)
    path.mkdir()
    (path / "settings.yaml").write_text(settings.dump(wanted))
    Run(path).request_stop()
    train(wanted, Run(path))
    Run(path).clear_stop()
    return path


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run", symlinks=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("--model.text_layers=3", "model.text_layers from 1 to 3"),
        ("--train.optimizer=sgd", "train.optimizer from adamw to sgd"),
        ("--loss.queue=16", "loss.queue from 0 to 16"),
        ("--train.ema=0.9", "train.ema from 0.0 to 0.9"),
    ],
)
def test_resume_refuses_settings_that_the_checkpoint_was_not_made_with(copy, change, told):
    with pytest.raises(SystemExit, match=f"{re.escape(told)}.*--model.init"):
        main(["--run", str(copy), "--resume", change])


def test_resume_takes_settings_that_a_checkpoint_does_not_depend_on(copy):
    main(["--run", str(copy), "--resume", "--train.steps=3", "--loss.localization_weight=0.5"])
    assert json.loads(Run(copy).result_file.read_text())["step"] == 3


def test_a_cut_training_state_is_refused_and_the_weights_are_not(copy):
    file = copy / "last" / "training.pt"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(SystemExit, match=r"training\.pt is damaged.*resume from another"):
        main(["--run", str(copy), "--resume"])
    assert build.load(checkpoint_files.find(copy, "last")).config.localized


def test_weights_without_their_training_state_say_how_to_go_on(copy):
    (copy / "last" / "training.pt").unlink()
    with pytest.raises(SystemExit, match="no training.pt; use --model.init"):
        main(["--run", str(copy), "--resume"])


def test_a_tokenizer_of_another_run_is_refused(copy):
    other = tokenization.train(["a much longer list of other words " * 3] * 3, 900, 64)
    other.add_tokens([f"word{i}" for i in range(300)])
    other.save_pretrained(copy / "last")
    with pytest.raises(ValueError, match="tokenizer has .* words, its model 3.*of two runs"):
        tokenization.load(copy / "last")


def test_captions_in_letters_the_tokenizer_never_saw_train_and_are_scored(scenes, run, tmp_path):
    from data_tools.snapshot import main as freeze

    lines = (scenes / "narratives.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        record["caption"] = "красный круг слева 🙂"
        record["timed_caption"] = [
            {"utterance": word, "start_time": i, "end_time": i + 1.0}
            for i, word in enumerate(record["caption"].split())
        ]
    (tmp_path / "n.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    freeze(
        [
            f"--narratives={tmp_path / 'n.jsonl'}",
            f"--images={scenes / 'images'}",
            f"--to={tmp_path / 'foreign'}",
        ]
    )
    outcome = train(small(tmp_path / "foreign", model__init=str(run)), Run(tmp_path / "new"))
    assert outcome["step"] == 8 and all(map(np.isfinite, outcome["metrics"].values()))
    rows = [row for row in Run(tmp_path / "new").metrics() if "loss" in row]
    assert all(row["grounded"] > 0 and np.isfinite(row["loss"]) for row in rows)


def test_a_loss_that_is_not_finite_is_told_with_its_images_before_anything_is_saved(
    snapshot, tmp_path, monkeypatch
):
    calls = []

    def broken(*parts, **more):
        calls.append(1)
        return contrastive(*parts, **more) * (float("inf") if len(calls) == 3 else 1)

    contrastive = losses.contrastive
    monkeypatch.setattr(losses, "contrastive", broken)
    wanted = small(snapshot, train__log_every=8, train__checkpoint_every=1)
    with pytest.raises(FloatingPointError, match=r"at step 3, of the images \S+, .*and 2 more"):
        train(wanted, Run(tmp_path / "run"))
    assert len(calls) == 3  # a checkpoint each step looks each step
    state = checkpoint.load_state(checkpoint_files.find(tmp_path / "run", "last"))
    assert state["step"] == 2


def test_exclusive_words_that_no_caption_says_are_refused(snapshot, tmp_path):
    wanted = small(
        snapshot,
        loss__matching_weight=1.0,
        loss__changed_captions=True,
        data__exclusive_words="cat dog",
    )
    with pytest.raises(ValueError, match="needs two words that the captions say"):
        train(wanted, Run(tmp_path / "run"))
