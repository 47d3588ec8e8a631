"""``pnp-ros train-pnpnet``: trains the network that guides robust PnP, on synthetic correspondences."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--minutes", type=float, default=20.0, help="training time (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of problems and initial weights (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Trains and writes the weights; a line of progress every ten seconds. Repeated, it goes on where it was."""
    import torch

    from pnp_ros.solvers.pnp_net import LikelihoodNetwork
    from pnp_ros.training import pnp_net_trainer

    config = pnp_net_trainer.PnPNetTrainingConfig(minutes=args.minutes, seed=args.seed, device=args.device)
    torch.manual_seed(config.seed)
    network = LikelihoodNetwork()
    checkpoint = args.out.with_suffix(".checkpoint")
    for progress in pnp_net_trainer.train(network, config, checkpoint=checkpoint):
        print(
            f"{progress.elapsed / 60:5.1f} min  step {progress.step:6d}  loss {progress.loss:6.3f}"
            f"  points judged rightly {progress.inlier_accuracy:6.2%}  drawn rightly {progress.drawn_right:6.2%}",
            flush=True,
        )
    pnp_net_trainer.save(network, args.out)
    checkpoint.unlink(missing_ok=True)
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.2f} MB)")
    return 0
