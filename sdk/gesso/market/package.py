"""What is to be listed, complete and checked before anything is sent: manifest, and where each of its blobs is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from pydantic import ValidationError

from gesso.adapterfile import ADAPTER_FILE, read_adapter
from gesso.png import dimensions, is_png
from gesso_protocol.card import CARD_FILE, MAX_PREVIEW_BYTES, CardPreview, ModelCard
from gesso_protocol.encoding import explain
from gesso_protocol.errors import BlobCorrupt, UsageError
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import FileEntry, ModelKind, ModelManifest, Pipeline

MAX_CARD_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class CardDraft:
    """What a publisher wants shown: Markdown from a file, pictures from files. Empty by default."""

    summary: str = ""
    text: Path | str = ""
    trigger: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""
    previews: tuple[Path, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return self == CardDraft()


@dataclass(frozen=True, slots=True)
class Package:
    """The manifest that will be the model's identity, and every blob that it names, directly or through its card."""

    manifest: ModelManifest
    blobs: dict[BlobRef, Path | bytes]


@dataclass(frozen=True, slots=True)
class Label:
    """What a manifest says beside its files."""

    name: str
    version: int
    licence: str
    kind: ModelKind
    base_family: str = ""
    parent: BlobRef | None = None
    pipeline: Pipeline = "stable-diffusion"


def pack_lora(path: Path, label: Label, card: CardDraft) -> Package:
    """A LoRA of one file. Raises ModelInvalid for what is none, UsageError for a name or a card that cannot be."""
    read_adapter(path)
    return pack_files({ADAPTER_FILE: path}, label, card)


def pack_files(files: dict[str, Path], label: Label, card: CardDraft) -> Package:
    """Files by their place in the model, each named by its hash. Raises UsageError."""
    blobs: dict[BlobRef, Path | bytes] = {}
    entries = []
    for place, path in files.items():
        ref = BlobRef(blake3().update_mmap(path).digest())
        blobs[ref] = path
        entries.append((place, path.stat().st_size, ref))
    if not card.empty:
        raw, pictures = _card(card)
        blobs |= {**pictures, BlobRef.of(raw): raw}
        entries.append((CARD_FILE, len(raw), BlobRef.of(raw)))
    try:
        manifest = ModelManifest(
            name=label.name,
            version=label.version,
            kind=label.kind,
            pipeline=label.pipeline,
            base_family=label.base_family,
            parent=label.parent,
            licence=label.licence,
            files=tuple(FileEntry(path=place, size=size, blob=ref) for place, size, ref in sorted(entries)),
        )
    except ValidationError as error:
        raise UsageError(
            explain(error),
            hint="names are small letters, digits, '.', '_' and '-', as in alice/zbx; licences openrail++",
        ) from None
    return Package(manifest, blobs)


def repacked(
    manifest: ModelManifest, card: ModelCard | None, draft: CardDraft, licence: str | None, version: int
) -> Package:
    """The same files as another version; fields of `draft` that are not empty take the place of the card's. Raises
    UsageError."""
    files = [entry for entry in manifest.files if entry.path != CARD_FILE]
    blobs: dict[BlobRef, Path | bytes] = {}
    if card is not None or not draft.empty:
        given, pictures = _drawn_up(draft)
        before = card or ModelCard()
        raw = before.model_copy(update={name: value for name, value in given if value}).encode()
        blobs = {**pictures, BlobRef.of(raw): raw}
        files.append(FileEntry(path=CARD_FILE, size=len(raw), blob=BlobRef.of(raw)))
    changes = {"version": version, "licence": licence or manifest.licence}
    try:
        # Made anew, so that what was changed is checked.
        fields = {**dict(manifest), **changes, "files": tuple(sorted(files, key=lambda entry: entry.path))}
        return Package(ModelManifest(**fields), blobs)
    except ValidationError as error:
        raise UsageError(explain(error), hint="licences are short names: openrail++") from None


def _card(draft: CardDraft) -> tuple[bytes, dict[BlobRef, Path | bytes]]:
    """The card's bytes, and the pictures it names."""
    card, pictures = _drawn_up(draft)
    return card.encode(), pictures


def _drawn_up(draft: CardDraft) -> tuple[ModelCard, dict[BlobRef, Path | bytes]]:
    """The card, and the pictures it names."""
    previews = [_preview(path) for path in draft.previews]
    try:
        card = ModelCard(
            summary=draft.summary,
            text=_text(draft.text),
            trigger=draft.trigger,
            tags=draft.tags,
            source=draft.source,
            previews=tuple(preview for preview, _ in previews),
        )
        card.encode()
    except ValidationError as error:
        raise UsageError(f"the card cannot be used: {explain(error)}") from None
    return card, {preview.blob: data for preview, data in previews}


def _text(source: Path | str) -> str:
    if isinstance(source, str):
        return source
    try:
        with source.open("rb") as file:
            raw = file.read(MAX_CARD_FILE_BYTES + 1)
        if len(raw) > MAX_CARD_FILE_BYTES:
            raise UsageError(f"{source.name} is larger than {MAX_CARD_FILE_BYTES} bytes")
        return raw.decode().replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the card {source.name} cannot be read as text") from error


def _preview(path: Path) -> tuple[CardPreview, bytes]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PREVIEW_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the preview {path.name} cannot be read") from error
    if len(data) > MAX_PREVIEW_BYTES or not is_png(data):
        raise UsageError(f"{path.name} is no PNG of at most {MAX_PREVIEW_BYTES} bytes", hint="previews are small PNGs")
    try:
        width, height = dimensions(data)
        caption = path.stem.replace("_", " ").replace("-", " ")
        preview = CardPreview(blob=BlobRef.of(data), size=len(data), width=width, height=height, caption=caption[:300])
        return preview, data
    except BlobCorrupt as error:
        raise UsageError(f"{path.name} is a damaged PNG") from error
    except ValidationError as error:
        raise UsageError(f"the preview {path.name} cannot be used: {explain(error)}") from None


def read_card(raw: bytes) -> ModelCard:
    """A card as it came from a store. Raises EncodingInvalid."""
    return ModelCard.decode(raw)


def card_entry(files: Sequence[FileEntry]) -> FileEntry | None:
    """Where a manifest says that its card is."""
    return next((entry for entry in files if entry.path == CARD_FILE and entry.size <= ModelCard.MAX_BYTES), None)
