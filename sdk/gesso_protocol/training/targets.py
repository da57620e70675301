"""Which layers a LoRA may sit on, by the kind that a training spec names; module names are those of diffusers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gesso_protocol.training.spec import Target

UNET_TARGETS: Mapping[Target, tuple[str, ...]] = {
    "attention": ("to_q", "to_k", "to_v", "to_out.0"),
    "convolution": ("conv1", "conv2", "conv_shortcut"),
    "feed_forward": ("ff.net.0.proj", "ff.net.2"),
    "projection": ("proj_in", "proj_out"),
}
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
"""All six, always: readers of the kohya form silently drop attention weights when some are missing."""


def targets_of(modules: Iterable[str]) -> tuple[Target, ...] | None:
    """The kinds that these UNet modules are of, sorted; names with dots or underscores. None: some are of no kind."""
    found: set[Target] = set()
    for module in modules:
        kind = _kind(f"_{module.replace('.', '_')}")
        if kind is None:
            return None
        found.add(kind)
    return tuple(sorted(found))


def _kind(module: str) -> Target | None:
    for kind, names in UNET_TARGETS.items():
        if any(module.endswith(f"_{name.replace('.', '_')}") for name in names):
            return kind
    return None
