"""Stage 2 of latent diffusion: diffusers' UNet and schedulers around the latents of a VAE (Rombach et al. 2022).

A `Diffusion` learns to take noise out of *normalised* latents, mean about 0 and standard deviation about 1. Train it
with `training.fit(model, rows(latents, words))`, draw with `sample`, look at the result with `paint`. Timesteps t run
from 0 (clean) to 1,000 (noise), as diffusers counts them, and x_t = α·x + σ·ε.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vaelab import models, storage
from vaelab.distributions import standard_noise

TIMESTEPS = 1000
SCHEDULE = {"num_train_timesteps": TIMESTEPS, "beta_schedule": "squaredcos_cap_v2"}  # Nichol & Dhariwal 2021, eq. 17
# At the last timestep of this schedule α is almost 0. A predicted ε says nothing about the picture there, so sampling
# starts a little earlier; a predicted v does, and sampling starts from pure noise (Lin et al. 2024, section 3).
PREDICTIONS = {"epsilon": {"prediction_type": "epsilon", "timestep_spacing": "leading"}}
PREDICTIONS |= {"v": {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}}
KINDS = {"ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "dpm": "DPMSolverMultistepScheduler"}
SAMPLERS = {"epsilon": tuple(KINDS), "v": tuple(KINDS), "flow": ("euler",)}


def check_unit(latents):
    """Refuses latents on another scale than the noise: far from mean 0 and standard deviation 1."""
    mean, spread = (float(value.detach()) for value in (latents.mean(), latents.std()))
    if not (0.8 <= spread <= 1.25 and abs(mean) <= 0.5):  # also where one of them is NaN
        cure = "call vae.fit_normaliser(pictures) once, and give vae.normalise(latents)"
        raise ValueError(f"Latents of mean {mean:.3g} and standard deviation {spread:.3g} need to have 0 and 1; {cure}.")


def rows(latents, words=None):
    """Normalised latents `(N, C, h, w)` and word indices `(N, slots)` as one table for `fit`, `(N, C·h·w + slots)`."""
    check_unit(latents)
    words = latents.new_zeros(len(latents), 0) if words is None else words
    if len(words) != len(latents):
        raise ValueError(f"There are {len(latents)} latents and {len(words)} prompts; give one prompt for each latent.")
    return torch.cat([latents.flatten(1), words.to(latents)], dim=1)


class DiffusionTerms(NamedTuple):
    """What one batch costs, one value a picture, `(N,)`; the default objective of `fit` makes the usual loss of it.

    Attributes:
        reconstruction: minus the squared error of the prediction, averaged over its numbers (Ho et al. 2020, eq. 14):
            what the field minimises, and no likelihood (that is `bound`).
        kl: 0.
        time: the timestep that was drawn.
        kl_per_dimension: None, for `evaluate`.
    """

    reconstruction: torch.Tensor
    kl: torch.Tensor
    time: torch.Tensor
    kl_per_dimension: torch.Tensor | None = None


class Diffusion(nn.Module):
    """A denoiser of latents, and the schedule of noise that it is trained for.

    Args:
        shape: of a latent, `(C, h, w)`; h and w divisible by 2 for every width after the first.
        widths: channels of diffusers' `UNet2DModel` at each size, the largest first.
        prediction: what is predicted from x_t: "epsilon", the noise (Ho et al. 2020); "v" = α·ε − σ·x (Salimans & Ho
            2022); "flow" = ε − x on the straight way x_t = (1 − t)·x + t·ε (Liu et al. 2023, as in SD3).
        vocabulary: `{slot: words}`, what it can be told (`data.prompts.VOCABULARY`); None: nothing.
        layers: ResNet blocks at each size.
        drop: in training, how often a word is left out, and how often all of them are: what guidance needs (Ho &
            Salimans 2022).
        network: another denoiser, `(x_t, t (N,), label (N, 4·widths[0])) -> prediction`, instead of the UNet; such a
            model cannot be saved.
    """

    def __init__(self, shape=(4, 16, 16), widths=(32, 48, 64), prediction="v", vocabulary=None, layers=1,
                 drop=0.1, network=None):  # fmt: skip
        from diffusers import DDPMScheduler

        super().__init__()
        models.choose("prediction", prediction, SAMPLERS)
        self.shape, self.prediction, self.drop = tuple(shape), prediction, drop
        self.slots = {slot: tuple(words) for slot, words in dict(vocabulary or {}).items()}
        self.config = {"shape": shape, "widths": widths, "prediction": prediction, "layers": layers, "drop": drop}
        self.config |= {"vocabulary": list(self.slots.items())}  # pairs: JSON would sort a dict, and the order counts
        self.network = unet(self.shape, tuple(widths), layers) if network is None else network
        self.saveable, self.label_size = network is None, 4 * widths[0]
        # Index 0, "unsaid", is the zero vector and stays it.
        self.words = nn.ModuleList(nn.Embedding(len(w) + 1, self.label_size, padding_idx=0) for w in self.slots.values())
        for table in self.words:
            nn.init.normal_(table.weight[1:], std=0.02)
        self.register_buffer("signal", DDPMScheduler(**SCHEDULE).alphas_cumprod, persistent=False)

    def schedule(self, t):
        """α and σ at timesteps `t` `(N,)`, each `(N, 1, 1, 1)`."""
        t = t.view(-1, 1, 1, 1)
        if self.prediction == "flow":
            return 1 - t / TIMESTEPS, t / TIMESTEPS
        signal = self.signal[t.long()]
        return signal.sqrt(), (1 - signal).sqrt()

    def target(self, x, noise, t):
        """What the network should say about x_t, like `x`."""
        alpha, sigma = self.schedule(t)
        return {"epsilon": noise, "v": alpha * noise - sigma * x, "flow": noise - x}[self.prediction]

    def clean(self, x_t, output, t):
        """The clean latents that a prediction stands for, `(N, C, h, w)`."""
        alpha, sigma = self.schedule(t)
        if self.prediction == "epsilon":
            return (x_t - sigma * output) / alpha
        return (alpha if self.prediction == "v" else 1) * x_t - sigma * output

    def predict(self, x_t, t, words):
        """The network's prediction for `x_t` `(N, C, h, w)`, timesteps `t` `(N,)` and words `(N, slots)`."""
        said = (table(words[:, i]) for i, table in enumerate(self.words))
        label = sum(said, x_t.new_zeros(len(x_t), self.label_size))
        output = self.network(x_t, t, label)
        return output if torch.is_tensor(output) else output.sample

    def forward(self, table, generator=None):
        """`rows(latents, words)` -> `DiffusionTerms`, each picture at one random timestep."""
        n, size = len(table), math.prod(self.shape)
        if table.shape[1] != size + len(self.slots):
            raise ValueError(f"Rows of {table.shape[1]} numbers are not latents of {self.shape} and {len(self.slots)} words; use rows.")
        x, words = table[:, :size].reshape(n, *self.shape), table[:, size:].long()
        # Evenly spread over the batch from one random start: less noise in the loss (Kingma et al. 2021, appendix I.1).
        t = (torch.rand((), generator=generator, device=x.device) + torch.arange(n, device=x.device) / n) % 1 * TIMESTEPS
        t = t if self.prediction == "flow" else t.floor()
        alpha, sigma = self.schedule(t)
        noise = standard_noise(x, generator)
        words = self.leave_out(words, generator) if self.training else words
        output = self.predict(alpha * x + sigma * noise, t, words)
        error = (output.float() - self.target(x, noise, t)).square().flatten(1).mean(1)
        return DiffusionTerms(-error, torch.zeros_like(error), t)

    def leave_out(self, words, generator=None):
        """Word indices with some of them, and sometimes all, set to 0."""
        kept = torch.rand(len(words), len(self.slots) + 1, generator=generator, device=words.device) >= self.drop
        return words * kept[:, :-1] * kept[:, -1:]


