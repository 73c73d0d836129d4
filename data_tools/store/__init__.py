"""What was recorded: collections of images and their narratives, in SQLite or PostgreSQL.

A narrative is kept as its public line. When a method that writes returns, what it wrote is
committed and on disk: a crash right after loses nothing.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Row, case, delete, func, select, update

from data_tools.pictures import browsable, extension
from data_tools.store import assignment, bulk, drafts, writes
from data_tools.store import tables as db
from data_tools.store.address import address
from data_tools.store.bulk import AddReport, StoredImage
from data_tools.store.database import Database, SharedCommits, StoreError
from data_tools.store.drafts import DraftChange
from data_tools.store.people import People
from data_tools.store.queries import (
    bodies_of,
    counted_collections,
    images_of,
    is_done_by,
    is_narrated_by,
    is_skipped_by,
    may_leave,
    narrative_row,
    narrative_rows,
    with_status,
)
from data_tools.store.reviews import Reviews
from data_tools.store.rows import (
    AnnotationProgress,
    Collection,
    Content,
    Draft,
    ImageRow,
    NarrativeRow,
)
from data_tools.store.search import EVERYTHING, NarrativeFilter, annotators_of, matching
from data_tools.store.statistics import Statistics
from data_tools.store.tables import FIRST_ANNOTATOR
from data_tools.store.trash import Trash
from loctex.records.annotations import is_plain_name
from loctex.records.files import is_writable, write_whole
from loctex.records.images import decode_image
from loctex.records.narrative import Narrative

__all__ = [
    "FIRST_ANNOTATOR",
    "Collection",
    "Draft",
    "ImageRow",
    "NarrativeRow",
    "Store",
    "StoreError",
]

PAGE = 200
Regions = Sequence[dict[str, Any]]


class Store:
    """Collections, images, narratives, drafts and annotators of one workspace.

    url: sqlite:///FILE or postgresql://...; images: the folder of image files, named by content.
    Raises StoreError where a newer version made the database. Safe to share between threads.
    """

    def __init__(self, url: str, images: Path) -> None:
        self.images_folder = Path(images)
        if is_writable(self.images_folder):
            self.images_folder.mkdir(parents=True, exist_ok=True)
        self._database = Database(url)
        self._draft_changes = SharedCommits(self._database, drafts.add_changes)
        self.reviews = Reviews(self._database)
        self.people = People(self._database)
        self.trash = Trash(self._database, self.images_folder)
        self.statistics = Statistics(self._database, self.images_folder.parent / "statistics")

    @property
    def is_read_only(self) -> bool:
        """Whether it lies where nothing may be written; then whatever writes raises StoreError."""
        return self._database.is_read_only

    @classmethod
    def of_workspace(
        cls, root: Path | str, database: str | None = None, *, is_new: bool = False
    ) -> "Store":
        """The store of an app's folder, as ui.workspace opens it; is_new: make a missing one.

        Raises StoreError: there is none, or its database has to be named.
        """
        root = Path(root).expanduser().resolve()
        if not (is_new or root.is_dir()):
            raise StoreError(f"there is no workspace {root}")
        return cls(address(root, database), root / "images")

    def close(self) -> None:
        self._database.close()

    # --- collections

    def collections(self) -> list[Collection]:
        """All, by name, with their counts."""
        return [Collection(**row._asdict()) for row in self._database.all(counted_collections())]

    def add_collection(self, name: str) -> int:
        """Its id; that of the existing one where the name is taken."""
        name = name.strip()
        if not name:
            raise StoreError("a collection needs a name")
        return self._database.write(lambda c: writes.add_collection(c, name))

    def collection(self, name: str) -> int:
        """The id of an existing one; StoreError lists what there is."""
        ids = {collection.name: collection.id for collection in self.collections()}
        if name not in ids:
            raise StoreError(f"no collection {name!r}; there is {', '.join(ids) or 'none yet'}")
        return ids[name]

    def content(self, collection_id: int) -> Content:
        """What a snapshot of the collection would hold now, counted."""
        n, r = db.narratives.c, db.reviews.c
        in_collection = n.collection_id == collection_id

        counts = select(
            func.count(n.image_row_id.distinct()),
            func.count(),
            func.coalesce(func.sum(n.num_words), 0),
            func.coalesce(func.max(n.created), 0.0),
        ).where(in_collection, may_leave())

        reviewed = select(func.coalesce(func.max(r.created), 0.0)).select_from(
            db.reviews.join(db.narratives)
        )

        images, narratives, words, added = self._database.one(counts)
        (judged,) = self._database.one(reviewed.where(in_collection))
        return Content(images, narratives, int(words), max(added, judged))

    def set_rules(self, collection_id: int, *, overlap: int, needs_review: bool) -> None:
        """overlap: people who describe each image (0: everybody). needs_review: only accepted
        narratives are frozen and exported."""
        if overlap < 0:
            raise StoreError(f"overlap: must be 0 (everybody) or more, got {overlap}")
        rules = partial(writes.set_rules, overlap=overlap, needs_review=needs_review)
        self._database.write(lambda c: rules(c, collection_id))

    def set_recording(self, collection_id: int, *, question: str, keeps_voice: bool) -> None:
        """What annotators are asked, and whether their voices stay once words have times."""
        values = {"question": question.strip(), "keeps_voice": keeps_voice}
        change = update(db.collections).filter_by(id=collection_id).values(**values)
        self._database.write(lambda c: c.execute(change))

    def annotator(self, name: str) -> int:
        """The annotator_id of this name, given at its first use."""
        query = select(db.annotators.c.id).where(db.annotators.c.name == name)
        row = self._database.first(query)  # the usual case, which waits for no writer
        if row is not None:
            return FIRST_ANNOTATOR + row.id
        if self.is_read_only:
            return FIRST_ANNOTATOR  # nobody's: ids begin at 1
        add = partial(writes.add_named, table=db.annotators, name=name)
        return FIRST_ANNOTATOR + self._database.write(add)

    # --- images

    def add_image(
        self,
        collection_id: int,
        data: bytes,
        *,
        dataset_id: str,
        image_id: str | None = None,
        name: str = "",
    ) -> ImageRow:
        """Keep an encoded image, once for each content; without an id its content hash is its id.

        StoreError: damaged, no image, too large, or the id is another image's or no plain name.
        """
        values = self.keep_image(data, dataset_id=dataset_id, image_id=image_id, name=name)
        values["collection_id"] = collection_id
        return self._image_row(self._database.write(lambda c: writes.add_image(c, values)))

    def keep_image(
        self, data: bytes, *, dataset_id: str, image_id: str | None = None, name: str = ""
    ) -> dict[str, Any]:
        """Write the file of an encoded image; what the table will say of it. Errors as add_image.

        Many may be kept by threads, and added together by add_all.
        """
        if image_id is not None and not is_plain_name(image_id):
            raise StoreError(f"image_id: {image_id[:60]!r} is no name of a picture")

        try:
            data = browsable(data)
            height, width = decode_image(data).shape[:2]
        except ValueError as error:
            raise StoreError(f"{name or image_id or 'the image'}: {error}") from error

        sha256 = hashlib.sha256(data).hexdigest()
        values = {
            "dataset_id": dataset_id,
            "image_id": sha256 if image_id is None else image_id,
            "sha256": sha256,
            "file": sha256 + extension(data),
            "name": name.encode(errors="replace").decode(),  # a file's name need not be UTF-8
            "width": width,
            "height": height,
        }

        path = self.images_folder / values["file"]
        if not path.exists():
            write_whole(path, data)
        return values

    def add_all(self, collection_id: int, images: Sequence[StoredImage]) -> AddReport:
        """Kept images and their narratives, in one transaction; what is there already stays."""
        return self._database.write(lambda c: bulk.add(c, collection_id, images))

    def images(
        self, collection_id: int, *, after: int = 0, limit: int = 50, status: str | None = None
    ) -> list[ImageRow]:
        """A page by id. status: "narrated", "open" (neither narrated nor skipped), "skipped"."""
        query = images_of(collection_id).where(db.images.c.id > after).limit(limit)
        return [self._image_row(row) for row in self._database.all(with_status(query, status))]

    def each_image(self, collection_id: int, status: str | None = None) -> Iterator[ImageRow]:
        after = 0
        while page := self.images(collection_id, after=after, limit=PAGE, status=status):
            yield from page
            after = page[-1].id

    def image(self, image_row_id: int) -> ImageRow:
        """StoreError: there is none."""
        row = self._database.first(select(db.images).where(db.images.c.id == image_row_id))
        if row is None:
            raise StoreError(f"there is no image {image_row_id}")
        return self._image_row(row)

    def delete_image(self, image_row_id: int) -> list[str]:
        """For good (`trash.put_image` can be undone), with all that was told of it; its file too,
        where no other collection shows it. Returns the voices that belonged to it, as
        `voice_recording` names them."""
        file, voices = self._database.write(lambda c: writes.delete_image(c, image_row_id))
        if file:
            (self.images_folder / file).unlink(missing_ok=True)
        return voices

    def next_image(
        self, collection_id: int, annotator_id: int, *, after: int = 0
    ) -> ImageRow | None:
        """The first image after this row id that wants this annotator, who claims it so.

        It is one that they neither narrated nor skipped, and that not enough others have.
        """
        hand_out = partial(assignment.hand_out, collection_id=collection_id, after=after)
        row = self._database.write(lambda c: hand_out(c, annotator_id=annotator_id))
        return None if row is None else self._image_row(row)

    def peek(self, collection_id: int, annotator_id: int, *, after: int = 0) -> ImageRow | None:
        """What `next_image` would give now, unclaimed."""
        query = assignment.wanted(collection_id, annotator_id).where(db.images.c.id > after)
        row = self._database.first(query)
        return None if row is None else self._image_row(row)

    def claim(self, image_row_id: int, annotator_id: int) -> bool:
        """Open this very image for the annotator; False where it is in other hands, or gone."""
        return self._database.write(lambda c: assignment.claim(c, image_row_id, annotator_id))

    def admits(self, image_row_id: int, annotator_id: int) -> bool:
        """Whether a take of this image by the annotator may be stored; False where enough others
        describe it and they never opened it, or it is gone."""
        with self._database.reading() as connection:
            if assignment.was_handed(connection, image_row_id, annotator_id):
                return True
        return self._database.write(lambda c: assignment.admit(c, image_row_id, annotator_id))

    def previous_image(
        self, collection_id: int, annotator_id: int, *, before: int
    ) -> ImageRow | None:
        """The last image before this row id which the annotator narrated or skipped."""
        query = images_of(collection_id).where(is_done_by(annotator_id), db.images.c.id < before)
        row = self._database.first(query.order_by(None).order_by(db.images.c.id.desc()))
        return None if row is None else self._image_row(row)

    def num_left(self, collection_id: int, annotator_id: int) -> int:
        """How many images want people, and the annotator neither narrated nor skipped them."""
        query = images_of(collection_id).where(db.images.c.is_wanted, ~is_done_by(annotator_id))
        count = select(func.count()).select_from(query.order_by(None).subquery())
        return self._database.one(count)[0]

    def progress(self, collection_id: int, annotator_id: int) -> AnnotationProgress:
        """How many images of a collection the annotator described, skipped, and has left."""
        described, skipped = is_narrated_by(annotator_id), is_skipped_by(annotator_id)
        is_left = db.images.c.is_wanted & ~is_done_by(annotator_id)
        counts = [
            func.count(case((condition, 1)))
            for condition in (described, skipped & ~described, is_left)
        ]
        images = images_of(collection_id).order_by(None).with_only_columns(*counts, func.count())
        return AnnotationProgress(*self._database.one(images))

    def is_done(self, image_row_id: int, annotator_id: int) -> bool:
        """Did the annotator narrate or skip the image?"""
        query = select(db.images.c.id).where(db.images.c.id == image_row_id)
        return self._database.first(query.where(is_done_by(annotator_id))) is not None

    def next_done(
        self, collection_id: int, annotator_id: int, *, after: int = 0
    ) -> ImageRow | None:
        """The first image after this row id which the annotator narrated or skipped."""
        query = images_of(collection_id).where(is_done_by(annotator_id), db.images.c.id > after)
        row = self._database.first(query)
        return None if row is None else self._image_row(row)

    def unskip(self, collection_id: int, annotator_id: int) -> int:
        """Ask the annotator again for all that they skipped; how many."""
        images = select(db.images.c.id).where(db.images.c.collection_id == collection_id)
        s = db.skips.c
        mine = delete(db.skips).where(s.annotator_id == annotator_id, s.image_row_id.in_(images))
        return self._database.write(lambda c: c.execute(mine).rowcount)

    def skip(self, image_row_id: int, annotator_id: int, reason: str = "") -> None:
        """Do not ask this annotator for this image again; reason "later": not before the others."""
        self._database.write(lambda c: writes.skip(c, image_row_id, annotator_id, reason))

    # --- narratives

    def add(
        self,
        collection_id: int,
        narrative: Narrative,
        *,
        take_id: str | None = None,
        regions: Regions = (),
    ) -> int:
        """Its id, when it is safe on disk. The same take twice is one row; its draft is dropped.

        StoreError: the collection has no such image, or it could not be saved (the draft stays).
        """
        record = json.dumps(narrative.to_json(), allow_nan=False)
        body = {"record": record, "regions": json.dumps(list(regions)) if regions else None}

        values = {
            "collection_id": collection_id,
            "annotator_id": narrative.annotator_id,
            "take_id": take_id,
            "created": time.time(),
        } | writes.measures(narrative)

        key = (narrative.dataset_id, narrative.image_id)
        return self._database.write(lambda c: writes.add_narrative(c, key, values, body))

    def has_take(self, take_id: str) -> bool:
        """Was this take submitted?"""
        query = select(db.narratives.c.id).where(db.narratives.c.take_id == take_id)
        return self._database.first(query) is not None

    def narratives(
        self,
        collection_id: int,
        *,
        after: int = 0,
        limit: int = 50,
        image_row_id: int | None = None,
        narrative_filter: NarrativeFilter = EVERYTHING,
    ) -> list[NarrativeRow]:
        """A page by id, of one image or all, of those that are wanted; without their bodies."""
        query = matching(collection_id, narrative_filter, after, self._database.dialect)
        if image_row_id is not None:
            query = query.where(db.narratives.c.image_row_id == image_row_id)
        return [narrative_row(row) for row in self._database.all(query.limit(limit))]

    def narrative_row(self, narrative_id: int) -> NarrativeRow:
        """StoreError: there is none."""
        row = self._database.first(narrative_rows().where(db.narratives.c.id == narrative_id))
        if row is None:
            raise StoreError(f"there is no narrative {narrative_id}")
        return narrative_row(row)

    def annotators_of(self, collection_id: int, most: int = 200) -> list[int]:
        """The annotator_ids of those who told something of a collection, by number."""
        return [row.id for row in self._database.all(annotators_of(collection_id, most))]

    def set_license(self, collection_id: int, terms: str) -> None:
        """Under which terms what is told in the collection may be used; snapshots say so."""
        change = update(db.collections).where(db.collections.c.id == collection_id)
        self._database.write(lambda c: c.execute(change.values(license=terms.strip())))

    def narrative(self, narrative_id: int) -> Narrative:
        """StoreError: there is none."""
        query = select(db.bodies).where(db.bodies.c.narrative_id == narrative_id)
        row = self._database.first(query)
        if row is None:
            raise StoreError(f"there is no narrative {narrative_id}")
        return Narrative.from_json(row.record)

    def lines_of(
        self, collection_id: int, image_row_id: int
    ) -> list[tuple[bytes, list[dict[str, Any]]]]:
        """The public line, and the regions, of each narrative of an image that may leave."""
        rows = self._database.all(bodies_of(collection_id).where(db.images.c.id == image_row_id))
        return [(row.record.encode(), json.loads(row.regions or "[]")) for row in rows]

    def each_narrative(self, collection_id: int) -> Iterator[tuple[ImageRow, Narrative]]:
        """All that may leave the studio, in the order they were added (queries.may_leave)."""
        for row in self._each_body(collection_id):
            yield self._image_row(row), Narrative.from_json(row.record)

    def each_region(self, collection_id: int) -> Iterator[dict[str, Any]]:
        """All known regions, as lines of regions.jsonl."""
        for row in self._each_body(collection_id):
            yield from json.loads(row.regions or "[]")

    def delete(self, narrative_id: int) -> None:
        """For good (`trash.put_narrative` can be undone). The image stays."""
        has_id = db.narratives.c.id == narrative_id
        self._database.write(lambda c: writes.delete_narratives(c, has_id))

    # --- drafts

    def save_draft(
        self, take_id: str, annotator_id: int, image_row_id: int, body: str, revision: str = ""
    ) -> None:
        """Keep a take that is not submitted yet; one that was submitted meanwhile stays gone.
        revision: what a change may build on."""
        values = {
            "annotator_id": annotator_id,
            "image_row_id": image_row_id,
            "body": body,
            "saved": time.time(),
            "revision": revision,
        }
        self._database.write(lambda c: drafts.save(c, take_id, values))

    def change_draft(
        self, take_id: str, name: str, image_row_id: int, change: str, *, base: str, revision: str
    ) -> bool:
        """Add a change (drafts.changes, as JSON) to the take of the annotator of this name; False,
        and nothing changed, where its stored state is not `base`, or it is on another image."""
        change_of_draft = DraftChange(take_id, name, image_row_id, base, revision, change)
        return self._draft_changes.write(change_of_draft)

    def drafts(self, annotator_id: int, *, image_row_id: int | None = None) -> list[Draft]:
        """Of this annotator, the oldest first; of one image, or all."""
        which = db.drafts.c.annotator_id == annotator_id
        if image_row_id is not None:
            which &= db.drafts.c.image_row_id == image_row_id
        with self._database.frozen() as connection:
            return drafts.whole(connection, which)

    def draft(self, take_id: str, annotator_id: int) -> Draft | None:
        """This annotator's draft of the take, if there is one."""
        which = (db.drafts.c.take_id == take_id) & (db.drafts.c.annotator_id == annotator_id)
        with self._database.frozen() as connection:
            return next(iter(drafts.whole(connection, which)), None)

    def has_draft(self, take_id: str, annotator_id: int) -> bool:
        """Is this take one of the annotator's drafts?"""
        query = select(db.drafts.c.take_id).filter_by(take_id=take_id, annotator_id=annotator_id)
        return self._database.first(query) is not None

    def drop_draft(self, take_id: str) -> None:
        self._database.write(lambda c: c.execute(delete(db.drafts).filter_by(take_id=take_id)))

    # --- inside

    def _each_body(self, collection_id: int) -> Iterator[Row]:
        query, after = bodies_of(collection_id).limit(PAGE), 0
        while page := self._database.all(query.where(db.narratives.c.id > after)):
            yield from page
            after = page[-1].narrative_id

    def _image_row(self, row: Row) -> ImageRow:
        return ImageRow(
            id=row.id,
            dataset_id=row.dataset_id,
            image_id=row.image_id,
            width=row.width,
            height=row.height,
            path=self.images_folder / row.file,
            sha256=row.sha256,
            name=row.name,
        )
