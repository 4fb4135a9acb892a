"""What PyTorch's _weight_int4pack_mm, and Marlin where it is built, take for int4 linears on a GPU.

    python3 bench/peers/torch_int4.py [--shapes 8192x8192,59392x8192] [--rows 1,2,4,8,16,32,64] [--group 128]

Prints JSON as `billfish bench gemm --json` does, with a `peer` in every result. Needs PyTorch with CUDA; where that is
not present it says so in the same form, with no results. Not tried on a GPU yet.
"""

import argparse
import json
import statistics


def missing(reason):
    print(json.dumps({"present": False, "reason": reason, "results": []}))


def median_seconds(torch, calls, turns):
    """The median time of a call: `turns` calls, taken in turn from `calls`, recorded as a graph."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for turn in range(turns):
            calls[turn % len(calls)]()
    times = []
    for run in range(12):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        if run >= 2:
            times.append(start.elapsed_time(end) / 1000 / turns)
    return statistics.median(times)


def torch_calls(torch, rows, out, inputs, group, copies):
    x = torch.randn(rows, inputs, dtype=torch.bfloat16, device="cuda")
    calls = []
    for _ in range(copies):
        codes = torch.randint(0, 256, (out, inputs // 2), dtype=torch.uint8, device="cuda")
        packed = torch.ops.aten._convert_weight_to_int4pack(codes, 8)
        scales = torch.full((inputs // group, out, 2), 0.01, dtype=torch.bfloat16, device="cuda")
        calls.append(lambda p=packed, s=scales: torch.ops.aten._weight_int4pack_mm(x, p, group, s))
    return calls


def marlin_calls(torch, marlin, rows, out, inputs, group, copies):
    x = torch.randn(rows, inputs, dtype=torch.half, device="cuda")
    y = torch.empty(rows, out, dtype=torch.half, device="cuda")
    workspace = torch.zeros(out // 128 * 16, dtype=torch.int32, device="cuda")
    calls = []
    for _ in range(copies):
        packed = torch.randint(-(2**31), 2**31 - 1, (inputs // 16, out * 2), dtype=torch.int32, device="cuda")
        scales = torch.full((inputs // group, out), 0.01, dtype=torch.half, device="cuda")
        calls.append(lambda p=packed, s=scales: marlin.mul(x, p, y, s, workspace))
    return calls


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", default="8192x8192,10240x8192,59392x8192,8192x29696")
    parser.add_argument("--rows", default="1,2,4,8,16,32,64,128,256,512,1024")
    parser.add_argument("--group", type=int, default=128)
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        return missing("PyTorch is not present")
    if not torch.cuda.is_available():
        return missing("PyTorch finds no CUDA device")
    try:
        import marlin
    except ImportError:
        marlin = None

    properties = torch.cuda.get_device_properties(0)
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    memory_rate = 2 * source.numel() / median_seconds(torch, [lambda: target.copy_(source)], 8)
    del source, target

    results = []
    for shape in options.shapes.split(","):
        out, inputs = (int(number) for number in shape.split("x"))
        weight_bytes = out * inputs // 2 + 2 * out * inputs // options.group
        copies = max(2, 3 * properties.L2_cache_size // weight_bytes + 1)
        for rows in (int(number) for number in options.rows.split(",")):
            peers = {"torch _weight_int4pack_mm": lambda: torch_calls(torch, rows, out, inputs, options.group, copies)}
            if marlin:
                peers["marlin"] = lambda: marlin_calls(torch, marlin, rows, out, inputs, options.group, copies)
            for peer, calls in peers.items():
                seconds = median_seconds(torch, calls(), max(copies, 16))
                moved = weight_bytes + 2 * rows * (out + inputs)
                flops = 2 * rows * out * inputs
                results.append(
                    {
                        "peer": peer,
                        "name": shape,
                        "outs": [out],
                        "in": inputs,
                        "bits": 4,
                        "weights": "4",
                        "rows": rows,
                        "microseconds": seconds * 1e6,
                        "gigabytesPerSecond": moved / seconds / 1e9,
                        "teraflops": flops / seconds / 1e12,
                        "ofMemory": moved / seconds / memory_rate,
                        "flopsPerByte": flops / moved,
                    }
                )
    report = {
        "present": True,
        "device": "cuda:0",
        "machine": properties.name,
        "timesMeanSomething": True,
        "memoryTraffic": "copying",
        "memoryGigabytesPerSecond": memory_rate / 1e9,
        "groupSize": options.group,
        "zeroPoints": False,
        "results": results,
    }
    print(json.dumps(report))


main()
