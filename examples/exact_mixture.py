"""Sample a Gaussian mixture whose denoiser is known exactly, and see what a sampler's evaluations buy.

With an exact denoiser nothing but the sampler errs. For deterministic samplers the error is the distance
from the same noise's own solution (Heun with many steps); for all of them, the distance of the samples'
law from the mixture's is the largest gap between the two distribution functions along the first axis.

    python examples/exact_mixture.py          # some seconds
    python examples/exact_mixture.py --toy
"""

import argparse

import torch

import reverie

SAMPLERS = {"Ancestral(0)": reverie.Ancestral(), "DDIM(0)": reverie.DDIM(), "Heun": reverie.Heun()}


def law_gap(x: torch.Tensor, data: reverie.GaussianMixture) -> float:
    """Kolmogorov's distance along the first axis; about 0.9 / sqrt(n) by chance alone."""
    at = x[:, 0].sort().values
    cdf = torch.special.ndtr((at[:, None] - data.means[:, 0]) / data.stds[:, 0]) @ data.weights
    return float((cdf - (torch.arange(len(at)) + 0.5) / len(at)).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--toy", action="store_true", help="few samples")
    n = 200 if parser.parse_args().toy else 4000

    means = torch.tensor([[1.0, 0.5], [-1.5, -0.5], [0.0, 2.0]], dtype=torch.float64)
    f = reverie.GaussianMixture(reverie.Cosine(), means, stds=torch.tensor([0.3, 0.4, 0.2]))
    start = reverie.prior(f.schedule, 1.0, means.new_empty(n, 2), reverie.streams(range(n)))
    fine = reverie.generate(f, reverie.Heun(), reverie.Uniform(60 if n < 1000 else 600)(f.schedule), start)

    print(f"{'sampler':14}{'steps':>6}{'evaluations':>13}{'error':>12}{'law':>9}")
    for name, sampler in SAMPLERS.items():
        for steps in (5, 10, 20, 40):
            times = reverie.Uniform(steps)(f.schedule)
            x = reverie.generate(f, sampler, times, start, noise=reverie.streams([(i, 1) for i in range(n)]))
            evaluations = 2 * steps - 1 if sampler.order == 2 else steps
            rms = f"{(x - fine).square().mean().sqrt():.2e}" if sampler.deterministic else "-"
            print(f"{name:14}{steps:6}{evaluations:13}{rms:>12}{law_gap(x, f):9.4f}")
    print(f"{'exact draws':45}{law_gap(f.sample(n, torch.Generator().manual_seed(0)), f):9.4f}")


if __name__ == "__main__":
    main()
