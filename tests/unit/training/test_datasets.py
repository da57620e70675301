"""Data sets as people keep them: every convention, every bad file, and nothing unbounded."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hostile import examples
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gesso.datasets import Bundle, Report, pack
from gesso.datasets.pictures import Shape
from gesso.tensorfile import open_tensors
from gesso_protocol.errors import UsageError
from gesso_protocol.training.dataset import INDEX_FILE, PICTURES_FILE, DatasetIndex

SHAPE = Shape(resolution=64, step=16)


def picture(colour: Any = (200, 30, 30), size: tuple[int, int] = (64, 64), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def folder_of(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def zip_of(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def packed(source: Any, tmp_path: Path, **options: Any) -> Bundle:
    return pack(source, tmp_path / "bundle", SHAPE, **options)


def captions(bundle: Bundle) -> list[tuple[str, int]]:
    return [(sample.caption, sample.repeats) for sample in bundle.index.samples]


RED, BLUE, GREEN = encoded(picture()), encoded(picture((0, 0, 200))), encoded(picture((0, 200, 0)))


def test_flat_folder_with_captions(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", {"a.png": RED, "a.txt": " a red\n wall ", "b.png": BLUE, "b.caption": "sea"})
    bundle = packed(root, tmp_path)
    assert captions(bundle) == [("a red wall", 1), ("sea", 1)]
    assert bundle.report.convention == "captions beside pictures"
    assert bundle.report.missing_captions == 0


def test_folders_of_repeats(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", {"10_zbx cat/a.png": RED, "3_other_dog/b.png": BLUE, "3_other_dog/b.txt": "woof"})
    bundle = packed(root, tmp_path)
    assert captions(bundle) == [("zbx cat", 10), ("woof", 3)]
    assert bundle.report.convention == "<repeats>_<trigger> folders, captions beside pictures"
    assert bundle.index.shown == bundle.report.shown == 13


def test_metadata_lines(tmp_path: Path) -> None:
    lines = [{"file_name": "a.png", "text": "one"}, {"file_name": "../b.png", "text": "out"}, {"text": "x"},
             {"file_name": "gone.png", "text": "x"}]  # fmt: skip
    text = "\n".join(json.dumps(line) for line in lines) + "\nnot json\n"
    bundle = packed(folder_of(tmp_path / "in", {"train/a.png": RED, "train/metadata.jsonl": text}), tmp_path)
    assert captions(bundle) == [("one", 1)]
    assert bundle.report.convention == "metadata.jsonl"
    assert bundle.report.count("bad-metadata") == 3
    assert bundle.report.count("missing-file") == 1


def test_zip_with_one_trigger(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "in.zip", {"x/a.png": RED, "x/b.jpg": encoded(picture((9, 9, 9)), "JPEG"),
                                        "__MACOSX/._a.png": b"junk"})  # fmt: skip
    bundle = packed(path, tmp_path, trigger="zbx")
    assert captions(bundle) == [("zbx", 1), ("zbx", 1)]
    assert bundle.report.missing_captions == 2
    assert bundle.report.convention == "pictures without captions"


def test_a_list_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "c.png"
    path.write_bytes(GREEN)
    bundle = packed([(picture(), "red"), (BLUE, "blue"), (path, "green")], tmp_path)
    assert captions(bundle) == [("red", 1), ("blue", 1), ("green", 1)]


@pytest.mark.parametrize("item", ["no pair", (RED,), (RED, 3), (Path("absent.png"), "a")])
def test_a_list_of_other_things(item: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        packed([item], tmp_path)


def test_the_trigger_is_put_into_captions(tmp_path: Path) -> None:
    files = {"a.png": RED, "a.txt": "a red wall", "b.png": BLUE, "b.txt": "ZBX by the sea",
             "c.png": GREEN, "c.txt": "photo of [trigger]"}  # fmt: skip
    bundle = packed(folder_of(tmp_path / "in", files), tmp_path, trigger="zbx")
    assert [words for words, _ in captions(bundle)] == ["zbx, a red wall", "ZBX by the sea", "photo of zbx"]
    assert bundle.report.count("trigger-added") == 1


def test_the_bundle_is_the_pixels(tmp_path: Path) -> None:
    image = Image.frombytes("RGB", (64, 64), bytes(range(256)) * 48)
    bundle = packed([(image, "noise"), (picture(), "red")], tmp_path)
    index = DatasetIndex.decode(bundle.files[INDEX_FILE].read_bytes())
    assert index == bundle.index
    tensors = open_tensors(bundle.files[PICTURES_FILE], max_bytes=10**6)
    assert tensors.tensors["0"].shape == (64, 64, 3)
    assert tensors.read("0") == image.tobytes()
    again = pack([(image, "noise"), (picture(), "red")], tmp_path / "again", SHAPE)
    assert again.ref == bundle.ref
    other = pack([(image, "noises"), (picture(), "red")], tmp_path / "other", SHAPE)
    assert other.ref != bundle.ref


def test_pictures_go_to_their_bucket(tmp_path: Path) -> None:
    wide, tall = picture((1, 2, 3), (400, 200)), picture((3, 2, 1), (100, 300))
    bundle = packed([(wide, "wide"), (tall, "tall"), (picture(size=(32, 32)), "small")], tmp_path)
    sizes = [(sample.width, sample.height) for sample in bundle.index.samples]
    assert sizes[0][0] > sizes[0][1]
    assert sizes[1][0] < sizes[1][1]
    assert sizes[2] == (64, 64)
    assert all(wide * high <= 64 * 64 and wide % 16 == 0 == high % 16 for wide, high in sizes)
    assert bundle.report.count("small") == 1
    square = pack([(wide, "wide")], tmp_path / "square", Shape(64, 16, buckets=False))
    assert (square.index.samples[0].width, square.index.samples[0].height) == (64, 64)


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    image = picture((255, 0, 0), (80, 40))
    image.paste((0, 0, 255), (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    bundle = packed([(encoded(image, "JPEG", exif=exif), "turned")], tmp_path)
    sample = bundle.index.samples[0]
    assert sample.height > sample.width
    top = open_tensors(bundle.files[PICTURES_FILE], max_bytes=10**6).read("0")[:3]
    assert top[2] > 200, "the blue half was on the left and is on top now"
    assert bundle.report.count("rotated") == 1


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (encoded(picture((10, 20, 30, 40), mode="CMYK"), "JPEG"), "cmyk"),
        (encoded(picture((10, 20, 30, 40), mode="RGBA")), "transparent"),
        (encoded(picture((10, 20), mode="LA")), "transparent"),
        (encoded(picture(30_000, mode="I;16")), "deep"),
        (encoded(picture(), "GIF", save_all=True, append_images=[picture((0, 0, 9))]), "animated"),
        (encoded(picture(), "WEBP", save_all=True, append_images=[picture((0, 0, 9))]), "animated"),
    ],
)
def test_odd_pictures_are_corrected_and_said(data: bytes, what: str, tmp_path: Path) -> None:
    bundle = packed([(data, "odd")], tmp_path)
    assert bundle.report.count(what) == 1
    assert bundle.report.used == 1


def test_deep_pictures_keep_their_brightness(tmp_path: Path) -> None:
    bundle = packed([(encoded(picture(32_768, mode="I;16")), "grey")], tmp_path)
    assert open_tensors(bundle.files[PICTURES_FILE], max_bytes=10**6).read("0")[:3] == bytes([128] * 3)


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few bytes of header, with data that would unpack for long."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"not a picture", RED[:60], RED[:-20] + b"x" * 20, bomb(), encoded(picture(size=(4, 4))),
     b"%PDF-1.4", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n" + b"\0" * 50],
    ids=["empty", "text", "short", "bad-end", "bomb", "tiny", "pdf", "svg", "zeros"],
)  # fmt: skip
def test_bad_pictures_are_refused_one_by_one(data: bytes, tmp_path: Path) -> None:
    bundle = packed([(data, "bad"), (BLUE, "good")], tmp_path)
    assert captions(bundle) == [("good", 1)]
    assert [note.what for note in bundle.report.refused] == ["corrupt"]
    with pytest.raises(UsageError):
        pack([(data, "bad")], tmp_path / "other", SHAPE)


def test_duplicates_are_left_out(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", {"a.png": RED, "b.bmp": encoded(picture(), "BMP"), "c.png": BLUE})
    report = packed(root, tmp_path, trigger="x").report
    assert (report.found, report.used, report.count("duplicate")) == (3, 2, 1)
    assert "a.png" in report.refused[0].text


def test_links_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(GREEN)
    root = folder_of(tmp_path / "in", {"a.png": RED, ".b.png": BLUE, ".git/c.png": BLUE, "notes.pdf": b"x"})
    (root / "link.png").symlink_to(secret)
    report = packed(root, tmp_path, trigger="x").report
    assert (report.used, report.count("link"), report.count("ignored")) == (1, 1, 1)


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "x/../../a.png", "..\\a.png", "C:/a.png", "a\\b.png"])
def test_names_that_leave_the_zip(name: str, tmp_path: Path) -> None:
    bundle = packed(zip_of(tmp_path / "in.zip", {name: RED, "good.png": BLUE}), tmp_path, trigger="x")
    assert bundle.report.used == 1
    assert [note.what for note in bundle.report.refused] == ["zip-path"]
    assert not (tmp_path / "a.png").exists()


def test_names_of_nothing_are_passed_over(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "in.zip", {".": RED, "./": b"", "good.png": BLUE})
    assert packed(path, tmp_path, trigger="x").report.used == 1


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_packings_whose_files_say_how_much_memory_they_want_are_refused(tmp_path: Path, method: int) -> None:
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", RED, compress_type=method)
        archive.writestr("good.png", BLUE)
    path.write_bytes(path.read_bytes().replace(b"\x5d\x00\x00", b"\xff\xff\xff"))
    report = packed(path, tmp_path, trigger="x").report
    assert (report.used, [note.what for note in report.refused]) == (1, ["packing"])


def test_zips_that_grow_are_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "in.zip", {"bomb.bmp": bytes(50 * 1024 * 1024), "good.png": BLUE})
    assert path.stat().st_size < 10**6
    report = packed(path, tmp_path, trigger="x").report
    assert [note.what for note in report.refused] == ["zip-bomb"]


def test_a_zip_that_lies_about_sizes(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "in.zip", {"lie.bmp": bytes(2 * 1024 * 1024), "good.png": BLUE})
    raw = path.read_bytes()
    real = struct.pack("<I", 2 * 1024 * 1024)
    path.write_bytes(raw.replace(real, struct.pack("<I", 100)))
    report = packed(path, tmp_path, trigger="x").report
    assert report.used == 1
    assert report.count("corrupt") == 1


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.png", BLUE)
    assert [note.what for note in packed(path, tmp_path, trigger="x").report.refused] == ["link"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"Rar!", b"PK\x05\x06" + b"\0" * 18])
def test_no_zip_at_all(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in.zip"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        packed(path, tmp_path)


def test_no_data_set_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "absent", tmp_path / "empty", []):
        with pytest.raises(UsageError):
            packed(source, tmp_path)


@pytest.mark.parametrize("words", [b"\xff\xfe\x00", "bell \a", "x" * 3000, b"x" * 20_000])
def test_bad_captions_cost_the_words_only(words: bytes | str, tmp_path: Path) -> None:
    bundle = packed(folder_of(tmp_path / "in", {"a.png": RED, "a.txt": words}), tmp_path, trigger="zbx")
    assert captions(bundle) == [("zbx", 1)]
    assert bundle.report.count("bad-caption") == 1


def test_the_report_for_people(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", {"a.png": RED, "bad.png": b"?", "2_x/b.png": BLUE, "lone.txt": "x"})
    report = packed(root, tmp_path).report
    document = report.document()
    assert (document["pictures_found"], document["pictures_used"], document["shown_an_epoch"]) == (3, 2, 3)
    assert document["sizes"] == {"64x64": 2}
    assert json.loads(json.dumps(document)) == document
    assert report.lines()[0].startswith("refused: bad.png")
    assert report.lines(1)[-1] == "… and 2 more remarks"


def test_notes_are_bounded() -> None:
    report = Report()
    for number in range(1500):
        report.note("advice", "small", str(number), "x")
    assert (len(report.notes), report.more_notes) == (1000, 500)


@examples(60)
@given(data=st.binary(max_size=400), cut=st.integers(0, len(RED)), at=st.integers(0, len(RED) - 1))
def test_any_bytes_are_a_picture_or_refused(data: bytes, cut: int, at: int) -> None:
    from gesso.datasets.pictures import prepare

    mixed = RED[:at] + data[:8] + RED[at + len(data[:8]) :]
    for hostile in (data, RED[:cut] + data, mixed):
        with contextlib.suppress(UsageError):
            prepare("x", hostile, SHAPE, Report())


def test_importing_the_room_needs_no_pillow() -> None:
    code = "import sys, gesso.datasets; print('PIL' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split()[0] == "False"


def test_a_caption_that_has_no_room_for_the_trigger_gives_way_to_it(tmp_path: Path) -> None:
    files = {"a.png": RED, "a.txt": "a" * 2000, "b.png": BLUE, "b.txt": "[trigger] " * 200, "c.png": GREEN,
             "c.txt": "a" * 1990}  # fmt: skip
    bundle = packed(folder_of(tmp_path / "in", files), tmp_path, trigger="zbx of the north")
    assert [words for words, _ in captions(bundle)] == ["zbx of the north"] * 3
    assert bundle.report.count("bad-caption") == 3


@pytest.mark.parametrize("trigger", ["z" * 65, "z\x1b[2J"])
def test_triggers_that_are_none(trigger: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trigger"):
        packed([(picture(), "red")], tmp_path, trigger=trigger)
