"""Hugging Face transformers: eager, compiled with a static cache, and one CUDA graph of a step."""
import inspect
import time

from peer import serve


class Transformers:
    def __init__(self, options):
        import torch
        import transformers

        self.torch = torch
        self.transformers = transformers
        cuda = options.device == "cuda"
        if cuda and not torch.cuda.is_available():
            raise RuntimeError("torch sees no GPU")
        if options.threads:
            torch.set_num_threads(options.threads)
        self.cuda = cuda
        self.where = torch.device(options.device)
        self.context = options.context
        self.device = torch.cuda.get_device_name() if cuda else "CPU"
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.variants = ["eager", "compiled"] + (["cuda-graph"] if cuda else [])
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            options.model, dtype=torch.bfloat16, attn_implementation="sdpa"
        ).to(self.where).eval()
        self.takes_cache_position = "cache_position" in inspect.signature(self.model.forward).parameters
        self.compiled = None
        self.static = None
        self.graph = None
        self.prompts = {}  # captured, by length

    def sync(self):
        if self.cuda:
            self.torch.cuda.synchronize()

    def forward(self, call, ids, positions, cache):
        """Logits of the last id. ids [1, n], positions [n] of them."""
        more = {"cache_position": positions} if self.takes_cache_position else {}
        out = call(
            input_ids=ids, position_ids=positions.unsqueeze(0), past_key_values=cache, use_cache=True, logits_to_keep=1, **more
        )
        return out.logits[:, -1].argmax(-1, keepdim=True)

    def fill(self, prompt, cache):
        """The prompt into the cache; the token that follows, [1, 1]."""
        ids = self.torch.tensor([prompt], device=self.where)
        return self.forward(self.model, ids, self.torch.arange(len(prompt), device=self.where), cache)

    def static_cache(self):
        """One for all requests: graphs and compiled code keep its addresses."""
        if self.static is None:
            self.static = self.transformers.StaticCache(config=self.model.config, max_cache_len=self.context)
        else:
            self.static.reset()
        return self.static

    def prefill(self, variant, prompt):
        with self.torch.inference_mode():
            if variant == "cuda-graph":
                return self.prefill_graph(prompt)
            # What is compiled is the single step: prompts run eagerly there, too.
            cache = self.transformers.DynamicCache(config=self.model.config)
            self.sync()
            begin = time.perf_counter()
            token = self.fill(prompt, cache)
            self.sync()
            return time.perf_counter() - begin, token[0].tolist()

    def prefill_graph(self, prompt):
        """A graph of one prompt length, over a cache of just that length."""
        torch = self.torch
        ids = torch.tensor([prompt], device=self.where)
        if len(prompt) not in self.prompts:
            positions = torch.arange(len(prompt), device=self.where)
            cache = self.transformers.StaticCache(config=self.model.config, max_cache_len=len(prompt))
            fed = ids.clone()
            made = torch.empty((1, 1), dtype=torch.long, device=self.where)

            def fill():
                cache.reset()
                made.copy_(self.forward(self.model, fed, positions, cache))

            self.prompts[len(prompt)] = (self.captured(fill), fed, made)
        graph, fed, made = self.prompts[len(prompt)]
        self.sync()
        begin = time.perf_counter()
        fed.copy_(ids)
        graph.replay()
        self.sync()
        return time.perf_counter() - begin, made[0].tolist()

    def captured(self, work):
        torch = self.torch
        # What is made on first use must not be captured.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph

    def decode(self, variant, prompt, tokens):
        step = {"eager": self.eager, "compiled": self.compile, "cuda-graph": self.capture}[variant]
        with self.torch.inference_mode():
            return step(prompt, tokens)

    def eager(self, prompt, tokens):
        cache = self.transformers.DynamicCache(config=self.model.config)
        return self.steps(self.model, prompt, tokens, cache)

    def compile(self, prompt, tokens):
        if self.compiled is None:
            self.compiled = self.torch.compile(self.model, mode="reduce-overhead" if self.cuda else "default")
        return self.steps(self.compiled, prompt, tokens, self.static_cache())

    def steps(self, call, prompt, tokens, cache):
        torch = self.torch
        token = self.fill(prompt, cache)
        position = torch.tensor([len(prompt)], device=self.where)
        made = []
        self.sync()
        begin = time.perf_counter()
        for _ in range(tokens):
            if call is self.compiled and self.cuda:
                torch.compiler.cudagraph_mark_step_begin()
            # A graph writes its next result over the last one.
            token = self.forward(call, token, position, cache).clone()
            position = position + 1
            made.append(token)
        self.sync()
        return time.perf_counter() - begin, torch.cat(made).flatten().tolist()

    def capture(self, prompt, tokens):
        torch = self.torch
        cache = self.static_cache()
        first = self.fill(prompt, cache)
        if self.graph is None:
            self.token = first.clone()
            self.position = torch.tensor([len(prompt)], device=self.where)

            def step():
                self.token.copy_(self.forward(self.model, self.token, self.position, cache))
                self.position.add_(1)

            self.graph = self.captured(step)
            # The steps before moved the cache on.
            cache = self.static_cache()
            first = self.fill(prompt, cache)
        self.token.copy_(first)
        self.position.fill_(len(prompt))
        made = torch.empty(tokens, dtype=torch.long, device=self.where)
        self.sync()
        begin = time.perf_counter()
        for i in range(tokens):
            self.graph.replay()
            made[i : i + 1].copy_(self.token[0])
        self.sync()
        return time.perf_counter() - begin, made.tolist()


if __name__ == "__main__":
    serve(Transformers)
