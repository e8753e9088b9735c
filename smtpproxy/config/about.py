"""What the fields of the schema are annotated with."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]


def about(text: str) -> Meta:
    """The words that the manual prints for a setting."""
    return Meta(description=text)


def vouching(whose: str) -> Meta:
    """Of a file of authorities."""
    return about(f"Who vouches for {whose} (PEM); without it the system's.")


INTERNAL: Final = Meta(extra={"internal": True})
"""Marks a field that is no setting."""
