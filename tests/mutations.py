"""Plants known mistakes in a copy of the library, one at a time, and shows that a test catches each.

    python -m tests.mutations [word …]     all of them, or those whose trap or fault contains a word

The traps T1 to T30 are mistakes found in published VAE code: a bound with the wrong sign, a constant left out, an
evaluation that ends after one batch, … The unnumbered faults are those that one makes oneself. A fault is a replacement
of text in one file; it must match exactly once, so that the list cannot go stale in silence.
"""

import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
WORKERS = 2
# One server process imports what is slow to import; each fault is tried in a fork of it (Windows has none: slower).
PROCESSES = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
PRELOAD = ["pytest", "accelerate", "scipy.integrate", "scipy.stats", "sklearn.datasets", "sklearn.decomposition"]
PRELOAD += ["torch.distributions", "torch.fx.experimental.symbolic_shapes", "torch.testing", "safetensors.torch"]


class Fault(NamedTuple):
    trap: str
    what: str
    file: str
    old: str
    new: str
    tests: str


FAULTS = [
    Fault("T1", "IWAE gives the worst sample the weight", "objectives.py",
          "torch.logsumexp(log_weights(model, x, k, generator), dim=0) - math.log(k)",
          "math.log(k) - torch.logsumexp(-log_weights(model, x, k, generator), dim=0)",
          "test_linear_gaussian.py -k bounds_rise"),
    Fault("T2", "the gradient's surrogate is reported as the bound", "objectives.py",
          "value = torch.logsumexp(log_weights(model, x, k, generator), dim=0) - math.log(k)",
          "value = (lambda w: (w.softmax(0).detach() * w).sum(0))(log_weights(model, x, k, generator))",
          "test_linear_gaussian.py -k iwae"),
    Fault("T4", "evaluation ends after the first batch", "training.py",
          "for batch in pictures.split(batch_size):", "for batch in pictures.split(batch_size)[:1]:",
          "test_training.py -k evaluate"),
    Fault("T4", "evaluation divides by batches, not by pictures", "training.py",
          "    n = len(pictures)\n", "    n = len(pictures.split(batch_size)) * batch_size\n", "test_training.py -k evaluate"),
    Fault("T4", "at evaluation the mean is decoded and called an ELBO", "models.py",
          "z = posterior.sample(generator)", "z = posterior.sample(generator) if self.training else posterior.mean",
          "test_training.py -k evaluate"),
    Fault("T6", "the optimiser never sees σ", "training.py",
          "AdamW(parameters,", "AdamW([*model.encoder.parameters(), *model.decoder.parameters()],",
          "test_training.py -k one_would_write"),
    Fault("T6", "σ is learned whatever was asked", "distributions.py",
          "requires_grad=learned", "requires_grad=True", "test_distributions.py -k gaussian_gradient"),
    Fault("T7", "the squared error is a mean over pixels", "distributions.py",
          "squared_error = sum_event((full_precision(x) - self.mean) ** 2, x.ndim - 1)",
          "squared_error = sum_event((full_precision(x) - self.mean) ** 2, x.ndim - 1) / math.prod(x.shape[1:])",
          "test_distributions.py -k gaussian"),
    Fault("T7", "the KL is divided by the batch size once more", "objectives.py",
          "* terms.kl.mean()", "* terms.kl.mean() / len(terms.kl)", "test_objectives.py"),
    Fault("T8", "evaluation prices the KL otherwise", "objectives.py",
          "return 1.0 if step is None or not self.warmup else", "return 0.00025 if step is None else 1.0 if not self.warmup else",
          "test_objectives.py"),
    Fault("T8", "evaluation leaves dropout on", "training.py",
          "    check_pictures(pictures)\n    model.eval()\n", "    check_pictures(pictures)\n", "test_training.py -k evaluate"),
    Fault("T9", "reconstruct samples the code", "models.py",
          "        return self.encode(x).mean\n", "        return self.encode(x).sample()\n", "test_models.py"),
    Fault("T9", "reconstruct samples the picture", "models.py",
          "return self.decode(self.code(x)).mean", "return self.decode(self.code(x)).sample()", "test_models.py"),
    Fault("T10", "log_likelihood rounds k up to whole chunks", "objectives.py",
          "min(chunk, k - done) for done", "chunk for done", "test_linear_gaussian.py -k exactly_k"),
    Fault("T10", "log_likelihood has the other sign", "objectives.py",
          "return LogLikelihood(value,", "return LogLikelihood(-value,", "test_linear_gaussian.py -k one_sample_is_enough"),
    Fault("T10", "the standard error forgets √k", "objectives.py",
          "spread / math.sqrt(k)", "spread", "test_linear_gaussian.py -k spread_over_repeats"),
    Fault("T11", "the Gaussian loses its constant", "distributions.py",
          "            self.log_sigma + 0.5 * LOG_2PI\n", "            self.log_sigma\n", "test_distributions.py -k gaussian"),
    Fault("T11", "the Gaussian loses its log σ", "distributions.py",
          "            self.log_sigma + 0.5 * LOG_2PI\n", "            0.5 * LOG_2PI\n", "test_distributions.py -k gaussian"),
    Fault("T12", "a term is summed over the batch", "objectives.py",
          "* terms.kl.mean()", "* terms.kl.sum()", "test_objectives.py"),
    Fault("T13", "pictures of another shape broadcast", "distributions.py",
          "    if x.shape != mean.shape[mean.ndim - x.ndim :]:", "    if False:", "test_distributions.py -k broadcast"),
    Fault("T14", "samples come from N(0, I) whatever the prior", "models.py",
          "self.prior.sample(n, generator, device)", "StandardNormal(self.latent_shape).sample(n, generator, device)",
          "test_models.py -k prior"),
    Fault("T14", "the prior's draws are too narrow", "distributions.py",
          "return torch.randn((n, *self.shape), generator=generator, device=device)",
          "return 0.8 * torch.randn((n, *self.shape), generator=generator, device=device)", "test_distributions.py -k prior"),
    Fault("T15", "pictures outside [0, 1] pass", "training.py",
          "not (low > -1e-4 and high < 1 + 1e-4)", "False", "test_training.py -k refuses"),
    Fault("T15", "bytes are divided by 256", "training.py",
          ".float() / 255 if", ".float() / 256 if", "test_training.py -k should_not_matter"),
    Fault("T16", "grey pixels pass as Bernoulli", "distributions.py",
          "if not self.allow_grey and", "if False and", "test_distributions.py -k grey"),
    Fault("T16", "a density gets bits per dimension", "objectives.py",
          "    if not discrete or", "    if", "test_objectives.py -k bits"),
    Fault("T16", "pixels between grey levels pass as discrete", "distributions.py",
          "(grey - grey.round()).abs() > 1e-3", "(grey - grey.round()).abs() > 1", "test_distributions.py -k grey_levels"),
    Fault("T17", "a hard clamp kills the log-variance's gradient", "distributions.py",
          "bound * torch.tanh(raw / bound)", "raw.clamp(-bound, bound)", "test_distributions.py -k bound"),
    Fault("T17", "the log-variance is not bounded", "distributions.py",
          "bound * torch.tanh(raw / bound)", "raw", "test_distributions.py -k bound"),
    Fault("T17", "the sum takes one axis of a latent that has three", "distributions.py",
          "values.sum(tuple(range(-dims, 0)))", "values.sum(-1)", "test_distributions.py"),
    Fault("T19", "the KL is computed in half precision", "distributions.py",
          "return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x", "return x", "test_distributions.py -k half"),
    Fault("T20", "every epoch has the same order", "training.py",
          'stream(self.seed, "order", epoch)', 'stream(self.seed, "order")', "test_training.py -k one_would_write"),
    Fault("T21", "the state keeps the averaged weights in place of the weights", "training.py",
          'tensors |= {f"average/{name}": tensor for name, tensor in average.items()}',
          'tensors |= {f"{kind}/{name}": tensor for name, tensor in average.items() for kind in ("average", "model")}',
          "test_training.py -k resumed"),
    Fault("T21", "the optimiser starts anew on resuming", "training.py",
          '    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})\n', "", "test_training.py -k resumed"),
    Fault("T21", "the moving average starts anew on resuming", "training.py",
          "        average[name].copy_(value)\n", "        pass\n", "test_training.py -k resumed"),
    Fault("T21", "the history starts anew on resuming", "training.py",
          'history.records, sums.__dict__ = record["history"], record["sums"]', "pass", "test_training.py -k resumed"),
    Fault("T21", "a running mean is lost on resuming", "training.py",
          'history.records, sums.__dict__ = record["history"], record["sums"]', 'history.records = record["history"]',
          "test_training.py -k resumed"),
    Fault("T21", "resuming repeats a step", "training.py",
          '    return record["step"]\n', '    return record["step"] - 1\n', "test_training.py -k resum"),
    Fault("T21", "a state of other settings is taken", "training.py",
          "    if changed:\n", "    if False:\n", "test_training.py -k another_setting"),
    Fault("T22", "BatchNorm in place of GroupNorm", "networks.py",
          "[nn.GroupNorm(math.gcd(groups, channels), channels)]", "[nn.BatchNorm2d(channels)]", "test_networks.py"),
    Fault("T26", "slerp is lerp", "latent.py",
          "return torch.where(torch.sin(angle) > 1e-4, direction * lerp(length_a, length_b, t), straight)",
          "return straight", "test_latent.py -k slerp"),
    Fault("T26", "slerp divides by zero where there is no circle", "latent.py",
          "torch.where(torch.sin(angle) > 1e-4, direction * lerp(length_a, length_b, t), straight)",
          "direction * lerp(length_a, length_b, t)", "test_latent.py -k slerp"),
    Fault("T27", "importance weights underflow", "objectives.py",
          "    value = torch.logsumexp(weights, dim=0) - math.log(k)", "    value = weights.exp().mean(0).log()",
          "test_linear_gaussian.py -k tiny_weights"),
    Fault("T29", "the objective counts its calls", "objectives.py",
          "        return self.price(terms, step) -",
          '        object.__setattr__(self, "warmup", self.warmup + 1)\n        return self.price(terms, step) -',
          "test_objectives.py"),
    Fault("T30", "log q loses its constant, log p keeps it", "distributions.py",
          "(squared + self.log_variance + LOG_2PI)", "(squared + self.log_variance)", "test_distributions.py -k log_prob"),
    Fault("T30", "log p loses its constant, log q keeps it", "distributions.py",
          "-0.5 * (full_precision(z) ** 2 + LOG_2PI)", "-0.5 * full_precision(z) ** 2", "test_distributions.py -k prior"),
    # -- mistakes of one's own ------------------------------------------------------------------------------------
    Fault("", "the KL is rewarded", "objectives.py",
          "return self.price(terms, step) -", "return -self.price(terms, step) -", "test_objectives.py"),
    Fault("", "the ELBO adds the KL", "objectives.py",
          "return self.reconstruction - self.kl", "return self.reconstruction + self.kl", "test_objectives.py"),
    Fault("", "the KL misses its ½", "distributions.py",
          "return 0.5 * (self.mean**2", "return (self.mean**2", "test_distributions.py -k kl"),
    Fault("", "the KL misses its −1", "distributions.py",
          "+ self.variance - 1 -", "+ self.variance -", "test_distributions.py -k kl"),
    Fault("", "log σ² is taken for log σ", "distributions.py",
          "return (0.5 * self.log_variance).exp()", "return self.log_variance.exp()", "test_distributions.py"),
    Fault("", "log σ² is taken for σ", "distributions.py",
          "return (0.5 * self.log_variance).exp()", "return self.log_variance", "test_distributions.py"),
    Fault("", "one ε for the whole batch", "distributions.py",
          "torch.randn((*leading, *like.shape),", "torch.randn((*leading, 1, *like.shape[1:]),", "test_distributions.py"),
    Fault("", "one ε for all coordinates", "distributions.py",
          "torch.randn((*leading, *like.shape),", "torch.randn((*leading, *like.shape[:-1], 1),", "test_distributions.py"),
    Fault("", "the noise takes no part in the gradient of σ", "distributions.py",
          "return self.mean + self.std * noise", "return self.mean + self.std.detach() * noise",
          "test_distributions.py -k gradient"),
    Fault("", "sampling ignores the generator", "distributions.py",
          "generator=generator, device=like.device", "device=like.device", "test_distributions.py"),
    Fault("", "IWAE forgets − log k", "objectives.py",
          "value = torch.logsumexp(log_weights(model, x, k, generator), dim=0) - math.log(k)",
          "value = torch.logsumexp(log_weights(model, x, k, generator), dim=0)", "test_linear_gaussian.py -k iwae"),
    Fault("", "importance weights forget the prior", "objectives.py",
          " + model.prior.log_prob(z)", "", "test_linear_gaussian.py -k log_weights"),
    Fault("", "free bits per picture, not per batch", "objectives.py",
          "average.clamp(min=self.free_bits).sum()",
          "terms.kl_per_dimension.clamp(min=self.free_bits).sum(1).mean()", "test_objectives.py -k free_bits"),
    Fault("", "free bits leak a gradient below the floor", "objectives.py",
          "average.clamp(min=self.free_bits).sum()",
          "(average + (self.free_bits - average).clamp(min=0).detach()).sum()", "test_objectives.py -k free_bits"),
    Fault("", "capacity forgets the absolute value", "objectives.py",
          "self.progress(step)).abs().mean()", "self.progress(step)).mean()", "test_objectives.py -k capacity"),
    Fault("", "the warm-up never ends", "objectives.py",
          "min(1.0, step / self.warmup)", "step / self.warmup", "test_objectives.py"),
    Fault("", "β is ignored", "objectives.py",
          "return self.beta * self.progress(step) * terms.kl", "return self.progress(step) * terms.kl", "test_objectives.py"),
    Fault("", "white has no open tail", "distributions.py",
          "torch.where(x > 1 - half_bin, F.logsigmoid(-lower), log_bin)", "log_bin", "test_distributions.py -k logistic"),
    Fault("", "the discretised logistic cancels in the tails", "distributions.py",
          "inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + width",
          "inside = torch.log(torch.sigmoid(upper) - torch.sigmoid(lower))", "test_distributions.py -k logistic"),
    Fault("", "the picture's scale has no gradient", "models.py",
          "return self.likelihood(output.reshape", "return self.likelihood(output.detach().reshape",
          "test_training.py -k one_would_write"),
    Fault("", "a prior of one's own is priced as N(0, I)", "models.py",
          "if isinstance(self.prior, StandardNormal):", "if True:", "test_models.py -k prior"),
    Fault("", "the moving average forgets instead of keeping", "training.py",
          "parameters, 1 - decay)", "parameters, decay)", "test_training.py -k one_would_write"),
    Fault("", "the moving average keeps its random start", "training.py",
          "        decay = min(decay, (1 + step) / (10 + step))\n", "", "test_training.py -k one_would_write"),
    Fault("", "the moving average is made and never used", "training.py",
          "parameter.copy_(average.get(name, parameter))", "pass", "test_training.py -k one_would_write"),
    Fault("", "the noise is not seeded", "training.py",
          '            noise.manual_seed(stream(seed, "noise", step, accelerator.process_index))\n', "",
          "test_training.py -k 'one_would_write or resumed'"),
    Fault("", "the noise of every step is the same", "training.py",
          'stream(seed, "noise", step, accelerator', 'stream(seed, "noise", 0, accelerator',
          "test_training.py -k one_would_write"),
    Fault("", "dropout is not seeded", "training.py",
          '            seed_dropout(stream(seed, "dropout", step, accelerator.process_index))\n', "",
          "test_training.py -k dropout"),
    Fault("", "gradients add up over steps", "training.py",
          "            optimizer.zero_grad()\n", "", "test_training.py -k 'one_would_write or left_by'"),
    Fault("", "the learning rate stays as it was", "training.py",
          "learning_rate * cosine(step, steps)", "learning_rate", "test_training.py -k one_would_write"),
    Fault("", "the objective is not told the step", "training.py",
          "loss = objective(terms, step)", "loss = objective(terms, None)", "test_training.py -k 'setting_matters or warmup'"),
    Fault("", "training goes on after a NaN", "training.py",
          "if not math.isfinite(figures[0] + figures[3]):", "if False:", "test_training.py -k not_a_number"),
    Fault("", "only the loss is watched, not its gradient", "training.py",
          "isfinite(figures[0] + figures[3])", "isfinite(figures[0])", "test_training.py -k not_a_number"),
    Fault("", "a stop writes no state", "training.py",
          "                store(step)\n                raise", "                raise", "test_training.py -k not_a_number"),
    Fault("", "a batch begins where the last one did", "training.py",
          "self.order[position * self.size : (position + 1) * self.size]", "self.order[: self.size]",
          "test_training.py -k one_would_write"),
    Fault("", "a file is written in place", "storage.py",
          'aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")', "aside = path", "test_storage.py"),
    Fault("", "a half-written file is left lying about", "storage.py",
          "            aside.unlink()\n", "            pass\n", "test_storage.py"),
    Fault("", "a loaded model is in training mode", "models.py",
          "return model.eval()", "return model", "test_models.py -k save"),
    Fault("", "saving in half precision does not", "models.py",
          "storage.to_half(tensors) if half else tensors", "tensors", "test_models.py -k save"),
    Fault("", "a decoder starts with a checkerboard", "networks.py",
          "        equal_phases(up)\n", "", "test_networks.py -k checkerboard"),
    Fault("", "active units of sampled codes", "latent.py",
          "return torch.cat(in_batches(model, pictures, model.code))",
          "return torch.cat(in_batches(model, pictures, lambda x: model.encode(x).sample()))", "test_latent.py -k 'codes or unit'"),
    Fault("", "the best σ of the mean code, not of the sampled one", "latent.py",
          "z = q.sample(noise) if isinstance(q, DiagonalGaussian) else q", "z = model.code(x)", "test_latent.py -k sigma"),
    Fault("", "Bhattacharyya with ¼ for ⅛", "latent.py",
          "(8 * log_middle.exp())", "(4 * log_middle.exp())", "test_latent.py -k overlap"),
    Fault("", "Bhattacharyya forgets the variances", "latent.py",
          " + 0.5 * (log_middle - 0.5 * (log_a + log_b))", "", "test_latent.py -k overlap"),
    Fault("T25", "a Fréchet distance from fewer pictures than dimensions", "metrics.py",
          "if min(len(features), len(others)) <= features.shape[1]:", "if False:", "test_metrics.py -k refuses"),
    Fault("T25", "a Fréchet distance forgets how many pictures it saw", "metrics.py",
          "+ spread), len(a), len(b))", "+ spread), len(a), len(a))", "test_metrics.py -k closed"),
    Fault("", "the Fréchet distance takes the spreads as if they were aligned", "metrics.py",
          "overlap = torch.linalg.eigvals(covariances).real.clamp(min=0).sqrt().sum()",
          "overlap = (torch.cov(a.T).diag() * torch.cov(b.T).diag()).sqrt().sum()", "test_metrics.py -k closed"),
    Fault("", "coherence takes its threshold from the wrong end", "metrics.py",
          ".quantile(quantile))", ".quantile(1 - quantile))", "test_metrics.py -k coherence"),
    Fault("", "a resumed convolution works on moments laid out otherwise", "training.py",
          "torch.empty_like(parameter).copy_(value)", "value", "test_training.py -k convolutions"),
]  # fmt: skip

