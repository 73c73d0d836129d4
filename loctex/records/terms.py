"""The terms of public data by the dataset_id of its narratives, and where they are written.

A snapshot says which dataset_ids it holds, not under which terms: what is known stands here. Read
on 2026-11-21 or taken from the publishers' pages as METHOD section 5 and the data's own files give
them; what is not known is said to be unknown.
"""

from dataclasses import dataclass

SPOKEN = "Localized Narratives, CC BY 4.0 (https://google.github.io/localized-narratives/)"
SIMULATED = "simulated by this software from labels: nobody spoke or pointed"


@dataclass(frozen=True)
class Terms:
    """Of the pictures, and of what was said of them."""

    images: str
    narratives: str = SPOKEN

    def __str__(self) -> str:
        return f"images: {self.images}; narratives: {self.narratives}"


VOC = Terms(
    "PASCAL VOC, from Flickr under its terms, research use (http://host.robots.ox.ac.uk/pascal/VOC/)",
    "terms not stated",
)
_BY_START = {  # the longest beginning that fits counts
    "mscoco": Terms(
        "COCO, from Flickr under its terms; annotations CC BY 4.0 "
        "(https://cocodataset.org/#termsofuse)"
    ),
    "flickr30k": Terms(
        "Flickr30k, non-commercial research and education only "
        "(https://shannon.cs.illinois.edu/DenotationGraph/)"
    ),
    "flickr8k": Terms(
        "Flickr8k, research and education only",
        "captions of Flickr8k, research and education only",
    ),
    "ade20k": Terms(
        "ADE20K, non-commercial research and education only "
        "(https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/)"
    ),
    "open_images": Terms(
        "Open Images, listed as CC BY 2.0 "
        "(https://storage.googleapis.com/openimages/web/factsfigures.html)"
    ),
    "vidln": Terms(
        "frames of the sources' videos, non-commercial",
        "Video Localized Narratives, CC BY 4.0 "
        "(https://google.github.io/video-localized-narratives/)",
    ),
    "voc": VOC,
    "animalpose": VOC,
    "scenes": Terms("rendered by this software, free", SIMULATED),
}
_BY_START["coco"] = _BY_START["mscoco"]
_BY_START["openimages"] = _BY_START["open_images"]


def of(dataset_id: str) -> Terms | None:
    """The terms of a dataset_id as snapshots have it; None where they are not known."""
    name = dataset_id.lower()
    prefix = max((start for start in _BY_START if name.startswith(start)), key=len, default=None)
    if prefix is None:
        return None
    if "simulated" in name.split("_"):
        return Terms(_BY_START[prefix].images, SIMULATED)
    return _BY_START[prefix]


# Licenses by the names that the hub's cards know them by.
_HUB = (
    *("cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "mit", "apache-2.0", "odbl", "pddl"),
    *("odc-by", "cdla-permissive-2.0", "cdla-sharing-1.0", "gpl-3.0", "unlicense"),
)


def hub_license(stated: str | None) -> dict[str, str]:
    """The head of a card on the hub: `license`, and where that is none it knows, `license_name` and
    `license_link`. stated: the terms as a person wrote them; None or empty where nobody did.

    "CC BY 4.0" -> {"license": "cc-by-4.0"}
    """
    words = "-".join((stated or "").lower().replace("license", "").split())
    if words in _HUB:
        return {"license": words}
    name = "terms-in-the-card" if stated else "not-stated"
    return {"license": "other", "license_name": name, "license_link": "README.md"}