def unet(shape, widths, layers):
    """diffusers' UNet for latents of `shape`; attention at the smallest size only, where it is cheap."""
    from diffusers import UNet2DModel

    levels = len(widths)
    if any(side % 2 ** (levels - 1) for side in shape[1:]):
        raise ValueError(f"Latents of {shape} cannot be halved {levels - 1} times; give fewer widths than {widths}.")
    settings = {"sample_size": shape[1:], "in_channels": shape[0], "out_channels": shape[0]}
    settings |= {"block_out_channels": widths, "layers_per_block": layers, "norm_num_groups": math.gcd(8, *widths)}
    settings |= {"down_block_types": ["DownBlock2D"] * levels, "up_block_types": ["UpBlock2D"] * levels}
    # "identity": the label is added to the embedding of the timestep
    return UNet2DModel(**settings, attention_head_dim=None, class_embed_type="identity")


def save(model, path, half=False, record=None):
    """Writes a `Diffusion` to a safetensors file (`half`: weights in float16), with a `record` of its making."""
    if not model.saveable:
        raise ValueError("A Diffusion with a network of its own cannot be saved; build it without network=.")
    tensors = model.state_dict()
    return storage.write(path, storage.to_half(tensors) if half else tensors, {"diffusion": model.config} | (record or {}))


