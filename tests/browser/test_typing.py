"""The times of typed words: known answers for ui/static/typing.js, and real keys."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ui.assets import static

REPLAY = """(edits) => { // [[text, caret, seconds]] -> words after them
  const typing = new Typing();
  for (const [text, caret, now] of edits) typing.edit(text, caret, now);
  return typing.words().map(({text, start, end}) => [text, start, end]);
}"""


@pytest.fixture
def words(page):
    """The words after some edits, each (text, caret, seconds)."""
    page.goto("about:blank")
    page.add_script_tag(content=static("typing.js"))
    return lambda edits: [tuple(word) for word in page.evaluate(REPLAY, edits)]


def typed(text: str, began: float = 0.0, pace: float = 1.0, before: str = "") -> list:
    """One keystroke a character."""
    return [
        (before + text[: i + 1], len(before) + i + 1, began + i * pace) for i in range(len(text))
    ]


def test_a_word_lasts_from_its_first_to_its_last_keystroke(words):
    assert words(typed("a dog ran")) == [("a", 0, 0), ("dog", 2, 4), ("ran", 6, 8)]


def test_backspace_and_retype_ends_the_word_later(words):
    edits = typed("a dgo", pace=0.1) + [("a dg", 4, 0.6), ("a d", 3, 0.7)]
    edits += typed("og", began=0.9, pace=0.1, before="a d")
    assert words(edits) == [("a", 0, 0), ("dog", pytest.approx(0.2), pytest.approx(1.0))]


def test_a_letter_added_much_later_does_not_stretch_the_last_word(words):
    assert words([*typed("a dog", pace=0.1), ("a dogs", 6, 9.0)])[1][2] == pytest.approx(0.4)


def test_a_corrected_letter_keeps_the_time_of_what_it_replaces(words):
    edits = [*typed("a cog ran"), ("a og ran", 2, 20.0), ("a dog ran", 3, 20.5)]
    assert words(edits)[1] == ("dog", 3, 4)
    assert words([*typed("a cog ran"), ("a dog ran", 3, 20.0)])[1] == ("dog", 2, 4)


def test_a_word_put_between_takes_the_gap_of_its_neighbors(words):
    edits = typed("a dog")
    edits += [(f"a {'big '[: i + 1]}dog", 3 + i, 30.0 + i) for i in range(4)]
    assert words(edits) == [("a", 0, 0), ("big", 0, 2), ("dog", 2, 4)]


def test_words_put_at_the_beginning_share_the_time_before_the_first(words):
    edits = [*typed("dog", began=4), ("one big dog", 8, 30.0)]
    assert words(edits) == [("one", 0, 2), ("big", 2, 4), ("dog", 4, 6)]


def test_a_paste_at_the_end_has_the_time_of_the_paste(words):
    found = words([*typed("a"), ("a big dog", 9, 5.0)])
    assert found == [("a", 0, 0), ("big", 5, 5), ("dog", 5, 5)]


def test_replacing_everything_starts_anew(words):
    assert words([*typed("a dog"), ("cat", 3, 9.0)]) == [("cat", 9, 9)]


def test_scripts_without_spaces_are_split_into_words(words):
    found = words([("犬が走る。", 5, 1.0)])
    assert "".join(text for text, _, _ in found) == "犬が走る。" and len(found) >= 2


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.lists(
        st.tuples(st.text("ab \n", max_size=12), st.integers(0, 12), st.floats(0, 2)), max_size=8
    )
)
def test_whatever_is_edited_words_are_the_text_and_never_go_back(words, edits):
    now, steps = 0.0, []
    for text, caret, wait in edits:
        now += wait
        steps.append((text, min(caret, len(text)), now))
    found = words(steps)
    assert [text for text, _, _ in found] == (steps[-1][0].split() if steps else [])
    assert all(0 <= start <= end <= now for _, start, end in found)
    starts = [start for _, start, _ in found]
    assert starts == sorted(starts)


def test_real_keys_paste_and_an_input_method(page, studio):
    from tests.browser.test_annotate import circle, only, open_collection, saved, start

    store, collection = open_collection(page, studio, "typed")
    circle(page, start(page))
    page.keyboard.type("a dgo")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.keyboard.type("og ran ")
    page.keyboard.press("Home")
    page.keyboard.type("see ")
    page.keyboard.press("End")
    page.evaluate("document.execCommand('insertText', false, 'so fast ')")
    keys = page.context.new_cdp_session(page)
    for text in ("k", "ka", "kaf"):
        size = {"selectionStart": len(text), "selectionEnd": len(text)}
        keys.send("Input.imeSetComposition", {"text": text} | size)
    keys.send("Input.insertText", {"text": "café"})
    page.keyboard.press("Control+Enter")
    saved(page, "done")
    told = only(store, collection)
    assert told.caption == "see a dog ran so fast café"
    assert [word.text for word in told.words] == told.caption.split()
    starts = [word.start for word in told.words]
    assert starts == sorted(starts) and told.words[0].end <= told.words[1].start
