"""The real trainer: diffusers' UNet with peft's adapters and AdamW, every draw from the protocol's rules.

fp32 throughout (bf16 runs autocast the base's arithmetic; adapters, moments and loss stay fp32). Latents are the
mode of the autoencoder's posterior, computed once. Imported in the child process only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gesso.checkpointfile import Array, Shapes, State
from gesso_node.executors.conditioning import Conditioning, text_encoders, time_ids, told
from gesso_node.executors.denoiser import make_scheduler
from gesso_node.executors.lora.adapter_file import read_adapter
from gesso_node.executors.lora.data import Pictures
from gesso_node.executors.lora.export import export_adapter
from gesso_node.executors.lora.fault import from_requester
from gesso_node.executors.lora.kohya_notes import dataset_notes
from gesso_node.executors.lora.network import Network
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.trainer import Provenance
from gesso_node.executors.lora.words import Words
from gesso_node.executors.vae import encoded, to_rgb
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.training.draws import Draws
from gesso_protocol.training.order import DataOrder
from gesso_protocol.training.rates import loss_weight, rate_factor

BETAS = (0.9, 0.999)
EPSILON = 1e-8
_ENCODE_BATCH = 8


class PeftTrainer:
    """One run on one loaded pipeline; the pipeline is the engine's and is given back unchanged by `close`."""

    def __init__(self, pipe: Any, scheduler_config: dict[str, Any], inputs: TrainingInputs) -> None:
        spec = self._spec = inputs.spec
        self._pipe = pipe
        self._device = pipe.device
        self._scheduler_config = scheduler_config
        self._draws = Draws(inputs.seed)
        pictures = Pictures.open(inputs.dataset_dir, spec)
        self._index = pictures.index
        self._samples = pictures.index.samples
        self._order = DataOrder(self._draws, self._samples, spec.batch, spec.accumulation)
        scheduler = make_scheduler(scheduler_config, "ddim", torch.float32)
        self._alphas = scheduler.alphas_cumprod.to(torch.float32)
        self._prediction = scheduler.config.prediction_type
        if self._prediction not in ("epsilon", "v_prediction"):
            raise ModelInvalid(f"models that predict {self._prediction!r} cannot be trained here")
        with from_requester():
            _check_resolution(pipe, pictures)
        self._latents = self._encode(pictures, inputs.between)
        texts = ("", *(sample.caption for sample in self._samples), *spec.prior_prompts)
        self._words = Words(pipe, texts, self._autocast)
        with from_requester():
            self._network = Network(pipe, spec)
        try:
            self._network.start(self._draws)
            if inputs.start_dir is not None:
                with from_requester():
                    self._network.load(read_adapter(inputs.start_dir).diffusers_weights())
            self._optimiser = self._make_optimiser()
            if not spec.text_encoder:
                self._words.keep(inputs.between)
        except BaseException:
            self._network.close()
            raise

    @property
    def shapes(self) -> Shapes:
        return self._network.shapes

    def update(self, step: int) -> float:
        spec = self._spec
        factor = rate_factor(spec, step)
        for group in self._optimiser.param_groups:
            group["lr"] = group["initial"] * factor
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for at, batch in enumerate(self._order.batches(step)):
            loss = self._batch_loss(step, at * spec.batch, batch) / spec.accumulation
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(list(self._network.parameters.values()), spec.max_grad_norm_milli / 1000)
        self._optimiser.step()
        return total

    @torch.no_grad()
    def loss_at(self, step: int, *, trained: bool) -> float:
        batches = self._order.batches(step)
        with nullcontext() if trained else self._network.off():
            losses = [
                self._main_loss(step, at * self._spec.batch, batch, fresh=True) for at, batch in enumerate(batches)
            ]
        return float(sum(losses) / len(losses))

    def state(self, step: int) -> State:
        weights = self._network.weights()
        moments: list[dict[str, Array]] = []
        for key in ("exp_avg", "exp_avg_sq"):
            moments.append({name: self._moment(parameter, key) for name, parameter in self._named()})
        return State(step, weights, *moments)

    def restore(self, state: State) -> None:
        self._network.load(state.weights)
        for name, parameter in self._named():
            self._optimiser.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": self._on_device(state.first[name]),
                "exp_avg_sq": self._on_device(state.second[name]),
            }

    @torch.inference_mode()
    def sample(self, prompt: str, seed: int) -> tuple[int, int, bytes]:
        spec, pipe = self._spec, self._pipe
        side = spec.resolution
        before = pipe.scheduler
        pipe.scheduler = make_scheduler(self._scheduler_config, "ddim", torch.float32)
        try:
            latents = pipe(
                prompt=prompt,
                width=side,
                height=side,
                num_inference_steps=spec.sample_steps,
                guidance_scale=spec.sample_guidance_milli / 1000,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="latent",
                return_dict=False,
            )[0]
        finally:
            pipe.scheduler = before
        pixels = to_rgb(pipe, latents)
        return side, side, pixels.numpy().tobytes()

    def export(self, folder: Path, provenance: Provenance) -> None:
        notes = dataset_notes(self._index, self._spec, provenance.trigger)
        export_adapter(self._pipe, self._network, self._spec, folder, provenance, notes)

    def close(self) -> None:
        self._network.close()

    def _batch_loss(self, step: int, slot: int, batch: Sequence[int]) -> torch.Tensor:
        loss = self._main_loss(step, slot, batch)
        if self._spec.prior_milli:
            loss = loss + self._spec.prior_milli / 1000 * self._prior_loss(step, slot, batch)
        return loss

    def _main_loss(self, step: int, slot: int, batch: Sequence[int], *, fresh: bool = False) -> torch.Tensor:
        spec = self._spec
        clean = torch.stack([self._latents[number] for number in batch])
        draws = [
            self._draws.sample(
                step, slot + at, tuple(clean.shape[1:]), timesteps=len(self._alphas),
                dropout_milli=spec.caption_dropout_milli, offset_milli=spec.noise_offset_milli,
            )
            for at in range(len(batch))
        ]  # fmt: skip
        noise = torch.from_numpy(np.stack([draw.noise + draw.offset[:, None, None] for draw in draws]))
        timesteps = torch.tensor([draw.timestep for draw in draws])
        captions = [
            "" if draw.dropped else self._samples[number].caption for draw, number in zip(draws, batch, strict=True)
        ]
        noisy, target = self._noised(clean, noise.to(self._device), timesteps)
        predicted = self._predict(noisy, timesteps, self._words.told(captions, fresh=fresh))
        weights = [loss_weight(spec, float(self._alphas[draw.timestep]), self._prediction) for draw in draws]
        errors = ((predicted - target) ** 2).mean(dim=(1, 2, 3))
        return (errors * torch.tensor(weights, device=self._device)).mean()

    def _prior_loss(self, step: int, slot: int, batch: Sequence[int]) -> torch.Tensor:
        """How far the adapted model has moved from the base on prompts that are to stay as they are."""
        spec = self._spec
        shape = tuple(self._latents[batch[0]].shape)
        peers = [at for at, one in enumerate(self._latents) if tuple(one.shape) == shape]
        choice = {"timesteps": len(self._alphas), "prompts": len(spec.prior_prompts), "pictures": len(peers)}
        draws = [self._draws.prior(step, slot + at, shape, **choice) for at in range(max(1, len(batch) // 2))]
        clean = torch.stack([self._latents[peers[draw.picture]] for draw in draws])
        noise = torch.from_numpy(np.stack([draw.noise for draw in draws])).to(self._device)
        timesteps = torch.tensor([draw.timestep for draw in draws])
        prompts = [spec.prior_prompts[draw.prompt] for draw in draws]
        noisy, _ = self._noised(clean, noise, timesteps)
        with torch.no_grad(), self._network.off():
            wanted = self._predict(noisy, timesteps, self._words.told(prompts, fresh=True))
        return ((self._predict(noisy, timesteps, self._words.told(prompts)) - wanted) ** 2).mean()

    def _noised(
        self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        share = self._alphas[timesteps].to(self._device).view(-1, 1, 1, 1)
        signal, rest = share.sqrt(), (1 - share).sqrt()
        noisy = signal * clean + rest * noise
        return noisy, noise if self._prediction == "epsilon" else signal * noise - rest * clean

    def _predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, words: Conditioning) -> torch.Tensor:
        if words.pooled is not None:
            # A data set's pictures are what they are: nothing tells how large they were, or what was cut off.
            factor, (rows, _, height, width) = self._pipe.vae_scale_factor, noisy.shape
            words = replace(words, time_ids=time_ids(noisy, (height * factor, width * factor), rows))
        with self._autocast():
            output: torch.Tensor = self._pipe.unet(
                noisy, timesteps.to(self._device), **told([words]), return_dict=False
            )[0]
        return output.float()

    @torch.no_grad()
    def _encode(self, pictures: Pictures, between: Callable[[], None]) -> list[torch.Tensor]:
        latents = []
        for number in range(len(pictures.index.samples)):
            between()
            pixels = torch.from_numpy(pictures.pixels(number).copy()).to(self._device)
            scaled = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1
            latents.append(encoded(self._pipe, scaled)[0])
        return latents

    def _make_optimiser(self) -> torch.optim.AdamW:
        spec = self._spec
        text = spec.text_learning_rate_nano or spec.learning_rate_nano
        rates = {"unet": spec.learning_rate_nano, **dict.fromkeys(text_encoders(self._pipe), text)}
        groups = [
            {"params": found, "lr": rate / 1e9, "initial": rate / 1e9}
            for part, rate in rates.items()
            if (found := [value for name, value in self._named() if name.startswith(f"{part}.")])
        ]
        return torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, weight_decay=spec.weight_decay_milli / 1000)

    def _named(self) -> list[tuple[str, torch.nn.Parameter]]:
        return list(self._network.parameters.items())

    def _moment(self, parameter: torch.nn.Parameter, key: str) -> Array:
        kept = self._optimiser.state.get(parameter)
        if not kept:
            return np.zeros(tuple(parameter.shape), np.float32)
        array: Array = kept[key].detach().float().cpu().numpy().copy()
        return array

    def _on_device(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).to(self._device)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._spec.dtype == "bf16":
            return torch.autocast(self._device.type, torch.bfloat16)
        return nullcontext()


def _check_resolution(pipe: Any, pictures: Pictures) -> None:
    unit = pipe.vae_scale_factor * 2 ** (len(pipe.unet.config.block_out_channels) - 1)
    for sample in pictures.index.samples:
        if sample.width % unit or sample.height % unit:
            raise ModelInvalid(
                f"this model trains on sides that are multiples of {unit} pixels, not {sample.width}x{sample.height}",
                hint=f"pack the data set with bucket_step_px {unit}",
            )
