"""Under which terms the narratives of a data set may be used, by its name."""

import re

_PUBLIC = "narratives CC BY 4.0 (Localized Narratives)"
_TERMS = (  # what a dataset_id begins with
    (r"(ms)?coco", f"{_PUBLIC}; images: Flickr terms, each photo its own (COCO)"),
    (r"flickr30k", f"{_PUBLIC}; images: Flickr terms, research and education only"),
    (r"ade20k", f"{_PUBLIC}; images: ADE20K terms, research and education only"),
    (r"open_?images", f"{_PUBLIC}; images CC BY 2.0 (Open Images)"),
    (r"vidln", "narratives CC BY 4.0 (Video Localized Narratives); frames: non-commercial"),
    (r"scenes", "rendered by LocTex Studio, simulated narratives: Apache-2.0, as the studio"),
)


def license_of(dataset_id: str) -> str | None:
    """One sentence, or None where the name says nothing. Simulated narratives are nobody's words:
    the terms of the images and boxes they were made from remain."""
    name = dataset_id.lower()
    if "simulated" in name:
        return "simulated narratives; terms of the images and annotations they were made from"
    return next((terms for start, terms in _TERMS if re.match(start, name)), None)