def load(path):
    """The `Diffusion` saved at `path`, in float32, on the CPU, in evaluation mode."""
    tensors, record = storage.read(path)
    if "diffusion" not in record:
        raise storage.StorageError(f"{path} holds no Diffusion; give a file made by vaelab.diffusion.save.")
    model = Diffusion(**record["diffusion"])
    model.load_state_dict(tensors)
    return model.eval()


def scheduler_for(model, sampler=None, steps=30):
    """diffusers' scheduler for the model's prediction, with its timesteps set; default sampler: the first known."""
    import diffusers

    known = SAMPLERS[model.prediction]
    sampler = sampler or known[0]
    if sampler not in known or not 1 <= steps <= TIMESTEPS:
        settings, choice = f"sampler={sampler!r} with steps={steps}", f"{' or '.join(known)}, and 1 to {TIMESTEPS} steps"
        raise ValueError(f"{settings} does not fit a model that predicts {model.prediction!r}; choose {choice}.")
    if sampler == "euler":
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(TIMESTEPS)
        scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())  # as diffusers' SD3 does
        return scheduler
    options = SCHEDULE | PREDICTIONS[model.prediction]
    options |= {} if sampler == "dpm" else {"clip_sample": False}  # latents have no bounds
    scheduler = getattr(diffusers, KINDS[sampler])(**options)
    scheduler.set_timesteps(steps)
    return scheduler


