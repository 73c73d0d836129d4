"""Withdrawn consent: what a person recorded goes, and where copies went is told."""

import json

import numpy as np

from data_tools import withdrawal
from data_tools.exchange.sources import CollectionSource
from data_tools.localized_narratives import export_collection
from data_tools.snapshot import freeze
from data_tools.speech.voices import RATE, Voices
from data_tools.store import Store
from tests.data_tools.samples import narrative, picture


def test_voices_and_drafts_go_and_snapshots_runs_and_exports_are_named(tmp_path, capsys):
    root = tmp_path / "workspace"
    store = Store.of_workspace(root, is_new=True)
    voices = Voices(root / "voices")
    ann, bob = store.annotator("ann"), store.annotator("bob")
    take, draft = "a" * 32, "b" * 32
    sound = np.zeros(RATE, np.int16).tobytes()
    for number, (name, who) in enumerate((("hers", ann), ("his", bob))):
        collection = store.add_collection(name)
        row = store.add_image(collection, picture(number), dataset_id="d", image_id=name)
        said = {"dataset_id": "d", "annotator_id": who}
        if who == ann:
            voices.append(take, 0, sound)
            said["voice_recording"] = voices.keep(take, RATE)
            voices.append(draft, 0, sound)
            store.save_draft(draft, ann, row.id, "{}")
        store.add(collection, narrative(name, **said), take_id=take if who == ann else None)
        freeze(root / "snapshots" / name, [CollectionSource(store, name)])
        (root / "runs" / name).mkdir(parents=True)
        command = {"line": f"--data {root / 'snapshots' / name}", "words": []}
        (root / "runs" / name / "command.json").write_text(json.dumps(command))
    export_collection(store, store.collection("hers"), root / "exports" / "one")
    (root / "studio.db.before-0002").touch()
    assert withdrawal.holds(root / "snapshots" / "hers", ann)
    assert not withdrawal.holds(root / "snapshots" / "his", ann)

    told = ["ann", "--workspace", str(root)]
    assert withdrawal.main(told) == 0 and voices.find(f"voices/{take}.wav")
    looked = capsys.readouterr().out
    assert withdrawal.main([*told, "--erase"]) == 0
    erased = capsys.readouterr().out
    for said in (looked, erased):
        assert "1 narratives, 1 voices, 1 drafts, 0 skipped images" in said
        assert f"snapshot that holds them: {root / 'snapshots' / 'hers'}\n" in said
        assert f"run trained on them: {root / 'runs' / 'hers'}\n" in said
        assert f"export that holds them: {root / 'exports' / 'one'}\n" in said
        assert f"copy from before: {root / 'studio.db.before-0002'}" in said
        assert "his" not in said
    assert [path.name for path in (root / "voices").rglob("*") if path.is_file()] == []
    assert [len(store.narratives(store.collection(name))) for name in ("hers", "his")] == [0, 1]
    assert withdrawal.main(told) == 1 and "nobody named 'ann'" in capsys.readouterr().err
    store.close()


def test_an_image_goes_with_what_was_told_of_it_and_its_file_when_no_other_shows_it(tmp_path):
    store = Store.of_workspace(tmp_path, is_new=True)
    first, second = store.add_collection("a"), store.add_collection("b")
    here = store.add_image(first, picture(), dataset_id="d", image_id="1")
    there = store.add_image(second, picture(), dataset_id="d", image_id="1")
    store.add(first, narrative("1", dataset_id="d", voice_recording="voices/x.wav"))
    assert store.delete_image(here.id) == ["voices/x.wav"]
    assert store.narratives(first) == [] and here.path.exists()
    assert store.delete_image(there.id) == [] and not here.path.exists()
    store.close()
