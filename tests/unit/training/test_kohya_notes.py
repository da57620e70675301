"""What picture tools read of a data set in a LoRA's metadata."""

from __future__ import annotations

import json

from gesso_node.executors.lora.kohya_notes import MAX_TAG_CHARS, MAX_TAGS, dataset_notes
from gesso_protocol.ids import BlobRef
from gesso_protocol.training.dataset import DatasetIndex, Sample
from gesso_protocol.training.presets import make_training

SPEC = make_training("gesso-tiny@1", dataset=BlobRef.of(b"d"), steps=10, batch=2, accumulation=2)


def sample(caption: str, repeats: int = 1, width: int = 64, height: int = 64) -> Sample:
    return Sample(caption=caption, repeats=repeats, width=width, height=height)


def index(*samples: Sample) -> DatasetIndex:
    return DatasetIndex(resolution=64, samples=samples)


def test_tags_folders_and_sizes() -> None:
    found = index(
        sample("zbx, red hat, outdoors", 2),
        sample("zbx,  red hat"),
        sample("zbx, , ленинградский кот", 2, 80, 48),
        sample(""),
    )
    notes = dataset_notes(found, SPEC, "zbx")
    assert notes["ss_num_train_images"] == "6"
    assert (notes["ss_num_batches_per_epoch"], notes["ss_num_epochs"]) == ("3", "5")
    assert json.loads(notes["ss_dataset_dirs"]) == {
        "1_zbx": {"n_repeats": 1, "img_count": 2},
        "2_zbx": {"n_repeats": 2, "img_count": 2},
    }
    assert json.loads(notes["ss_tag_frequency"]) == {
        "1_zbx": {"red hat": 1, "zbx": 1},
        "2_zbx": {"zbx": 2, "outdoors": 1, "red hat": 1, "ленинградский кот": 1},
    }
    assert json.loads(notes["ss_bucket_info"]) == {
        "buckets": {"0": {"resolution": [64, 64], "count": 4}, "1": {"resolution": [80, 48], "count": 2}},
        "mean_img_ar_error": 0.0,
    }


def test_the_order_of_pictures_changes_nothing() -> None:
    samples = [sample("b, a", 3), sample("a"), sample("c, b", 3), sample("", 2)]
    assert dataset_notes(index(*samples), SPEC, "") == dataset_notes(index(*reversed(samples)), SPEC, "")
    assert list(json.loads(dataset_notes(index(*samples), SPEC, "")["ss_dataset_dirs"])) == [
        "1_pictures",
        "2_pictures",
        "3_pictures",
    ]


def test_a_wordy_data_set_keeps_the_header_small() -> None:
    wordy = [sample(",".join(f"{'ж' * 100}{number}-{at}" for at in range(18)), number) for number in range(1, 801)]
    notes = dataset_notes(index(*wordy, sample("x" * 2_000)), SPEC, "zbx")
    tags = json.loads(notes["ss_tag_frequency"])
    assert sum(map(len, tags.values())) <= MAX_TAGS
    assert max(len(tag) for found in tags.values() for tag in found) <= MAX_TAG_CHARS
    assert len(json.dumps(notes)) < 2_000_000
