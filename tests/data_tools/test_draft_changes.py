"""A take put together from its changes is the take, and no change can break it."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.store.drafts.changes import apply, demand_change, merged

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(0, 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
COUNT = st.integers(0, 9)
POINT = st.lists(st.floats(0, 1), min_size=3, max_size=3)
CHANGE = st.fixed_dictionaries(
    {},
    optional={
        "caption": st.tuples(COUNT, COUNT, st.text(max_size=5)).map(list),
        "words": st.tuples(COUNT, COUNT, st.lists(JSON, max_size=3)).map(list),
        "traces": st.tuples(COUNT, COUNT, st.lists(st.lists(POINT, max_size=3), max_size=3)).map(
            list
        ),
        "studio": st.dictionaries(st.text(max_size=3), JSON, max_size=2),
    },
)
PARTS = ("caption", "timed_caption", "traces", "studio")


@given(record=st.dictionaries(st.sampled_from(PARTS), JSON), change=CHANGE)
def test_what_passes_the_door_is_applied_to_whatever_a_draft_holds(record, change):
    demand_change(change)
    apply(record, change)
    if "traces" in change:
        assert isinstance(record["traces"], list)
    if "caption" in change:
        assert change["caption"][2] in record["caption"]


@given(JSON)
def test_what_is_no_change_is_a_sentence(made_up):
    for change in (made_up, {"caption": made_up}, {"words": made_up}, {"traces": made_up}):
        try:
            demand_change(change)
        except ValueError as error:
            assert "Reload the page" in str(error)
        else:
            apply({}, change)


@pytest.mark.parametrize("seed", range(5))
def test_half_an_hour_of_changes_is_the_take(seed):
    """1,800 saves with corrections and undone points, against a take that is kept whole."""
    chance, take, changes = random.Random(seed), [[]], []
    for second in range(1800):
        num_points = sum(map(len, take))
        if chance.random() < 0.05 and num_points > 100:  # undo
            del take[-1][len(take[-1]) // 2 :]
            changes.append({"traces": [len(take), len(take[-1]), [[]]]})
        new = [[0.5, 0.5, second + k / 20] for k in range(20)]
        change = [len(take), len(take[-1]), [new]]
        take[-1] = take[-1] + new
        if chance.random() < 0.1:  # the pointer left the image
            change[2].append(new[:2])
            take.append(new[:2])
        changes.append({"traces": change})
    start = json.dumps({"caption": "a dog", "traces": [[]]})
    record = json.loads(merged(start, map(json.dumps, changes)))
    assert [[[p["x"], p["y"], p["t"]] for p in stroke] for stroke in record["traces"]] == take