LATER = {
    "T3": "comes with total correlation (β-TCVAE)",
    "T5": "comes with the perceptual loss (autoencoder_kl.py)",
    "T18": "comes with the latent's scale (autoencoder_kl.py)",
    "T23": "comes with DeepSMOTE (augmentation.py)",
    "T24": "comes with resampling (augmentation.py)",
    "T28": "comes with tiling (autoencoder_kl.py)",
}


def copy_tree(folder):
    """The library and its tests, nothing else, in `folder`."""
    for name in ("vaelab", "tests"):
        skip = shutil.ignore_patterns("__pycache__", "checkpoints", "fonts", "book")
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def child(folder, tests):
    """Runs pytest on one file of the copy, in a process of its own, which has the heavy imports already."""
    import pytest

    name, _, chosen = tests.partition(" -k ")
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"tests/{name}"]
    sys.exit(int(pytest.main(options + (["-k", chosen.strip("'")] if chosen else []))))


def run_tests(folder, tests):
    """pytest on one file of the copy; its exit status and output."""
    process = PROCESSES.Process(target=child, args=(folder, tests))
    process.start()
    process.join()
    return process.exitcode, (folder / "output.txt").read_text()


def try_fault(fault, folder):
    """Plants a fault, runs its tests, takes it out again; what caught it, or None and why."""
    path = folder / "vaelab" / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        return None, f"STALE: the text is there {text.count(fault.old)} times"
    path.write_text(text.replace(fault.old, fault.new))
    try:
        status, output = run_tests(folder, fault.tests)
    finally:
        path.write_text(text)
    caught = re.search(r"^FAILED \S+?::(.+?)(?: - .*)?$", output, re.MULTILINE)
    if status == 1 and caught:
        return caught[1], ""
    return None, "SURVIVED" if status == 0 else f"the tests could not run (pytest's exit status {status})"


def main(words=()):
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    if PROCESSES.get_start_method() == "forkserver":
        PROCESSES.set_forkserver_preload(PRELOAD)
    chosen = [f for f in FAULTS if not words or any(word in (f.trap, *f.what.split()) for word in words)]
    with tempfile.TemporaryDirectory() as temporary:
        folders = Queue()
        for worker in range(WORKERS):
            folders.put(copy_tree(Path(temporary) / str(worker)))

        def attempt(fault):
            folder = folders.get()
            try:
                return try_fault(fault, folder)
            finally:
                folders.put(folder)

        with ThreadPoolExecutor(WORKERS) as pool:
            failed = 0
            for fault, (caught, why) in zip(chosen, pool.map(attempt, chosen), strict=True):
                failed += caught is None
                print(f"{fault.trap:4} {fault.what:66} {caught or why}", flush=True)
    if not words:
        for trap, when in LATER.items():
            print(f"{trap:4} not yet: {when}")
    print(f"{len(chosen) - failed} of {len(chosen)} faults caught.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
