"""A data set as one bundle: an index of captions, one file of pixels, and the manifest that names both by hash."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from gesso.datasets.pictures import Prepared, Shape, prepare
from gesso.datasets.report import Report
from gesso.datasets.source import Found, Source, read_source
from gesso.tensorfile import write_tensors
from gesso_protocol.errors import UsageError
from gesso_protocol.fields import MAX_PROMPT_CHARS, plain_text
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import FileEntry, ModelManifest
from gesso_protocol.training.dataset import (
    INDEX_FILE,
    MAX_DATASET_BYTES,
    MAX_TRIGGER_CHARS,
    PICTURES_FILE,
    DatasetIndex,
    Sample,
)

PLACEHOLDER = "[trigger]"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A packed data set on disk. `files` are put as blobs before the manifest is."""

    manifest: ModelManifest
    index: DatasetIndex
    files: dict[str, Path]
    report: Report = field(repr=False)

    @property
    def ref(self) -> BlobRef:
        """What a `TrainLora` names as its data set."""
        return self.manifest.ref


def pack(source: Source, folder: Path, shape: Shape, *, trigger: str = "", name: str = "dataset") -> Bundle:
    """Read, check and pack into `folder` (made if missing). The same pictures and words give the same bundle.

    Files that cannot be used are in the report; raises UsageError when none can be.
    """
    report = Report()
    _check_trigger(trigger)
    found = read_source(source, report)
    samples, pictures = _prepared(found, shape, trigger, report)
    if not samples:
        reason = report.refused[0].text if report.refused else "nothing was left"
        raise UsageError(f"none of the {report.found} pictures can be used: {reason}")
    index = DatasetIndex(resolution=shape.resolution, trigger=trigger, samples=tuple(samples))
    report.used, report.shown = len(samples), index.shown
    folder.mkdir(parents=True, exist_ok=True)
    files = {INDEX_FILE: folder / INDEX_FILE, PICTURES_FILE: folder / PICTURES_FILE}
    files[INDEX_FILE].write_bytes(index.encode())
    rows = [(str(at), "U8", (p.height, p.width, 3), p.pixels) for at, p in enumerate(pictures)]
    write_tensors(files[PICTURES_FILE], rows)
    manifest = _manifest(files, name)
    report.bytes = manifest.size
    return Bundle(manifest, index, files, report)


def _manifest(files: dict[str, Path], name: str) -> ModelManifest:
    entries = [FileEntry(path=path, size=file.stat().st_size, blob=_ref(file)) for path, file in sorted(files.items())]
    return ModelManifest(name=name, version=1, kind="dataset", licence="private", files=tuple(entries))


def _ref(file: Path) -> BlobRef:
    return BlobRef(blake3().update_mmap(file).digest())


def _prepared(found: list[Found], shape: Shape, trigger: str, report: Report) -> tuple[list[Sample], list[Prepared]]:
    samples: list[Sample] = []
    pictures: list[Prepared] = []
    seen: dict[bytes, str] = {}
    total = 0
    for item in found:
        try:
            picture = prepare(item.name, item.read(), shape, report)
        except UsageError as error:
            report.note("refused", "corrupt", item.name, error.message)
            continue
        if picture.digest in seen:
            report.note("refused", "duplicate", item.name, f"the same picture as {seen[picture.digest]}")
            continue
        seen[picture.digest] = item.name
        total += len(picture.pixels)
        if total > MAX_DATASET_BYTES:
            raise UsageError("the pictures are larger than 4 GiB together; train on fewer or at a lower resolution")
        caption = _caption(item, trigger, report)
        samples.append(Sample(caption=caption, repeats=item.repeats, width=picture.width, height=picture.height))
        pictures.append(picture)
        report.sizes[f"{picture.width}x{picture.height}"] += 1
        report.repeats[item.repeats] += 1
    return samples, pictures


def _caption(item: Found, trigger: str, report: Report) -> str:
    caption = item.caption
    if caption is None:
        report.missing_captions += 1
        if not trigger:
            report.note("advice", "no-caption", item.name, "it has no words; give a caption or --trigger")
        return trigger
    lacks = bool(trigger) and PLACEHOLDER not in caption and trigger.lower() not in caption.lower()
    whole = f"{trigger}, {caption}" if lacks else caption.replace(PLACEHOLDER, trigger)
    if len(whole) > MAX_PROMPT_CHARS:
        report.note("changed", "bad-caption", item.name, "with the trigger its caption is too long; only that is kept")
        return trigger
    if lacks:
        report.note("changed", "trigger-added", item.name, f"{trigger!r} was put before its caption")
    return whole


def _check_trigger(trigger: str) -> None:
    try:
        plain_text(trigger)
    except ValueError as error:
        raise UsageError("the trigger holds control characters") from error
    if len(trigger) > MAX_TRIGGER_CHARS:
        raise UsageError(f"the trigger is longer than {MAX_TRIGGER_CHARS} characters", hint="a made-up word is enough")
