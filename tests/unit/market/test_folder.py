"""Base models are looked through before they are listed: whole, safetensors, nothing from outside the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gesso.families import family_of
from gesso.market.folder import chosen, read_folder
from gesso.market.package import CardDraft, Label, pack_files
from gesso.tensorfile import write_tensors
from gesso_devnet import model
from gesso_devnet.seed import pack
from gesso_protocol.card import CARD_FILE
from gesso_protocol.errors import GessoError, ModelInvalid, UsageError
from gesso_protocol.ids import BlobRef

PICKLE = b"\x80\x04\x95" + bytes(64)
UNET = "unet/diffusion_pytorch_model.safetensors"
Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as others lay it out, small: our own base's folder with tiny weights."""
    made = tmp_path / "model"
    shutil.copytree(model.path(), made, ignore=shutil.ignore_patterns("*.safetensors"))
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        write_tensors(made / part / f"{name}.safetensors", [("w", "F32", (2,), bytes(8))])
    return made


def test_the_shipped_model_is_taken_file_by_file() -> None:
    found = read_folder(model.path())
    packed = pack_files(found.files, Label("gesso-tiny", 1, "MIT", "base", "gesso-tiny"), CardDraft())
    assert packed.manifest == pack(model.path()).manifest
    assert {entry.blob for entry in packed.manifest.files} == set(packed.blobs)
    assert all(BlobRef.of(Path(str(path)).read_bytes()) == ref for ref, path in packed.blobs.items())
    assert found.left_out == ()


