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
    Fault("T3", "the own posterior stands in a column, not on the diagonal", "aggregate.py",
          "stride = batch + 1 if correct else batch", "stride = batch", "test_aggregate.py -k 'weights or unbiased'"),
    Fault("T3", "a batch is taken for all pictures", "aggregate.py",
          "(log_densities(z, mean, log_variance).sum(2) + weights.log()).logsumexp(1)",
          "log_aggregate(z, mean, log_variance)", "test_aggregate.py -k unbiased"),
    Fault("T3", "every posterior of a batch weighs 1 / (n · batch)", "aggregate.py",
          "    weights[-1 if correct else batch - 2, 0] = rest\n", "    weights[:] = 1 / (n * batch)\n",
          "test_aggregate.py -k unbiased"),
    Fault("T3", "z and posteriors change places in a batch", "aggregate.py",
          "log_densities(z, mean, log_variance).sum(2) + weights", "log_densities(z, mean, log_variance).sum(2).T + weights",
          "test_aggregate.py -k unbiased"),
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
    Fault("T9", "a path goes between sampled codes", "latent.py",
          "z = codes(model, torch.stack([a, b]))",
          "z = torch.cat(in_batches(model, torch.stack([a, b]), lambda x: model.encode(x).sample()))",
          "test_latent.py -k round_trips_and"),
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
    Fault("T14", "a mixture's draws have a covariance for its Cholesky factor", "aggregate.py",
          "np.linalg.cholesky(found.covariances_)", "found.covariances_", "test_aggregate.py -k moments"),
    Fault("T14", "a mixture's draws take the factor's transpose", "aggregate.py",
          "(factors[chosen] @ noise)", "(factors[chosen].mT @ noise)", "test_aggregate.py -k moments"),
    Fault("T14", "a mixture's draws ignore the weights", "aggregate.py",
          "torch.multinomial(weights, n,", "torch.multinomial(torch.ones_like(weights), n,", "test_aggregate.py -k moments"),
    Fault("T14", "all draws of a mixture come from one component", "aggregate.py",
          "torch.multinomial(weights, n,", "torch.multinomial(weights, 1,", "test_aggregate.py -k moments"),
    Fault("T14", "a mixture's density ignores the weights", "aggregate.py",
          "weights.log()).logsumexp(-1)", "weights.mean().log()).logsumexp(-1)", "test_aggregate.py -k scikit"),
    Fault("T14", "the number of components is chosen on codes that were fitted", "aggregate.py",
          "fitted(count, rest).score(held_out)", "fitted(count, points).score(held_out)", "test_aggregate.py -k left_out"),
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
    # -- metrics
    Fault("", "Wilson's interval is centred on the share", "metrics.py",
          "middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)", "middle = share", "test_metrics.py -k wilson"),
    Fault("", "an interval of a share is a point at 0", "metrics.py",
          "(share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5", "(share * (1 - share) / n) ** 0.5",
          "test_metrics.py -k wilson"),
    Fault("", "Wilson's bounds are one-sided", "metrics.py",
          "inv_cdf(0.5 + confidence / 2)", "inv_cdf(confidence)", "test_metrics.py -k wilson"),
    Fault("T25", "the Fréchet distance is followed along N, not 1/N", "metrics.py",
          "np.polyfit(1 / np.array(sizes), values, 1)", "np.polyfit(np.array(sizes), values, 1)",
          "test_metrics.py -k 'line or bias'"),
    Fault("T25", "only one side of a Fréchet distance is cut to N", "metrics.py",
          "(subset(features, n, random), subset(others, n, random))", "(subset(features, n, random), others)",
          "test_metrics.py -k limit"),
    Fault("", "a subset is drawn with replacement", "metrics.py",
          "torch.randperm(len(features), generator=random)[:n]", "torch.randint(len(features), (n,), generator=random)",
          "test_metrics.py -k unbiased"),
    Fault("", "a picture is compared with itself in MMD²", "metrics.py",
          "(k.sum() - k.trace()) / (len(k) * (len(k) - 1))", "k.mean()", "test_metrics.py -k unbiased"),
    Fault("", "MMD² leaves the diagonal out and divides by n²", "metrics.py",
          "(len(k) * (len(k) - 1))", "len(k) ** 2", "test_metrics.py -k unbiased"),
    Fault("", "KID's kernel is not divided by the dimensions", "metrics.py",
          "(x @ y.T / x.shape[1] + 1) ** 3", "(x @ y.T + 1) ** 3", "test_metrics.py -k by_hand"),
    Fault("", "KID's error is the spread of its subsets", "metrics.py",
          "float(np.std(values, ddof=1) / subsets**0.5)", "float(np.std(values, ddof=1))", "test_metrics.py -k unbiased"),
    Fault("", "KID's subsets share pictures", "metrics.py",
          "subset(side.double(), subsets * size, random).split(size)",
          "[subset(side.double(), size, random) for _ in range(subsets)]", "test_metrics.py -k unbiased"),
    Fault("", "an MMD's p-value can be 0", "metrics.py",
          "(1 + at_least) / (1 + permutations)", "at_least / permutations", "test_metrics.py -k p_value"),
    Fault("", "an MMD's p-value counts from the other end", "metrics.py",
          "other >= seen", "other <= seen", "test_metrics.py -k p_value"),
    Fault("", "the median distance counts a point's distance to itself", "metrics.py",
          "distances[*torch.triu_indices(len(both), len(both), 1)].median()", "distances.median()", "test_metrics.py -k median"),
    Fault("", "MMD's kernel misses its ½", "metrics.py",
          "(2 * bandwidth**2)", "bandwidth**2", "test_metrics.py -k closed_form_for_two"),
    Fault("", "the k nearest count the picture itself", "metrics.py",
          "kthvalue(k + 1)", "kthvalue(k)", "test_metrics.py -k definitions"),
    Fault("", "precision and recall change places", "metrics.py",
          "by_real.any(0), by_made.any(1)", "by_made.any(1), by_real.any(0)", "test_metrics.py -k definitions"),
    Fault("", "coverage is recall once more", "metrics.py",
          "/ k, by_real.any(1)", "/ k, by_made.any(1)", "test_metrics.py -k stray"),
    Fault("", "density forgets k", "metrics.py",
          "by_real.sum(0) / k", "by_real.sum(0)", "test_metrics.py -k clouds"),
    Fault("", "the judge is judged on what it learned", "metrics.py",
          "judge.score(features[~learned], truth[~learned])", "judge.score(features[learned], truth[learned])",
          "test_metrics.py -k chance"),
    Fault("", "the judge's interval counts the pictures that it learned", "metrics.py",
          "wilson(right, (~learned).sum())", "wilson(right, 2 * n)", "test_metrics.py -k chance"),
    Fault("", "the judge sees each side centred by itself", "metrics.py",
          "(features - features.mean(0))", "(features - features.reshape(2, n, -1).mean(1).repeat_interleave(n, 0))",
          "test_metrics.py -k shift"),
    Fault("", "a copy is not at distance 0", "metrics.py",
          "(features - reference[index]).norm(dim=1)", "torch.cdist(features, reference).amin(1)",
          "test_metrics.py -k copy"),
    Fault("", "the nearest distance is squared", "metrics.py",
          "(features - reference[index]).norm(dim=1)", "(features - reference[index]).square().sum(1)",
          "test_metrics.py -k nearest"),
    Fault("", "a jump is measured on the mean step, which jumps raise", "metrics.py",
          "(steps > 3 * middle)", "(steps > 3 * mean[:, None])", "test_metrics.py -k smoothness"),
    Fault("", "the ratio of a path takes the median step", "metrics.py",
          "steps.amax(1) / mean", "steps.amax(1) / middle[:, 0]", "test_metrics.py -k smoothness"),
    Fault("", "a path strays on average, not at worst", "metrics.py",
          ".reshape(paths.shape[:2]).amax(1)", ".reshape(paths.shape[:2]).mean(1)", "test_metrics.py -k smoothness"),
    # -- novelty
    Fault("", "a thumbprint keeps the brightness", "novelty.py",
          "brightness -= brightness.mean(", "brightness = brightness - brightness.mean(", "test_novelty.py -k thumbprints"),
    Fault("", "a thumbprint's contrast is the batch's", "novelty.py",
          "brightness.std((2, 3), keepdim=True)", "brightness.std()", "test_novelty.py -k thumbprints"),
    Fault("", "a thumbnail picks pixels instead of averaging", "novelty.py",
          '(SIZE, SIZE), mode="bilinear", antialias=True)', '(SIZE, SIZE), mode="bilinear")',
          "test_novelty.py -k thumbprints"),
    Fault("", "copies are not in step with their sources", "novelty.py",
          "return torch.cat(copies), sources", "return torch.cat(copies), sources.sort().values", "test_novelty.py -k even_over"),
    Fault("", "a copy gets every edit", "novelty.py",
          "generator=random)[:count]", "generator=random)", "test_novelty.py -k one_or_two"),
    Fault("", "copies leave [0, 1]", "novelty.py",
          "random).clamp(0, 1)", "random)", "test_novelty.py -k even_over"),
    Fault("", "the strength of an edit is not seeded", "novelty.py",
          "float(torch.rand(1, generator=random))", "float(torch.rand(1))", "test_novelty.py -k even_over"),
    Fault("", "the threshold for copies is a quantile without its confidence", "novelty.py",
          "int(binom.ppf(0.05, len(distances), false_alarms))", "round(false_alarms * len(distances))",
          "test_novelty.py -k 'promise and not too_few'"),
    Fault("", "the threshold for copies comes from the far end", "novelty.py",
          "distances[place - 1]", "distances[-place]", "test_novelty.py -k 'promise and not too_few'"),
    Fault("", "the threshold for copies is one place late", "novelty.py",
          "distances[place - 1]", "distances[place]", "test_novelty.py -k 'promise and not too_few'"),
    Fault("", "a picture is its own duplicate", "novelty.py",
          ".triu(1).nonzero()", ".triu().nonzero()", "test_novelty.py -k duplicates"),
    Fault("", "each pair of duplicates comes twice", "novelty.py",
          ".triu(1).nonzero()", ".fill_diagonal_(False).nonzero()", "test_novelty.py -k duplicates"),
    Fault("", "novelty's two references differ in size", "novelty.py",
          "    distances = [torch.cdist(judged, side) for side in (training[kept], subset(held_out, size, random))]\n",
          "    size = max(len(training), len(held_out))\n"
          "    distances = [\n"
          "        torch.nn.functional.pad(torch.cdist(judged, side), (0, size - len(side)), value=math.inf)\n"
          "        for side in (training, held_out)\n"
          "    ]\n", "test_novelty.py -k whatever"),
    Fault("", "the ratio of novelty is upside down", "novelty.py",
          "(near / far)", "(far / near)", "test_novelty.py -k told_from"),
    Fault("", "novelty judges copies whose originals were cut away", "novelty.py",
          "judged = made[torch.isin(sources, kept).any(1)]", "judged = made", "test_novelty.py -k many_more"),
    Fault("", "the ratio of novelty is a mean, not a median", "novelty.py",
          ".median().log()", ".mean().log()", "test_novelty.py -k whatever"),
    Fault("", "a jackknife without its factor", "novelty.py",
          "math.sqrt((GROUPS - 1) * np.var(", "math.sqrt(np.var(", "test_novelty.py -k whatever"),
    Fault("", "the own source is the first of several only", "novelty.py",
          "(index[:, None] == sources).any(1)", "(index == sources[:, 0])", "test_novelty.py -k own_source"),
    Fault("", "chance is 1/N whoever is popular", "novelty.py",
          "chance = float(used[0] @ used[1])", "chance = sources.shape[1] / len(training)", "test_novelty.py -k own_source"),
    Fault("", "a source that comes twice doubles the chance", "novelty.py",
          "for v in (index, once)]", "for v in (index, sources.flatten())]", "test_novelty.py -k own_source"),
    Fault("", "twins are counted as pairs", "novelty.py",
          "len(duplicates(made, test.threshold).unique())", "len(duplicates(made, test.threshold))",
          "test_novelty.py -k twins"),
    Fault("", "a high ELBO says that a picture is new", "novelty.py",
          "(known[:, None] > new).double()", "(known[:, None] < new).double()", "test_novelty.py -k gives_its"),
    Fault("", "members are asked for their reconstruction alone", "novelty.py",
          "generator=random).value)", "generator=random).reconstruction)", "test_novelty.py -k curve"),
    Fault("", "ties count for nothing in the AUC", "novelty.py",
          "0.5 * (known[:, None] == new)", "0.0 * (known[:, None] == new)", "test_novelty.py -k ties"),
    Fault("", "the AUC's error forgets the held-out pictures", "novelty.py",
          " + above.mean(0).var() / len(new)", "", "test_novelty.py -k interval"),
    # -- aggregate
    Fault("", "log q(z) is the mean of the logs", "aggregate.py",
          "each.sum(2).logsumexp(1) - math.log(len(mean))", "each.sum(2).mean(1)", "test_aggregate.py -k log_aggregate"),
    Fault("", "q(z) underflows far out", "aggregate.py",
          "each.sum(2).logsumexp(1) - math.log(len(mean))", "each.sum(2).exp().mean(1).log()",
          "test_aggregate.py -k log_aggregate"),
    Fault("", "Π q(z_i) loses log N once for all coordinates", "aggregate.py",
          "(each.logsumexp(1) - math.log(len(mean))).sum(1)", "each.logsumexp(1).sum(1) - math.log(len(mean))",
          "test_aggregate.py -k is_gaussian"),
    Fault("", "total correlation has the other sign", "aggregate.py",
          "joint - apart, apart", "apart - joint, apart", "test_aggregate.py -k is_gaussian"),
    Fault("", "the error of a part takes the pictures for chance", "aggregate.py",
          "terms.var(1).mean(1)", "terms.var((1, 2))", "test_aggregate.py -k standard_errors"),
    Fault("", "draws and pictures change places in the parts of the KL", "aggregate.py",
          "(v.reshape(samples, -1) for v", "(v.reshape(-1, samples).T for v", "test_aggregate.py -k standard_errors"),
    # -- preservation
    Fault("", "a share's difference is real minus made", "preservation.py",
          "Shares(a, b, b - a, low, high)", "Shares(a, b, a - b, low, high)", "test_preservation.py -k stands_out"),
    Fault("", "Newcombe's interval takes the outer bounds for the inner ones", "preservation.py",
          "low = b - a - ((b - low_b).square() + (high_a - a).square())",
          "low = b - a - ((high_b - b).square() + (a - low_a).square())", "test_preservation.py -k newcombe"),
    Fault("", "many words, each at 95 %", "preservation.py",
          "confidence = 1 - 0.05 / words", "confidence = 0.95", "test_preservation.py -k newcombe"),
    Fault("", "both shares are held for as sure as the real one", "preservation.py",
          "wilson(share, len(table), confidence)", "wilson(share, len(real), confidence)", "test_preservation.py -k newcombe"),
    Fault("", "Cramér's V keeps its bias", "preservation.py",
          " - (r - 1) * (c - 1) / (n - 1)", "", "test_preservation.py -k scipy"),
    Fault("", "Cramér's V corrects the bias above and not below", "preservation.py",
          "(min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1)", "(min(r, c) - 1)",
          "test_preservation.py -k scipy"),
    Fault("", "a bootstrap draws the two properties apart", "preservation.py",
          "random.choice(side, len(side))",
          "np.stack([random.choice(column, len(side)) for column in side.T], 1)", "test_preservation.py -k intervals"),
    Fault("", "the difference of associations is real minus made", "preservation.py",
          "every[:, 1] - every[:, 0]", "every[:, 0] - every[:, 1]", "test_preservation.py -k came_apart"),
    # -- the latent space
    Fault("", "a path stops before its end", "latent.py",
          "torch.linspace(0, 1, steps, device=z.device))", "torch.arange(steps, device=z.device) / steps)",
          "test_latent.py -k round_trips_and"),
    Fault("", "a spatial code turns row by row", "latent.py",
          "way(*z.flatten(1),", "way(*z,", "test_latent.py -k spatial"),
    Fault("", "sources are drawn with replacement", "latent.py",
          "torch.randperm(total, generator=generator) for _", "torch.randint(total, (total,), generator=generator) for _",
          "test_latent.py -k evenly"),
    Fault("", "the first pictures are always the sources", "latent.py",
          "torch.randperm(total, generator=generator) for _", "torch.arange(total) for _", "test_latent.py -k evenly"),
    Fault("", "neighbours are not in step with their sources", "latent.py",
          "z = z[sources.to(z.device)]", "z = z[sources.sort().values.to(z.device)]", "test_latent.py -k evenly"),
    Fault("", "one noise for all neighbours", "latent.py",
          "torch.randn(z.shape, generator=random)", "torch.randn(z.shape[1:], generator=random)", "test_latent.py -k units"),
    Fault("", "the noise of neighbours is even, not normal", "latent.py",
          "torch.randn(z.shape, generator=random)", "torch.rand(z.shape, generator=random)", "test_latent.py -k units"),
    Fault("", "a direction is taken from all, not from the rest", "latent.py",
          "codes[mask].mean(0) - codes[~mask].mean(0)", "codes[mask].mean(0) - codes.mean(0)", "test_latent.py -k with_minus"),
    Fault("", "a mask is taken for indices", "latent.py",
          "torch.as_tensor(mask, dtype=torch.bool, device=codes.device)",
          "torch.as_tensor(mask, device=codes.device).long()", "test_latent.py -k with_minus"),
    Fault("", "a path's length is its energy", "latent.py",
          "diff(dim=0).norm(dim=1).sum())", "diff(dim=0).square().sum())", "test_latent.py -k length_of"),
    Fault("", "a path's length is that of its codes", "latent.py",
          "float(decode(path).flatten(1)", "float(path.flatten(1)", "test_latent.py -k length_of"),
    Fault("", "a geodesic minimises the length, so that its points bunch", "latent.py",
          "value = seen.flatten(1).diff(dim=0).square().sum()", "value = seen.flatten(1).diff(dim=0).norm(dim=1).sum()",
          "test_latent.py -k 'geodesic and one_sees'"),
    Fault("", "a geodesic leaves gradients in the model", "latent.py",
          "        (between.grad,) = torch.autograd.grad(value, between)",
          "        optimizer.zero_grad()\n        value.backward()", "test_latent.py -k one_sees"),
    Fault("", "a geodesic measures pixels whatever was asked", "latent.py",
          "seen = pictures if features is None else features(pictures)", "seen = pictures", "test_latent.py -k globe"),
    Fault("", "a geodesic is sought under dropout", "latent.py",
          "    model.eval()\n    optimizer.step(energy)\n", "    optimizer.step(energy)\n", "test_latent.py -k dropout"),
    # -- blend
    Fault("", "the last crossing, not the first", "blend.py",
          "first = int(reached[0])", "first = int(np.append(-1, np.flatnonzero(surplus < 0))[-1]) + 1",
          "test_blend.py -k first_of_several"),
    Fault("", "steps count from 0", "blend.py",
          "float(first + before / (before - there))", "float(first - 1 + before / (before - there))",
          "test_blend.py -k two_steps"),
    Fault("", "the point lies on the other side between two steps", "blend.py",
          "before / (before - there)", "there / (there - before)", "test_blend.py -k two_steps"),
    Fault("", "balance weighs the wrong end", "blend.py",
          "balance * campaign - (1 - balance) * brand", "(1 - balance) * campaign - balance * brand",
          "test_blend.py -k monotonically"),
    Fault("", "a replicate that never crosses is forgotten", "blend.py",
          "np.clip([first_crossing(row) for row in surplus], 1, steps)",
          "np.array([c for c in map(first_crossing, surplus) if np.isfinite(c)])", "test_blend.py -k nearer_end"),
    Fault("", "missing values count as 0", "blend.py",
          "surplus[np.isfinite(surplus).all(1)]", "np.nan_to_num(surplus)", "test_blend.py -k missing"),
    Fault("", "nearness is a share of the path, not of its ends", "blend.py",
          "apart = distance[-2, 1]", "apart = distance[0, 1]", "test_blend.py -k apart"),
    Fault("", "patches are drawn and then ignored", "blend.py",
          "** 2).mean(-1) @ weights)", "** 2).mean((-2, -1)))", "test_blend.py -k drawn_patches"),
    Fault("", "replicates weigh all patches alike", "blend.py",
          "random.multinomial(patches, np.ones(patches) / patches) / patches", "np.ones(patches) / patches",
          "test_blend.py -k with_replacement"),
    Fault("", "nearness goes below 0", "blend.py",
          "np.clip(1 - distance[:-2].T / apart, 0, 1)", "1 - distance[:-2].T / apart", "test_blend.py -k apart"),
    Fault("", "a palette minds where colours stand", "blend.py",
          'if name == "palette":', "if False:", "test_blend.py -k its_own"),
    Fault("", "layout sees brightness", "blend.py",
          "light - light.mean((-2, -1), keepdim=True)", "light", "test_blend.py -k flat_colours"),
    Fault("", "patches and what is measured in them are mixed up", "blend.py",
          "side, cells).permute(0, 2, 4, 1, 3, 5)", "side, cells)", "test_blend.py -k its_own"),
]  # fmt: skip

LATER = {
    "T5": "comes with the perceptual loss (autoencoder_kl.py)",
    "T18": "comes with the latent's scale (autoencoder_kl.py)",
    "T23": "comes with DeepSMOTE (augmentation.py)",
    "T24": "comes with resampling (augmentation.py)",
    "T28": "comes with tiling (autoencoder_kl.py)",
}


def copy_tree(folder):
    """The library and its tests, nothing else, in `folder`."""
    for name in ("vaelab", "tests"):
        skip = shutil.ignore_patterns("__pycache__", "checkpoints", "book")
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
