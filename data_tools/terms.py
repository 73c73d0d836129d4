"""The terms of a data set by its name, in words: loctex.terms."""

from loctex import terms


def license_of(dataset_id: str) -> str | None:
    """One sentence, or None where the name says nothing."""
    found = terms.of(dataset_id)
    return str(found) if found else None
