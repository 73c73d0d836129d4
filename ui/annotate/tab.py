"""Annotate: the recorder asks, these functions answer. A question has a name and is one JSON object

    {"collection", "image", "take_id", "record", ...}

and so is the answer, with "problem" where a person must mend something.
"""

import base64
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from urllib.parse import quote

from data_tools.store import Collection, ImageRow, StoreError
from data_tools.store.drafts.changes import demand_change
from ui.annotate import listening
from ui.annotate.asking import decoded, demand_question
from ui.annotate.takes import Message, checked, own_voice, take, unsent
from ui.components import Recorder
from ui.data.exchange import DEMO, add_demo_part, counted
from ui.guard.payloads import MOST_CHARACTERS, demand_length
from ui.users import UnreadableUsersError
from ui.workspace import Workspace

log = logging.getLogger("studio")
PIECE = 16_000 * 60  # samples of a voice in one answer

WELCOME = {
    "title": "Point at what you say",
    "text": "Describe an image while your pointer follows your words. A model then learns what "
    "the words mean and where they are.\n\nLook around with rendered scenes, or begin with images "
    "of your own.",
    "choices": [
        {"label": "Open the demo collection", "action": "demo"},
        {"label": "Add my images", "action": "data"},
    ],
}
NO_IMAGES = {
    "title": "No images yet",
    "text": "Drop images into this collection, then come back and describe them.",
    "choices": [{"label": "Add images", "action": "data"}],
}
ALL_DONE = {
    "title": "All done here",
    "choices": [
        {"label": "Add images", "action": "data"},
        {"label": "Begin again from the first", "action": "again"},
    ],
}
SKIPPED = {"label": "Bring back what I skipped", "action": "unskip"}


# --- what is asked


