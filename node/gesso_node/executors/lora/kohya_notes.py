"""What kohya's trainer writes of a data set into a LoRA's metadata, and picture tools read there: tags, sizes, counts.

A bundle knows no folders, so pictures that are shown equally often make one, under the name it has by kohya's custom:
`<repeats>_<trigger>`. The same data set gives the same text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from gesso_protocol.spec import TrainLora
from gesso_protocol.training.dataset import DatasetIndex, Sample

MAX_TAGS = 1_000
"""In all folders together: a file's header has a limit, and beyond the most frequent tags nobody looks."""
MAX_TAG_CHARS = 120


def dataset_notes(index: DatasetIndex, spec: TrainLora, trigger: str) -> dict[str, str]:
    """The `ss_*` entries; all values are text, some of them JSON."""
    folders: dict[str, list[Sample]] = {}
    for sample in sorted(index.samples, key=lambda one: one.repeats):
        folders.setdefault(f"{sample.repeats}_{trigger or 'pictures'}", []).append(sample)
    most = max(1, MAX_TAGS // len(folders))
    per_epoch = -(-index.shown // spec.batch)
    updates_per_epoch = -(-per_epoch // spec.accumulation)
    return {
        "ss_num_train_images": str(index.shown),
        "ss_num_reg_images": "0",
        "ss_num_batches_per_epoch": str(per_epoch),
        "ss_num_epochs": str(-(-spec.steps // updates_per_epoch)),
        "ss_batch_size_per_device": str(spec.batch),
        "ss_total_batch_size": str(spec.batch),
        "ss_dataset_dirs": _json(
            {name: {"n_repeats": samples[0].repeats, "img_count": len(samples)} for name, samples in folders.items()}
        ),
        "ss_tag_frequency": _json(
            {name: _tags((one.caption for one in samples), most) for name, samples in folders.items()}
        ),
        "ss_bucket_info": _json(_buckets(index)),
    }


def _tags(captions: Iterable[str], most: int) -> dict[str, int]:
    """How many captions hold each tag; captions are lists with commas between, as kohya takes them."""
    counts = Counter(tag[:MAX_TAG_CHARS] for caption in captions for tag in map(str.strip, caption.split(",")) if tag)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])


def _buckets(index: DatasetIndex) -> dict[str, Any]:
    """Sizes that are trained at, and how many pictures of an epoch have each. Cropping was done before, so the error in
    aspect ratio that is left is none."""
    counts: Counter[tuple[int, int]] = Counter()
    for sample in index.samples:
        counts[sample.width, sample.height] += sample.repeats
    rows = {
        str(number): {"resolution": list(size), "count": counts[size]} for number, size in enumerate(sorted(counts))
    }
    return {"buckets": rows, "mean_img_ar_error": 0.0}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