def guided(model, x_t, t, words, guidance):
    """uncond + guidance · (cond − uncond), the prediction pushed towards the words (Ho & Salimans 2022, eq. 6)."""
    if guidance == 1:
        return model.predict(x_t, t, words)
    both = torch.cat([words, torch.zeros_like(words)])
    conditional, unconditional = model.predict(x_t.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
    return unconditional + guidance * (conditional - unconditional)


@torch.no_grad()
def sample(model, n, steps=30, words=None, guidance=1.0, generator=None, sampler=None,
           start=None, strength=1.0, keep=False):  # fmt: skip
    """`n` normalised latents `(n, C, h, w)`, from noise or from `start`, through diffusers' schedulers.

    Args:
        steps: of the whole way from noise.
        words: indices `(slots,)` for all or `(n, slots)`; 0 is unsaid; None says nothing.
        guidance: 1 follows the words as learned, more exaggerates them, 0 ignores them.
        sampler: "ddim" (default), "ddpm" or "dpm" for "epsilon" and "v"; "euler" for "flow".
        start, strength: normalised latents `(n, C, h, w)` to start from; `strength` is the share of the way that is
            gone again: 0 gives `start` back, 1 forgets it (Meng et al. 2022, "SDEdit").
        keep: also return the clean latents predicted at each step, `(steps gone, n, C, h, w)`.
    """
    words = checked_words(model, n, words, guidance)
    if not 0 <= strength <= 1 or (start is not None and start.shape != (n, *model.shape)):
        raise ValueError(f"start must be latents of shape {(n, *model.shape)} and strength lie in [0, 1]; got {strength=}.")
    scheduler = scheduler_for(model, sampler, steps)
    times, x = scheduler.timesteps, torch.randn((n, *model.shape), generator=generator, device=model.signal.device)
    skipped = 0 if start is None else steps - round(steps * strength)
    alpha, sigma = model.schedule(times[skipped, None].to(x.device)) if skipped < steps else (1.0, 0.0)
    x = alpha * start + sigma * x if skipped else x
    path = [x.new_zeros(0, *x.shape)]
    for t in times[skipped:]:
        now = t.to(x.device).expand(n)
        output = guided(model, x, now, words, guidance)
        path += [model.clean(x, output, now)[None]] if keep else []
        x = scheduler.step(output, t, x, generator=generator).prev_sample
    return (x, torch.cat(path)) if keep else x


def checked_words(model, n, words, guidance):
    """Word indices as `(n, slots)`, all 0 if None."""
    if words is None and guidance != 1:
        raise ValueError(f"guidance={guidance:g} needs words to guide towards; give words=, or leave guidance at 1.")
    most, slots = torch.tensor([len(known) for known in model.slots.values()]).long(), len(model.slots)
    words = most * 0 if words is None else torch.as_tensor(words).cpu()
    if words.shape not in ((slots,), (n, slots)) or bool(((words < 0) | (words > most)).any()):
        known = f"({slots},) or ({n}, {slots}), from 0 (unsaid) to {most.tolist()} in the slots {list(model.slots)}"
        raise ValueError(f"Words of shape {tuple(words.shape)} do not fit this model; give whole numbers {known}.")
    return words.long().expand(n, slots).to(model.signal.device)


@torch.no_grad()
def develop(vae, latents):
    """Normalised latents -> pictures in [0, 1]."""
    return vae.decode(vae.denormalise(latents)).mean.clamp(0, 1)


def paint(vae, model, n, **settings):
    """`n` new pictures `(n, C, H, W)` in [0, 1]: `sample` with these settings, then the decoder of an `AutoencoderKL`."""
    return develop(vae, sample(model, n, **settings))


@torch.no_grad()
def image_to_image(vae, model, pictures, strength=0.5, **settings):
    """Pictures `(N, C, H, W)` partly forgotten and painted anew; strength 0 is the VAE's round trip, 1 forgets all.

    Args:
        settings: as in `sample`, such as `words` and `guidance`.
    """
    start = vae.normalise(vae.code(pictures))
    return develop(vae, sample(model, len(pictures), start=start, strength=strength, **settings))


def bound(x, alphas, sigmas, reverse, generator=None, noise=None):
    """The lower bound on log p(x) of diffusion as a VAE of T layers, `(N,)` nats: −L_T − Σ L_{t−1} − L_0.

    That is eq. 5 of Ho et al. 2020, a sum of KLs between Gaussians; exact if every reverse step is the true one.

    Args:
        x: data, `(N, d)`.
        alphas, sigmas: `(T,)`, least noise first; layer t is x_t = α·x + σ·ε.
        reverse: `(x_t (K, N, d), t) -> mean, variance` of p(x_{t−1} | x_t); a variance of all, `(d,)`, or a covariance
            `(d, d)`; t counts from 0, and layer −1 is the data.
        noise: the points `(K, 1 or N, d)` over which ε is averaged in every layer; default: fresh draws, K = 1.
    """
    last = gaussian(alphas[-1] * x, sigmas[-1].square())
    total = -kl_divergence(last, gaussian(torch.zeros_like(x), torch.ones_like(sigmas[-1])))
    for t in range(len(alphas)):
        x_t = alphas[t] * x + sigmas[t] * (standard_noise(x, generator, (1,)) if noise is None else noise)
        guess = gaussian(*reverse(x_t, t))
        mean, variance, _ = step_back(alphas, sigmas, t, x_t, x)
        full = torch.eye(x.shape[1]).to(x) if isinstance(guess, MultivariateNormal) else 1  # as the guess is given
        gain = guess.log_prob(x) if t == 0 else -kl_divergence(gaussian(mean, variance * full), guess)
        total = total + gain.mean(0)
    return total


def gaussian(mean, spread):
    """N(mean, spread) over the last axis; a covariance `(d, d)`, or variances that broadcast against `mean`."""
    if spread.ndim == 2:
        return MultivariateNormal(mean, scale_tril=torch.linalg.cholesky(spread))  # once, not for each mean
    return Independent(Normal(mean, spread.sqrt().expand_as(mean)), 1)


def step_back(alphas, sigmas, t, x_t, x):
    """Mean and variance of q(x_{t−1} | x_t, x), which knows the data, and the variance that layer t added to layer t − 1.

    Kingma et al. 2021, appendix A.2.
    """
    alpha, sigma = (alphas[t - 1], sigmas[t - 1]) if t else (alphas.new_ones(()), sigmas.new_zeros(()))
    ratio = alphas[t] / alpha
    added = sigmas[t] ** 2 - ratio**2 * sigma**2
    mean = (ratio * sigma**2 * x_t + alpha * added * x) / sigmas[t] ** 2
    return mean, added * sigma**2 / sigmas[t] ** 2, added


def chain(model, steps=50, words=None):
    """A `Diffusion` as what `bound` takes, `(alphas, sigmas, reverse)`, for normalised latents `(N, C·h·w)`.

    The reverse step is q(x_{t−1} | x_t, x) with the predicted x, and the variance that the forward step added.
    """
    times = scheduler_for(model, None, steps).timesteps.flip(0).to(model.signal.device)
    alphas, sigmas = (value.flatten() for value in model.schedule(times))

    @torch.no_grad()
    def reverse(x_t, t):
        latents = x_t.reshape(-1, *model.shape)
        now, said = times[t].expand(len(latents)), checked_words(model, len(latents), words, 1)
        guess = model.clean(latents, model.predict(latents, now, said), now).reshape(x_t.shape)
        return step_back(alphas, sigmas, t, x_t, guess)[::2]

    return alphas, sigmas, reverse
