"""What is exact about a training's files: its start, and what is handed over. Blocking.

Each check gives what is wrong in words, or nothing. Files are a stranger's: whatever they hold is an answer. That our
own disk cannot give them back is none: then each check raises CannotRunError.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gesso.checkpointfile import Array, State, read_state
from gesso.tensorfile import FileUnreadable
from gesso_node.auditing.inspect import CannotRunError
from gesso_node.executors.lora.adapter_file import AdapterFile, read_adapter
from gesso_node.executors.lora.sgm_names import sgm_name
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.spec import TrainLora


def start_fault(own: State, theirs: Path) -> str:
    """Whether checkpoint 0 is what the task prescribes, to the bit."""
    try:
        state = read_state(theirs, shapes_of(own), step=own.step)
    except ModelInvalid as error:
        return fault_in(error)
    for part in ("weights", "first", "second"):
        mine: Mapping[str, Array] = getattr(own, part)
        if any(not np.array_equal(mine[name], getattr(state, part)[name]) for name in mine):
            return f"its {'weights' if part == 'weights' else 'moments'} are not those that the task prescribes"
    return ""


def adapter_fault(last: Path, adapter: Path, spec: TrainLora, layers_a_level: int | None = None) -> str:
    """Whether a file that is handed over holds the last checkpoint's weights, at the strength that was ordered.
    `layers_a_level`: of a base whose UNet kohya's form names as the original does."""
    try:
        trained, file = read_state(last).weights, read_adapter(adapter)
        layers = _layers(file)
    except ModelInvalid as error:
        return fault_in(error)
    wanted = {_plain(name, layers_a_level if file.kohya else None): name for name in trained}
    if set(wanted) != set(layers):
        return "it adapts other layers than were trained"
    for plain, name in wanted.items():
        array, alpha = layers[plain]
        if not np.array_equal(array, trained[name]):
            return f"{name} is not that of the last checkpoint"
        if alpha != spec.alpha:
            return f"{name} has alpha {alpha:g}, {spec.alpha} was ordered"
    return ""


def fault_in(error: ModelInvalid) -> str:
    """What is wrong with a stranger's file. Raises CannotRunError where it is our disk that failed."""
    if isinstance(error, FileUnreadable):
        raise CannotRunError(f"our own disk: {error.message}", hopeless=False) from error
    return error.message


def own_state(path: Path) -> State:
    """A state that we computed ourselves. Raises CannotRunError: whatever is wrong with it is not the node's doing."""
    try:
        return read_state(path)
    except ModelInvalid as error:
        raise CannotRunError(f"our own state: {error.message}", hopeless=False) from error


def shapes_of(state: State) -> dict[str, tuple[int, ...]]:
    """The network that a state is of."""
    return {name: array.shape for name, array in state.weights.items()}


def _layers(file: AdapterFile) -> dict[tuple[str, str, str], tuple[Array, float]]:
    found = {}
    for (part, module), layer in file.layers.items():
        alpha = layer.rank if layer.alpha is None else layer.alpha
        for side, tensor in (("A", layer.down), ("B", layer.up)):
            found[part, module, side] = (file.array(tensor), float(alpha))
    return found


def _plain(name: str, layers_a_level: int | None) -> tuple[str, str, str]:
    """A parameter's name as both forms of files know it: part, module with underscores, side."""
    part, _, rest = name.partition(".")
    module, _, side = rest.removesuffix(".weight").rpartition(".lora_")
    if part == "unet" and layers_a_level is not None:
        module = sgm_name(module, layers_a_level)
    return part, module.removeprefix("text_model.").replace(".", "_"), side
