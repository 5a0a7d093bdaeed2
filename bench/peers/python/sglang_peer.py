"""SGLang, with its defaults but for the radix cache, which would skip a prompt that it has seen."""
from peer import Generating, gpu_name, serve


class Sglang(Generating):
    def __init__(self, options):
        import sglang

        self.version = f"sglang {sglang.__version__}"
        self.device = gpu_name(options)
        self.engine = sglang.Engine(
            model_path=options.model,
            skip_tokenizer_init=True,
            dtype="bfloat16",
            context_length=options.context,
            max_running_requests=1,
            disable_radix_cache=True,
            mem_fraction_static=0.4,
        )

    def generate(self, prompt, tokens):
        sampling = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}
        return self.engine.generate(input_ids=prompt, sampling_params=sampling)["output_ids"]


if __name__ == "__main__":
    serve(Sglang)
