"""Writing a trained LoRA for everybody's tools, and proving each file by loading it the way others will.

Two files with the same weights: `adapter.safetensors` in diffusers form with peft's settings in its metadata (without
them a loader guesses alpha), and `adapter_kohya.safetensors`. Each is loaded with `load_lora_weights` into the bare
base and must give the same text embedding and UNet output, bit for bit; other ways of saving lose layers in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from gesso.checkpointfile import Array
from gesso.tensorfile import write_tensors
from gesso_node.executors.conditioning import conditioned, is_xl, text_encoders, told
from gesso_node.executors.lora.adapter_file import ADAPTER_FILE, METADATA_KEY
from gesso_node.executors.lora.network import Network, remove_adapters
from gesso_node.executors.lora.sgm_names import sgm_name
from gesso_node.executors.lora.trainer import Provenance
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.hashing import sha256
from gesso_protocol.spec import TrainLora

KOHYA_FILE = "adapter_kohya.safetensors"
CARD_FILE = "adapter.json"
_PROBE_TIMESTEP = 500
Row: TypeAlias = tuple[str, str, tuple[int, ...], bytes]
"""Name, element type, shape and bytes of one tensor."""
_XL_FAMILY = ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora")
_KOHYA_PARTS = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}
_FAMILIES = {768: ("sd_v1", "stable-diffusion-v1/lora"), 1024: ("sd_v2", "stable-diffusion-v2/lora")}


@torch.no_grad()
def export_adapter(
    pipe: Any, network: Network, spec: TrainLora, folder: Path, provenance: Provenance, notes: Mapping[str, str]
) -> None:
    """Write and prove the files; then the network is off the pipeline. Raises ModelInvalid when a reload differs.

    `notes` are more entries for the files' metadata: what is known of the data set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = network.weights()
    expected = probe(pipe, provenance.trigger)
    configs = {part: _plain(config) for part, config in network.configs.items()}
    network.close()
    settings = {f"{part}.{key}": value for part, config in configs.items() for key, value in config.items()}
    adapter, kohya = folder / ADAPTER_FILE, folder / KOHYA_FILE
    rows: list[Row] = [(name, "F32", array.shape, array.tobytes()) for name, array in weights.items()]
    others = kohya_rows(weights, spec.alpha, layers_of(pipe))
    peft = {METADATA_KEY: json.dumps(settings, sort_keys=True)}
    write_tensors(adapter, rows, {**notes, **metadata(spec, provenance, rows, pipe), **peft})
    write_tensors(kohya, others, {**notes, **metadata(spec, provenance, others, pipe)})
    for path in (adapter, kohya):
        _prove(pipe, path, provenance.trigger, expected)
    (folder / CARD_FILE).write_text(json.dumps(card(spec, provenance), indent=1, sort_keys=True) + "\n")


