"""Inference over a volume: ResNet-50 (stride-1 stem) and SCSE U-Net, slice by slice, 256x256.

Compares 64 slices at a time, as the published evaluation does, with chunks through the prepared network (batch norm
folded, channels last). Time: both in one process, in turn, median of the ratios. Memory: a process each, highest
resident memory of the pass above what was resident before it.

    OMP_NUM_THREADS=1 python benchmarks/bench_volume.py
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from medkit_smartnet.scse_unet import ScseUNet
from torch import Tensor, nn

from medkit.objectives.common import in_chunks
from medkit.parts.encoders import TimmEncoder
from medkit.parts.inference import prepare_for_inference


def network() -> nn.Module:
    torch.manual_seed(0)
    encoder = TimmEncoder("resnet50", stem_stride=1)
    return nn.Sequential(encoder, ScseUNet(encoder.channels, encoder.strides)).eval()


def volume(depth: int, size: int) -> Tensor:
    return torch.rand(depth, 1, size, size, generator=torch.Generator().manual_seed(1))


def prepared(size: int) -> nn.Module:
    return prepare_for_inference(network(), lambda m: m(volume(1, size)))


@torch.inference_mode()
def seconds(net: nn.Module, slices: Tensor, chunk: int) -> tuple[float, Tensor]:
    start = time.perf_counter()
    result = in_chunks(net, slices, chunk)
    return time.perf_counter() - start, result


def times(depth: int, size: int, chunk: int, rounds: int) -> dict[str, object]:
    plain, ready, slices = network(), prepared(size), volume(depth, size)
    seconds(plain, slices[:1], 64), seconds(ready, slices[:chunk], chunk)
    ratios, a, b = [], [], []
    for turn in range(rounds):
        order = [(plain, 64, a), (ready, chunk, b)]
        results = {}
        for net, at_once, found in order if turn % 2 == 0 else order[::-1]:
            took, results[at_once] = seconds(net, slices, at_once)
            found.append(took)
        ratios.append(a[-1] / b[-1])
    scale = float(results[64].std())
    error = float((results[64] - results[chunk]).abs().max()) / scale
    low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    return {
        "depth": depth,
        "chunk": chunk,
        "plain_s": round(statistics.median(a), 2),
        "prepared_s": round(statistics.median(b), 2),
        "speedup": round(middle, 2),
        "quartiles": [round(low, 2), round(high, 2)],
        "relative_error": error,
    }


def resident(peak: bool) -> int:
    """Resident memory in bytes, now or at its highest since :func:`forget_peak`."""
    key = "VmHWM" if peak else "VmRSS"
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key)) * 1024


def forget_peak() -> None:
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def memory(way: str, depth: int, size: int, chunk: int) -> float:
    """Peak of one pass in MB, in this process."""
    net = network() if way == "plain" else prepared(size)
    slices = volume(depth, size)
    seconds(net, volume(1, 32), 1)  # libraries set themselves up
    before = resident(peak=False)
    forget_peak()
    seconds(net, slices, 64 if way == "plain" else chunk)
    return (resident(peak=True) - before) / 1e6


def memory_in_child(way: str, depth: int, size: int, chunk: int) -> float:
    command = [
        sys.executable,
        __file__,
        "--memory",
        way,
        "--depth",
        str(depth),
        "--size",
        str(size),
        "--chunk",
        str(chunk),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=8, help="slices of the timed volume")
    parser.add_argument("--memory-depth", type=int, default=28, help="slices of the volume whose memory is measured")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--chunk", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", choices=["plain", "prepared"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(memory(options.memory, options.depth, options.size, options.chunk))
        return
    result = times(options.depth, options.size, options.chunk, options.rounds)
    for way in ("plain", "prepared"):
        result[f"{way}_mb"] = round(memory_in_child(way, options.memory_depth, options.size, options.chunk))
    result["memory_share"] = round(result["prepared_mb"] / result["plain_mb"], 3)  # type: ignore[operator]
    result["threads"], result["torch"] = torch.get_num_threads(), torch.__version__
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
