"""What a publisher says about a model: text and pictures for people. Nothing here changes what is drawn."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gesso_protocol.encoding import Document
from gesso_protocol.fields import Text
from gesso_protocol.ids import BlobRef

CARD_FILE = "card.json"
"""Its place in a model's manifest, so that the listing on chain binds it too."""
MAX_TEXT_CHARS = 16_000
MAX_PREVIEWS = 4
MAX_PREVIEW_BYTES = 1 << 20
MAX_PREVIEW_SIDE_PX = 1024


class CardPreview(Document):
    """A PNG that the model drew, by hash. Sizes are those of the file; a reader checks them before it shows it."""

    MAX_BYTES: ClassVar[int] = 4 * 1024

    blob: BlobRef
    size: Annotated[int, Field(ge=1, le=MAX_PREVIEW_BYTES)]
    width: Annotated[int, Field(ge=1, le=MAX_PREVIEW_SIDE_PX)]
    height: Annotated[int, Field(ge=1, le=MAX_PREVIEW_SIDE_PX)]
    caption: Annotated[Text, Field(max_length=300)] = ""


class ModelCard(Document):
    """A model's card. `text` is Markdown of a stranger: show it as text, never as a page's own markup."""

    MAX_BYTES: ClassVar[int] = 128 * 1024

    format: Literal["gesso/card/1"] = "gesso/card/1"
    summary: Annotated[Text, Field(max_length=200)] = ""
    text: Annotated[Text, Field(max_length=MAX_TEXT_CHARS)] = ""
    trigger: Annotated[Text, Field(max_length=64)] = ""
    tags: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")], ...], Field(max_length=16, strict=False)
    ] = ()
    source: Annotated[Text, Field(max_length=200)] = ""
    """Where the files were taken from, in the publisher's words; nobody has checked it."""
    previews: Annotated[tuple[CardPreview, ...], Field(max_length=MAX_PREVIEWS, strict=False)] = ()