def test_what_a_loader_does_not_need_is_left_out(folder: Path) -> None:
    for name in ("README.md", "v1-5.ckpt", "unet/diffusion_pytorch_model.bin", "safety_checker/model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(PICKLE)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    found = read_folder(folder)
    assert found.left_out == (
        "README.md", "safety_checker/model.safetensors", "unet/diffusion_pytorch_model.bin", "v1-5.ckpt",
    )  # fmt: skip
    assert (found.pipeline, found.family) == ("stable-diffusion", "")


def test_a_variant_is_taken_under_the_name_that_loaders_know(folder: Path) -> None:
    for path in list(folder.rglob("*.safetensors")):
        path.rename(path.with_suffix(".fp16.safetensors"))
    with pytest.raises(ModelInvalid, match=r"only vae/diffusion_pytorch_model\.fp16\.safetensors"):
        read_folder(folder)
    found = read_folder(folder, variant="fp16")
    assert found.files["unet/diffusion_pytorch_model.safetensors"].name == "diffusion_pytorch_model.fp16.safetensors"
    with pytest.raises(ModelInvalid, match="no weights of variant bf16"):
        read_folder(folder, variant="bf16")


def pickle_only(folder: Path) -> None:
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.bin")


def disguised(folder: Path) -> None:
    (folder / UNET).write_bytes(PICKLE)


def huge_header(folder: Path) -> None:
    (folder / UNET).write_bytes((2**40).to_bytes(8, "little") + b"{}")


def link_out(folder: Path) -> None:
    secret = folder.parent / "secret.json"
    secret.write_text("{}")
    (folder / "unet" / "config.json").unlink()
    (folder / "unet" / "config.json").symlink_to(secret)


def folder_link_out(folder: Path) -> None:
    (folder / "tokenizer" / "more").symlink_to(folder.parent)


def deep_json(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer_config.json").write_text("[" * 100_000)


def index(folder: Path, **changes: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


REFUSALS: dict[str, tuple[Change, str]] = {
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "has no model_index.json"),
    "huge index": (lambda folder: (folder / "model_index.json").write_text(" " * 70_000), "larger than"),
    "other pipeline": (lambda folder: index(folder, _class_name="FluxPipeline"), "'FluxPipeline', not Stable"),
    "code of others": (lambda folder: index(folder, unet=["evil_lib", "UNet"]), "unet evil_lib.UNet is not allowed"),
    "no part": (lambda folder: shutil.rmtree(folder / "vae"), "the part vae is missing"),
    "no config": (lambda folder: (folder / "unet" / "config.json").unlink(), "unet/config.json is missing"),
    "no weights": (lambda folder: (folder / UNET).unlink(), "has no weights"),
    "pickle": (pickle_only, "which can run code"),
    "disguised pickle": (disguised, "is a pickle or a zip"),
    "huge header": (huge_header, "claims a header of"),
    "link": (link_out, "unet/config.json is a link that leads out"),
    "folder link": (folder_link_out, "tokenizer/more is a link that leads out"),
    "deep json": (deep_json, "is not JSON"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str, folder: Path) -> None:
    change, problem = REFUSALS[case]
    change(folder)
    with pytest.raises(GessoError, match=problem):
        read_folder(folder)


@pytest.fixture
def xl(folder: Path) -> Path:
    """The same with a second text encoder, as XL has."""
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(folder / part, folder / f"{part}_2")
    second = ["transformers", "CLIPTextModelWithProjection"]
    index(
        folder,
        _class_name="StableDiffusionXLPipeline",
        text_encoder_2=second,
        tokenizer_2=["transformers", "CLIPTokenizer"],
    )
    return folder


@pytest.mark.parametrize(("width", "family"), [(2048, "sdxl"), (768, ""), ([2048], "")])
def test_a_folder_of_xl_is_taken_with_both_text_encoders(width: object, family: str, xl: Path) -> None:
    config = xl / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "cross_attention_dim": width}))
    found = read_folder(xl)
    assert {"text_encoder_2/model.safetensors", "tokenizer_2/vocab.json"} < set(found.files)
    assert (found.pipeline, found.family, found.left_out) == ("stable-diffusion-xl", family, ())
    label = Label("a/b", 1, "MIT", "base", pipeline=found.pipeline)
    assert pack_files(found.files, label, CardDraft()).manifest.pipeline == "stable-diffusion-xl"


XL_REFUSALS: dict[str, tuple[Change, str]] = {
    "no second encoder": (lambda folder: shutil.rmtree(folder / "text_encoder_2"), "part text_encoder_2 is missing"),
    "encoder of the other kind": (
        lambda folder: index(folder, text_encoder_2=["transformers", "CLIPTextModel"]), "CLIPTextModel is not allowed"
    ),
    "refiner": (
        lambda folder: index(folder, _class_name="StableDiffusionXLImg2ImgPipeline"), "more or other than draw"
    ),
    "first encoder left out": (lambda folder: index(folder, text_encoder=[None, None]), "has no text_encoder"),
}  # fmt: skip


@pytest.mark.parametrize("case", XL_REFUSALS)
def test_refusals_of_xl(case: str, xl: Path) -> None:
    change, problem = XL_REFUSALS[case]
    change(xl)
    with pytest.raises(GessoError, match=problem):
        read_folder(xl)


def test_links_inside_are_followed_and_those_of_a_hubs_cache_too(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    snapshot, blobs = cache / "snapshots" / ("a" * 40), cache / "blobs"
    blobs.mkdir(parents=True)
    shutil.copytree(folder, snapshot)
    for number, path in enumerate(sorted(snapshot.rglob("*.safetensors"))):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    assert len(read_folder(snapshot).files) == len(read_folder(folder).files)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        read_folder(tmp_path / "absent")


def test_what_is_fetched_of_a_repository() -> None:
    names = ["model_index.json", "unet/config.json", "unet/a.safetensors", "unet/a.fp16.safetensors", "unet/a.bin"]
    names += ["tokenizer/vocab.json", "README.md", "safety_checker/model.safetensors", "v1.safetensors", "run.py"]
    plain = ["model_index.json", "tokenizer/vocab.json", "unet/a.safetensors", "unet/config.json"]
    assert chosen(names) == plain
    assert "unet/a.fp16.safetensors" in chosen(names, "fp16")
    assert "unet/a.safetensors" not in chosen(names, "fp16")
    assert chosen(["text_encoder_2/a.safetensors", "tokenizer_2/vocab.json", "sd_xl_base.safetensors"]) == [
        "text_encoder_2/a.safetensors",
        "tokenizer_2/vocab.json",
    ]


def test_a_card_is_one_more_file(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "card.md"
    text.write_bytes(b"# A model\r\nof things")
    packed = pack_files(read_folder(folder).files, Label("a/b", 1, "MIT", "base"), CardDraft(text=text, tags=("toy",)))
    assert CARD_FILE in [entry.path for entry in packed.manifest.files]
    raw = packed.blobs[next(entry.blob for entry in packed.manifest.files if entry.path == CARD_FILE)]
    assert isinstance(raw, bytes)
    assert b"# A model\\nof things" in raw


@pytest.mark.parametrize(
    ("draft", "problem"),
    [
        (CardDraft(text="x" * 16_001), "text"),
        (CardDraft(text="bell \a"), "control"),
        (CardDraft(tags=("Not A Tag",)), "tags"),
        (CardDraft(previews=(Path(__file__),)), "no PNG"),
        (CardDraft(previews=(Path("absent.png"),)), "cannot be read"),
        (CardDraft(summary="s" * 201), "summary"),
    ],
)
def test_cards_that_cannot_be(draft: CardDraft, problem: str, folder: Path) -> None:
    with pytest.raises(UsageError, match=problem):
        pack_files(read_folder(folder).files, Label("a/b", 1, "MIT", "base"), draft)


@pytest.mark.parametrize(("name", "licence"), [("a/b/c", "MIT"), ("Up", "MIT"), ("a", ""), ("a", "two words")])
def test_labels_that_cannot_be(name: str, licence: str, folder: Path) -> None:
    with pytest.raises(UsageError):
        pack_files(read_folder(folder).files, Label(name, 1, licence, "base"), CardDraft())


def test_an_unknown_family_is_drawn_at_its_own_size() -> None:
    config = json.loads((model.path() / "unet" / "config.json").read_text())
    vae = json.loads((model.path() / "vae" / "config.json").read_text())
    assert family_of("alice/base", "", config, vae).side_px == 64
    assert family_of("alice/base", "", config).side_px == 512
    assert family_of("alice/base", "gesso-tiny", config) == family_of("gesso-tiny")
    assert family_of("alice/base", "", {"sample_size": 10**9}, vae).side_px == 512
    assert family_of("alice/base", "", config, {"block_out_channels": [1] * 99}).side_px == 512
    assert family_of("sdxl/gesso-tiny-fine") == family_of("gesso-tiny")
