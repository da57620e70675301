"""A data set as the trainer reads it: captions from the index, raw pixels from the file of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gesso.tensorfile import TensorFile, open_tensors
from gesso_node.executors.lora.fault import from_requester
from gesso_protocol.errors import EncodingInvalid, ModelInvalid
from gesso_protocol.spec import TrainLora
from gesso_protocol.training.dataset import INDEX_FILE, MAX_DATASET_BYTES, PICTURES_FILE, DatasetIndex


@dataclass(frozen=True)
class Pictures:
    """An index and its pictures, checked against each other."""

    index: DatasetIndex
    file: TensorFile

    @classmethod
    def open(cls, folder: Path, spec: TrainLora) -> Self:
        """Raises InputInvalid when the folder is not a data set, or not one for this spec's resolution."""
        with from_requester():
            return cls._read(folder, spec)

    @classmethod
    def _read(cls, folder: Path, spec: TrainLora) -> Self:
        path = folder / INDEX_FILE
        try:
            if path.stat().st_size > DatasetIndex.MAX_BYTES:
                raise ModelInvalid("the data set's index is too large")
            index = DatasetIndex.decode(path.read_bytes())
        except (OSError, EncodingInvalid) as error:
            raise ModelInvalid(f"this is not a data set: {error}") from error
        if index.resolution != spec.resolution:
            raise ModelInvalid(f"the data set is made for {index.resolution} pixels, the task for {spec.resolution}")
        file = open_tensors(folder / PICTURES_FILE, max_bytes=MAX_DATASET_BYTES + 8 * 1024 * 1024)
        wanted = {str(at): (one.height, one.width, 3) for at, one in enumerate(index.samples)}
        found = {name: info.shape for name, info in file.tensors.items() if info.dtype == "U8"}
        if found != wanted or len(file.tensors) != len(wanted):
            raise ModelInvalid("the data set's pictures are not those of its index")
        return cls(index, file)

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """Picture `number`: (height, width, 3), uint8."""
        sample = self.index.samples[number]
        return np.frombuffer(self.file.read(str(number)), np.uint8).reshape(sample.height, sample.width, 3)