def open_task(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """What there is to do: an unsent take first, else the image asked for, else the next one."""
    store = workspace.store
    me, collection_ids = store.annotator(annotator), [c.id for c in store.collections()]
    for draft in unsent(workspace, annotator, ask):
        for collection_id in collection_ids:
            if image := find_image(workspace, collection_id, draft["image"]):
                return task(workspace, annotator, collection_id, image, draft)
    collection = ask.get("collection")
    if collection not in collection_ids:
        if not collection_ids:
            return task(workspace, annotator, None, None)
        collection = collection_ids[0]
    image = find_image(workspace, collection, ask.get("image"))
    if image is None or not store.claim(image.id, me):  # in other hands by now
        image = store.next_image(collection, me)
    return task(workspace, annotator, collection, image)


def choose(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """The next image of the collection that was chosen."""
    store, collection = workspace.store, ask["collection"]
    image = store.next_image(collection, store.annotator(annotator))
    return task(workspace, annotator, collection, image)


def save(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """Keep a take that is still being recorded, and the piece of its voice that came with it.

    It comes as a change of the revision `base`, or as a whole record; "isBehind" asks for the
    whole, where the stored revision is another one.
    """
    store, take_id, piece = workspace.store, ask["take_id"], ask.get("voice")
    is_stored = _keep_change(workspace, annotator, ask) if ask.get("change") is not None else None
    if is_stored is False and not store.has_take(take_id):
        return {"isBehind": True}
    if is_stored is None:
        me, record = store.annotator(annotator), json.dumps(ask["record"], allow_nan=False)
        is_submitted = store.has_take(take_id)
        if not is_submitted:
            demand_place(workspace, me, ask["image"])
        store.save_draft(take_id, me, ask["image"], record, ask.get("revision") or "")
        is_stored = not is_submitted
    if piece is None or not is_stored:
        return {"saved": True}
    at, sound = piece.get("at") or 0, base64.b64decode(piece.get("pcm") or "", validate=True)
    return {"saved": True, "heard": workspace.voices.append(take_id, at, sound)}


def _keep_change(workspace: Workspace, annotator: str, ask: Message) -> bool:
    """Whether the change of a take builds on what is stored, and is stored now."""
    demand_change(ask["change"])
    change = json.dumps(ask["change"], allow_nan=False, separators=(",", ":"))
    return workspace.store.change_draft(
        ask["take_id"],
        annotator,
        ask["image"],
        change,
        base=ask.get("base") or "",
        revision=ask.get("revision") or "",
    )


def submit(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """Store a take as a narrative, once however often it is sent, and go on to the next image.

    Without a record it is the draft that is stored; "isMissing" asks for the record after all, and
    "heard" for the voice from that sample on.
    """
    store, me = workspace.store, workspace.store.annotator(annotator)
    collection, image = ask["collection"], asked_image(workspace, ask)
    take_id, num_samples = ask["take_id"], ask.get("num_samples") or 0
    was_done = False
    if not store.has_take(take_id):
        was_done = store.is_done(image.id, me)
        record = ask.get("record")
        if record is None:
            draft = store.draft(take_id, me)
            record = None if draft is None else json.loads(draft.body)
        if record is None:
            return {"isMissing": True}
        narrative = checked(record, image, me)
        demand_place(workspace, me, image.id)
        if not store.has_draft(take_id, me):  # StoreError where it is another's
            store.save_draft(take_id, me, image.id, json.dumps(record, allow_nan=False))
        if (heard := workspace.voices.heard(take_id) if num_samples else 0) < num_samples:
            return {"heard": heard}
        if num_samples and find_collection(workspace, collection).keeps_voice:
            narrative = replace(narrative, voice=workspace.voices.keep(take_id, num_samples))
        store.add(collection, narrative, take_id=take_id)
    if num_samples:
        workspace.voices.drop_draft(take_id)
    after = next_after(workspace, collection, me, image, was_done=was_done)
    return task(workspace, annotator, collection, after)


def demand_place(workspace: Workspace, annotator_id: int, image_row_id: int) -> None:
    """ValueError where so many others describe the image that there is no place, and this person
    never opened it. Whoever opened it may finish, however long it takes them."""
    if not workspace.store.admits(image_row_id, annotator_id):
        raise ValueError(
            "Enough others describe this image, or it is gone. Press Skip for the next one."
        )


def align(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """When each word of the caption was said in the voice of the take."""
    voice = own_voice(workspace, annotator, ask["take_id"])
    demand_length(ask["caption"], MOST_CHARACTERS, "The caption")
    return {"words": listening.word_times(ask["caption"], voice)}


def propose(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """What the Whisper checkpoint of this studio hears in the voice of the take."""
    if workspace.whisper is None:
        raise ValueError("This studio has no Whisper checkpoint; an admin names one (--whisper).")
    voice = own_voice(workspace, annotator, ask["take_id"])
    return {"caption": listening.proposal(voice, workspace.whisper)}


def voice(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """The voice of a take that another browser began, from a sample on."""
    samples = own_voice(workspace, annotator, ask["take_id"])[ask["at"] :][:PIECE]
    return {"pcm": base64.b64encode(samples.tobytes()).decode()}


def ask_for(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """What a collection asks, and whether it keeps voices: an admin sets it."""
    workspace.demand("admin", annotator)
    collection = find_collection(workspace, ask["collection"]).id
    question = ask["question"][:500]
    workspace.store.set_recording(
        collection, question=question, keeps_voice=bool(ask.get("keeps_voice"))
    )
    return task(workspace, annotator, collection, find_image(workspace, collection, ask["image"]))


def skip(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """Leave an image out, for a reason, and go on to the next."""
    store, me = workspace.store, workspace.store.annotator(annotator)
    collection, image = ask["collection"], asked_image(workspace, ask)
    was_done = store.is_done(image.id, me)
    store.skip(image.id, me, (ask.get("reason") or "")[:200])
    after = next_after(workspace, collection, me, image, was_done=was_done)
    return task(workspace, annotator, collection, after)


def previous(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """The last image before this one that this annotator is done with."""
    collection, image = ask["collection"], asked_image(workspace, ask)
    me = workspace.store.annotator(annotator)
    before = workspace.store.previous_image(collection, me, before=image.id)
    if before is None:
        raise ValueError("There is no image before this one that you narrated or skipped.")
    return task(workspace, annotator, collection, before)


def again(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """From the first image on that this annotator is done with."""
    collection, me = ask["collection"], workspace.store.annotator(annotator)
    return task(workspace, annotator, collection, workspace.store.next_done(collection, me))


def following(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """The next image after this one, done or not; nothing is skipped by looking."""
    store, collection = workspace.store, ask["collection"]
    me, image = store.annotator(annotator), asked_image(workspace, ask)
    after = image_after(workspace, collection, me, image)
    if after is None:
        next_open = store.next_image(collection, me)
        after = next_open if next_open is not None and next_open.id != image.id else None
    if after is None:
        raise ValueError("This is the last image; there is none after it.")
    return task(workspace, annotator, collection, after)


def unskip(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """What this annotator skipped comes again."""
    store, collection = workspace.store, ask["collection"]
    me = store.annotator(annotator)
    store.unskip(collection, me)
    return task(workspace, annotator, collection, store.next_image(collection, me))


def collections(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """What there is to choose from, for a recorder whose take is open."""
    return {"known": collection_choices(workspace)}


def discard(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """Forget a take that was cleared."""
    store = workspace.store
    if store.has_draft(ask["take_id"], store.annotator(annotator)):
        store.drop_draft(ask["take_id"])
        workspace.voices.drop_draft(ask["take_id"])
    return {}


def demo(workspace: Workspace, annotator: str, ask: Message) -> Message:
    """A part of the demo collection, and its share; the last one opens it."""
    workspace.demand("admin", annotator)
    share = add_demo_part(workspace)
    if share < 1:
        return {"share": share}
    return open_task(workspace, annotator, {"collection": workspace.store.collection(DEMO)})


ACTIONS: dict[str, Callable[[Workspace, str, Message], Message]] = {
    "open": open_task,
    "choose": choose,
    "save": save,
    "submit": submit,
    "skip": skip,
    "previous": previous,
    "again": again,
    "next": following,
    "unskip": unskip,
    "collections": collections,
    "discard": discard,
    "demo": demo,
    "align": align,
    "propose": propose,
    "voice": voice,
    "ask_for": ask_for,
}


def answer(workspace: Workspace, annotator: str, action: str, question: str | bytes) -> str:
    """The answer to a question of the recorder, both JSON; what a person can mend is said there."""
    ask = decoded(question)
    try:
        if action not in ACTIONS:
            raise ValueError(f"there is no question {action[:60]!r}")
        demand_question(action, ask)
        reply = ACTIONS[action](workspace, annotator, ask)
    except UnreadableUsersError:
        raise  # the whole studio says so, and that it passes
    except (ValueError, OSError) as error:
        log.info("refused: %r asked to %.20r: %s", annotator, action, error)
        reply = {"problem": str(error)}
    return json.dumps(reply)


# --- what the answers hold


def find_collection(workspace: Workspace, collection: int) -> Collection:
    for existing in workspace.store.collections():
        if existing.id == collection:
            return existing
    raise StoreError("This collection was deleted; reload the page.")


def untraced_caption(workspace: Workspace, collection: int, image: ImageRow) -> str:
    """A caption of the image that nobody has traced yet, for Trace; empty where there is none."""
    rows = workspace.store.narratives(collection, image_row_id=image.id)
    return next((row.caption for row in rows if not row.num_points), "")


def next_after(
    workspace: Workspace,
    collection: int,
    annotator_id: int,
    image: ImageRow,
    *,
    was_done: bool = False,
) -> ImageRow | None:
    """The next image to narrate; behind the last come those that were left open before. was_done:
    where none is left, whoever goes through what they did already gets the one after it."""
    store = workspace.store
    later = store.next_image(collection, annotator_id, after=image.id)
    following = later or store.next_image(collection, annotator_id)
    if following is None and was_done:
        return store.next_done(collection, annotator_id, after=image.id)
    return following


def image_after(
    workspace: Workspace, collection: int, annotator_id: int, image: ImageRow
) -> ImageRow | None:
    """The next one by id that this annotator did, or that wants them; the latter is claimed."""
    store = workspace.store
    done_image = store.next_done(collection, annotator_id, after=image.id)
    ahead = store.peek(collection, annotator_id, after=image.id)
    if ahead is None or (done_image is not None and done_image.id < ahead.id):
        return done_image
    if store.claim(ahead.id, annotator_id):
        return ahead
    return store.next_image(collection, annotator_id, after=ahead.id)


def collection_choices(workspace: Workspace) -> list[Message]:
    return [{"id": c.id, "name": c.name} for c in workspace.store.collections()]


def progress(workspace: Workspace, collection: int | None, annotator_id: int) -> Message:
    """Counts of images, for this annotator."""
    if collection is None:
        return {"described": 0, "skipped": 0, "left": 0, "total": 0}
    return asdict(workspace.store.progress(collection, annotator_id))


def all_done(counts: Message) -> Message:
    """What is said where nothing is left, and the ways on."""
    num_others = counts["total"] - counts["described"] - counts["skipped"]
    clauses = [f"You described {counts['described']:,} of {counted(counts['total'], 'image')}"]
    if counts["skipped"]:
        clauses.append(f"skipped {counts['skipped']:,}")
    text = " and ".join(clauses) + "."
    if num_others:
        text += f" {num_others:,} {'is' if num_others == 1 else 'are'} in the hands of others."
    choices = [*ALL_DONE["choices"]]
    if not counts["described"] + counts["skipped"]:
        choices = choices[:1]
    return ALL_DONE | {"text": text, "choices": [SKIPPED] * bool(counts["skipped"]) + choices}


def find_image(workspace: Workspace, collection: int, image_row_id: int | None) -> ImageRow | None:
    """The image of the collection with this row id, if there is one."""
    if image_row_id is None:
        return None
    images = workspace.store.images(collection, after=int(image_row_id) - 1, limit=1)
    return images[0] if images and images[0].id == int(image_row_id) else None


def asked_image(workspace: Workspace, ask: Message) -> ImageRow:
    image = find_image(workspace, ask["collection"], ask["image"])
    if image is None:
        raise StoreError("This image was taken out of the collection; open another one.")
    return image


def task(
    workspace: Workspace,
    annotator: str,
    collection: int | None,
    image: ImageRow | None,
    draft: Message | None = None,
) -> Message:
    """What the recorder shows. draft: the unsent take of the image, if it is already known."""
    store, me = workspace.store, workspace.store.annotator(annotator)
    if image is not None and draft is None:
        mine = [take(workspace, d) for d in store.drafts(me, image_row_id=image.id)]
        draft = max(mine, key=lambda message: message["saved"], default=None)
    current = next((c for c in store.collections() if c.id == collection), None)
    counts = progress(workspace, collection, me)
    total = counts["total"]
    return {
        "collections": collection_choices(workspace),
        "collection": collection,
        "annotator": annotator,
        "progress": [total - counts["left"], total],
        "counts": counts,
        "draft": draft,
        "question": current.question if current else "",
        "keeps_voice": current is None or current.keeps_voice,
        "is_admin": workspace.allows("admin", annotator),
        "can_propose": workspace.whisper is not None,
        "empty": WELCOME if collection is None else all_done(counts) if total else NO_IMAGES,
        **image_fields(workspace, collection, me, image),
    }


def image_fields(
    workspace: Workspace, collection: int | None, annotator_id: int, image: ImageRow | None
) -> Message:
    """What the recorder shows of the image, and the picture after it."""
    if image is None or collection is None:
        return {"image": None, "next": None, "given": ""}
    return {
        "image": picture(image),
        "next": path_ahead(workspace, collection, annotator_id, image),
        "given": untraced_caption(workspace, collection, image),
    }


def path_ahead(
    workspace: Workspace, collection: int, annotator_id: int, image: ImageRow
) -> str | None:
    """The picture that probably comes next, for the browser to fetch ahead; nobody claims it."""
    following = workspace.store.peek(collection, annotator_id, after=image.id)
    return None if following is None else quote(str(following.path))


def picture(image: ImageRow) -> Message:
    return {
        "id": image.id,
        "dataset_id": image.dataset_id,
        "image_id": image.image_id,
        "width": image.width,
        "height": image.height,
        "name": image.name or image.image_id,
        "path": quote(str(image.path)),
    }


# --- the page


def build() -> Recorder:
    """The tab. Returns the recorder, whose event `data` asks for the tab Data; all that it asks
    itself goes to ui.annotate.route."""
    return Recorder(elem_id="recorder")
