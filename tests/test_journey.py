"""The journey of one narrative (DESIGN section 1), on the CPU in seconds."""

import json

import numpy as np

from data_tools.snapshot import main as freeze
from data_tools.store import Store
from loctex.jobs.run import Run
from loctex.records import images
from loctex.records import snapshot as snapshots
from loctex.records.narrative import Narrative
from loctex.scoring.predictor import Predictor
from loctex.training.loop import train
from tests.loctex.small import small
from ui.viewing.payload import payload


def test_what_a_person_said_becomes_a_model_that_points(scenes, tmp_path):
    # 1-3: records as the browser sends them, checked at the door, stored.
    records = [json.loads(line) for line in (scenes / "narratives.jsonl").read_text().splitlines()]
    store = Store.of_workspace(tmp_path / "workspace", is_new=True)
    collection = store.add_collection("mine")
    annotator = store.annotator("ada")
    for record in records:
        data = (scenes / "images" / f"{record['image_id']}.jpg").read_bytes()
        row = store.add_image(collection, data, dataset_id="studio")
        mine = record | {
            "dataset_id": row.dataset_id,
            "image_id": row.image_id,
            "annotator_id": annotator,
        }
        store.add(collection, Narrative.from_json(json.dumps(mine)))
    assert store.collections()[0].num_narratives == 40
    store.close()

    # 4: frozen.
    to = tmp_path / "snapshot"
    freeze([f"--workspace={tmp_path / 'workspace'}", "--collection=mine", f"--to={to}"])
    opened = snapshots.Snapshot.open(to)
    assert [len(opened.split(name)) for name in ("train", "val", "test")] == [32, 4, 4]

    # 5-6: trained. Losses of the same batch before and after, so that they compare.
    run = Run(tmp_path / "run")
    outcome = train(small(to, train__steps=30, train__learning_rate=5e-3), run)
    assert outcome["is_done"]
    rows = [row for row in run.metrics() if "loss" in row]
    assert rows[-1]["loss_localization"] < rows[0]["loss_localization"]

    # 7-8: seen, beside what the person did.
    item = opened.split("val")[0]
    predictor = Predictor.load(run.path)
    image = images.decode_image(item.image)
    predictor.set_image(image)
    narrative = item.narratives[0]
    seen = predictor.attend(narrative.caption, narrative.words)
    shown = payload(seen, image, narrative)
    assert [word["text"] for word in shown["words"]] == [word.text for word in narrative.words]
    assert len(shown["strokes"]) == len(narrative.strokes)
    np.testing.assert_allclose(seen.maps.sum(axis=(1, 2)), 1, atol=1e-5)
    assert np.ptp(seen.maps[0] - seen.maps[-1]) > 0  # another word, another map
