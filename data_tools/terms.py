"""Under which terms the narratives of a data set may be used, by its name: loctex.terms, in words."""

from loctex import terms


def license_of(dataset_id: str) -> str | None:
    """One sentence, or None where the name says nothing."""
    found = terms.of(dataset_id)
    return str(found) if found else None
