"""What every peer written in Python shares: a process that loads a model once and answers lines of JSON.

It first says {"version": ..., "variants": [...], "device": ...}, or {"missing": reason} and ends. To a request
    {"op": "decode", "variant": v, "prompt": [ids], "tokens": n}   n tokens one by one, behind a prompt that is in the cache
    {"op": "prefill", "variant": v, "prompt": [ids]}               a prompt up to its first new token
it answers {"seconds": s, "ids": [...]}, or {"error": reason}. It ends with its stdin. Libraries may print what they like: their
stdout is stderr.
"""
import argparse
import json
import os
import sys
import time


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="directory of a checkpoint")
    parser.add_argument("--context", type=int, required=True, help="most tokens of prompt and reply")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args()


def serve(load):
    """load(arguments) gives an object with version, variants, device, decode(variant, prompt, tokens) and prefill(variant, prompt)."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    say = lambda value: answers.write(json.dumps(value) + "\n")
    try:
        peer = load(arguments())
    except ImportError as error:
        return say({"missing": f"not installed: {error}"})
    except Exception as error:  # whatever a library throws, it cannot run here
        return say({"missing": reason(error)})
    say({"version": peer.version, "variants": peer.variants, "device": peer.device})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["op"] == "decode":
                seconds, ids = peer.decode(request["variant"], request["prompt"], request["tokens"])
            else:
                seconds, ids = peer.prefill(request["variant"], request["prompt"])
            say({"seconds": seconds, "ids": ids})
        except Exception as error:
            say({"error": reason(error)})


def reason(error):
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def gpu_name(options):
    """The GPU that a system runs on which is only measured there."""
    import torch

    if options.device != "cuda":
        raise RuntimeError("only measured on a GPU")
    return torch.cuda.get_device_name()


class Generating:
    """A peer that can only be asked for whole replies: decoding is a reply of n + 1 tokens less one of a single token."""

    variants = ["default"]

    def generate(self, prompt, tokens):
        raise NotImplementedError

    def timed(self, prompt, tokens):
        begin = time.perf_counter()
        ids = self.generate(prompt, tokens)
        return time.perf_counter() - begin, [int(i) for i in ids]

    def decode(self, variant, prompt, tokens):
        first, _ = self.timed(prompt, 1)
        whole, ids = self.timed(prompt, tokens + 1)
        if len(ids) != tokens + 1:
            raise RuntimeError(f"{len(ids)} tokens came, {tokens + 1} were asked for")
        return whole - first, ids[1:]

    def prefill(self, variant, prompt):
        return self.timed(prompt, 1)
