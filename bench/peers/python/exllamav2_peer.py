"""ExLlamaV2 on the unquantised weights of the checkpoint."""
import time

from peer import gpu_name, serve


class ExLlamaV2Peer:
    variants = ["default"]

    def __init__(self, options):
        import exllamav2
        import torch
        from exllamav2 import ExLlamaV2, ExLlamaV2Cache, ExLlamaV2Config

        self.torch = torch
        self.version = f"exllamav2 {getattr(exllamav2, '__version__', 'unknown')}"
        self.device = gpu_name(options)
        config = ExLlamaV2Config(options.model)
        config.max_seq_len = options.context
        self.model = ExLlamaV2(config)
        self.cache = ExLlamaV2Cache(self.model, max_seq_len=options.context, lazy=True)
        self.model.load_autosplit(self.cache)

    def fill(self, prompt):
        self.cache.current_seq_len = 0
        ids = self.torch.tensor([prompt])
        return self.model.forward(ids, self.cache, last_id_only=True)[:, -1].argmax(-1, keepdim=True)

    def prefill(self, variant, prompt):
        with self.torch.inference_mode():
            self.torch.cuda.synchronize()
            begin = time.perf_counter()
            ids = self.fill(prompt)[0].tolist()
            return time.perf_counter() - begin, ids

    def decode(self, variant, prompt, tokens):
        with self.torch.inference_mode():
            token = self.fill(prompt)
            made = []
            self.torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(tokens):
                token = self.model.forward(token, self.cache, last_id_only=True)[:, -1].argmax(-1, keepdim=True)
                made.append(token)
            self.torch.cuda.synchronize()
            seconds = time.perf_counter() - begin
            return seconds, self.torch.cat([one.cpu() for one in made]).flatten().tolist()


if __name__ == "__main__":
    serve(ExLlamaV2Peer)
