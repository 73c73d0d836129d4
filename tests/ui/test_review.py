"""Review, Mine and Team: what they do and how it reads, without a page."""

import numpy as np
import pytest

from tests.data_tools.samples import narrative, picture
from ui.review import mine, team
from ui.review import tab as review
from ui.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    """Two images of three people; ann's first narrative has no trace."""
    result = Workspace(tmp_path / "workspace")
    store = result.store
    own = store.add_collection("own")
    store.set_rules(own, overlap=0, needs_review=False)
    for image_id in ("1", "2"):
        store.add_image(own, picture(int(image_id)), dataset_id="d", image_id=image_id)
        for name in ("ann", "bob", "cid"):
            said = {"dataset_id": "d", "annotator_id": store.annotator(name)}
            if (image_id, name) == ("1", "ann"):
                said["traces"] = []
            store.add(own, narrative(image_id, **said))
    yield result
    store.close()


def told_by(workspace: Workspace, name: str) -> list:
    return workspace.store.people.narratives(workspace.store.annotator(name))


def test_the_queue_shows_who_told_it_and_what_is_odd(workspace):
    rows = workspace.store.reviews.queue(1)
    html = review.rows_html(workspace, rows, rows[0].id, "unreviewed")
    assert html.count("class='row'") == 6 and html.count("aria-pressed='true'") == 1
    assert html.count("<i class='flag'") == 1 and "no trace</i>" in html and "bob · 2 s" in html
    assert "Nothing waits" in review.rows_html(workspace, [], None, "unreviewed")


def test_accepting_changed_words_mends_them_and_the_trail_says_so(workspace):
    store = workspace.store
    first, second, *_ = [row.id for row in store.reviews.queue(1)]
    assert review.accept(workspace, "rob", first, "a  dog ") == "Accepted."
    assert "your words" in review.accept(workspace, "rob", second, "a big dog")
    assert [word.text for word in store.narrative(second).words] == ["a", "big", "dog"]
    assert [store.reviews.trail(one)[0].verdict for one in (first, second)] == ["accepted", "fixed"]
    html = review.trail_html(workspace, store.reviews.trail(second))
    assert "<b>fixed</b> by rob" in html and "before: a dog" in html
    with pytest.raises(ValueError, match="Say why"):
        review.reject(workspace, "rob", first, "")
    review.reject(workspace, "rob", first, "the pointer rests")
    assert "<q>the pointer rests</q>" in review.trail_html(workspace, store.reviews.trail(first))


def test_one_mends_and_deletes_ones_own_and_nobody_elses(workspace):
    hers = told_by(workspace, "ann")[0]
    assert "reviewed anew" in mine.mend(workspace, "ann", hers.id, "the dog")
    assert told_by(workspace, "ann")[0].caption == "the dog"
    for action in (
        lambda: mine.mend(workspace, "bob", hers.id, "mine"),
        lambda: mine.take_back(workspace, "bob", hers.id),
    ):
        with pytest.raises(ValueError, match="not yours"):
            action()
    said, entry = mine.take_back(workspace, "ann", hers.id)
    assert said.startswith("Deleted") and len(told_by(workspace, "ann")) == 1
    with pytest.raises(ValueError, match="not yours"):
        mine.bring_back(workspace, "bob", entry)
    assert "is back" in mine.bring_back(workspace, "ann", entry)
    assert len(told_by(workspace, "ann")) == 2
    mine.take_back(workspace, "ann", hers.id)
    html = mine.rows_html(workspace, told_by(workspace, "ann"), None)
    assert "<i class='verdict unreviewed'>" in html


def test_agreement_is_over_the_pairs_of_people_who_share_an_image(workspace):
    agreed = team.agreements(workspace, 1)
    ann, bob = (workspace.store.annotator(name) for name in ("ann", "bob"))
    assert set(agreed) == {0, ann, bob, workspace.store.annotator("cid")}
    assert agreed[bob].trace_iou == 1 and agreed[0].word_error_rate == 0
    table = team.table_html(workspace.store.people.work(1), agreed)
    assert table.count("<tr>") == 5 and "All pairs of people" in table  # head, three, foot
    assert "Nobody has described" in team.table_html([], {})


def test_the_charts_show_the_busiest_and_all_others_together(workspace):
    store = workspace.store
    for number in range(3):
        who = store.annotator(f"new{number}")
        store.add(1, narrative("1", dataset_id="d", annotator_id=who))
    chart = team.charts(1, store.people.work(1))
    counts, paces = chart["panels"]
    assert [line["name"] for line in counts["lines"]] == ["ann", "bob", "4 others"]
    assert [line["y"] for line in counts["lines"]] == [[2], [2], [5]]
    assert np.allclose([line["y"] for line in paces["lines"]], 80)


def test_what_a_person_recorded_is_shown_then_erased(workspace):
    assert "2 narratives, 0 voices" in team.look_up(workspace, " ann ")
    assert "Erased of ann" in team.erase(workspace, "ann")
    assert told_by(workspace, "ann") == [] and len(told_by(workspace, "bob")) == 2
    with pytest.raises(ValueError, match="nobody named 'zoe'"):
        team.look_up(workspace, "zoe")