def probe(pipe: Any, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    """One text embedding and one UNet output: what any change of a weight would change."""
    config = pipe.unet.config
    side = config.sample_size
    cond, _ = conditioned(pipe, prompt, "", (side * pipe.vae_scale_factor, side * pipe.vae_scale_factor))
    count = config.in_channels * side * side
    wave = torch.sin(torch.arange(count, dtype=torch.float32)).reshape(1, config.in_channels, side, side)
    output = pipe.unet(wave.to(pipe.device), _PROBE_TIMESTEP, **told([cond]), return_dict=False)[0]
    return cond.recorded, output


def layers_of(pipe: Any) -> int | None:
    """Residual layers a level of an XL UNet whose layers kohya names as the original does; None for others."""
    layers = pipe.unet.config.layers_per_block
    return layers if is_xl(pipe) and isinstance(layers, int) else None


def kohya_rows(weights: Mapping[str, Array], alpha: int, layers: int | None = None) -> list[Row]:
    """The same weights under kohya's names, each layer with its alpha. `layers`: see `layers_of`."""
    xl = layers is not None or any(name.startswith("text_encoder_2.") for name in weights)
    prefixes = {**_KOHYA_PARTS, "text_encoder": "lora_te1"} if xl else _KOHYA_PARTS
    rows: list[Row] = []
    for name, array in weights.items():
        part, _, rest = name.partition(".")
        module, _, side = rest.removesuffix(".weight").rpartition(".lora_")
        if part == "unet":
            module = module if layers is None else sgm_name(module, layers)
        else:
            module = f"text_model.{module.removeprefix('text_model.')}"
        base = f"{prefixes[part]}_{module.replace('.', '_')}"
        if side == "A":
            rows.append((f"{base}.alpha", "F32", (), np.float32(alpha).tobytes()))
        rows.append((f"{base}.lora_{'down' if side == 'A' else 'up'}.weight", "F32", array.shape, array.tobytes()))
    return rows


def metadata(spec: TrainLora, provenance: Provenance, rows: Sequence[Row], pipe: Any) -> dict[str, str]:
    """What other tools show: kohya's `ss_*`, modelspec, and where the file comes from. All values are text.

    The hash is that of all that follows the file's header, as other tools compute it.
    """
    family = _XL_FAMILY if is_xl(pipe) else _FAMILIES.get(pipe.unet.config.cross_attention_dim, _FAMILIES[768])
    version, architecture = family
    digest = sha256(b"".join(data for _, _, _, data in rows)).hex()
    return {
        "format": "pt",
        "ss_v2": str(version == "sd_v2"),
        "ss_base_model_version": version,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(spec.rank),
        "ss_network_alpha": str(spec.alpha),
        "ss_network_args": json.dumps({"conv_dim": spec.rank} if "convolution" in spec.targets else {}),
        "ss_output_name": spec.trigger or "adapter",
        "ss_steps": str(provenance.steps),
        "ss_max_train_steps": str(spec.steps),
        "ss_seed": str(spec.seed),
        "ss_learning_rate": f"{spec.learning_rate_nano / 1e9:g}",
        "ss_unet_lr": f"{spec.learning_rate_nano / 1e9:g}",
        "ss_text_encoder_lr": f"{_text_rate(spec):g}",
        "ss_optimizer": "torch.optim.adamw.AdamW",
        "ss_lr_scheduler": spec.schedule,
        "ss_lr_warmup_steps": str(spec.warmup_steps),
        "ss_mixed_precision": "no" if spec.dtype == "fp32" else spec.dtype,
        "ss_noise_offset": f"{spec.noise_offset_milli / 1000:g}",
        "ss_min_snr_gamma": f"{spec.min_snr_milli / 1000:g}",
        "ss_gradient_accumulation_steps": str(spec.accumulation),
        "ss_max_grad_norm": f"{spec.max_grad_norm_milli / 1000:g}",
        "ss_resolution": f"({spec.resolution}, {spec.resolution})",
        "ss_enable_bucket": str(spec.buckets),
        "ss_sd_model_name": provenance.base,
        "sshs_model_hash": digest,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": architecture,
        "modelspec.implementation": "diffusers",
        "modelspec.title": spec.trigger or "LoRA",
        "modelspec.resolution": f"{spec.resolution}x{spec.resolution}",
        "modelspec.trigger_phrase": spec.trigger,
        "modelspec.hash_sha256": f"0x{digest}",
        **{f"gesso.{key}": value for key, value in _origin(provenance).items()},
    }


def card(spec: TrainLora, provenance: Provenance) -> dict[str, Any]:
    """What a marketplace shows of it."""
    return {
        "format": "gesso/adapter/1",
        "rank": spec.rank,
        "alpha": spec.alpha,
        "trigger": spec.trigger,
        "steps": provenance.steps,
        "text_encoder": spec.text_encoder,
        "targets": list(spec.targets),
        **_origin(provenance),
    }


def _origin(provenance: Provenance) -> dict[str, str]:
    return {
        "task": provenance.task,
        "spec": provenance.spec,
        "base": provenance.base,
        "base_manifest": provenance.base_manifest,
        "dataset": provenance.dataset,
        **provenance.extra,
    }


def _prove(pipe: Any, path: Path, prompt: str, expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    try:
        pipe.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
        found = probe(pipe, prompt)
    except Exception as error:
        raise ModelInvalid(f"{path.name} does not load again: {type(error).__name__}: {str(error)[:300]}") from error
    finally:
        for part in (pipe.unet, *text_encoders(pipe).values()):
            remove_adapters(part)
    for what, ours, theirs in zip(("text embedding", "UNet output"), expected, found, strict=True):
        if not torch.equal(ours, theirs):
            raise ModelInvalid(f"{path.name} gives another {what} when it is loaded again")


def _plain(config: Any) -> dict[str, Any]:
    """peft's settings without what is not JSON or not told (None)."""
    plain: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=lambda value: sorted(value)))
    return {key: value for key, value in plain.items() if value is not None}


def _text_rate(spec: TrainLora) -> float:
    return (spec.text_learning_rate_nano or spec.learning_rate_nano) / 1e9 if spec.text_encoder else 0.0
