"""vLLM, with its defaults: CUDA graphs, paged attention; without the prefix cache, which would skip a prompt that it has seen."""
from peer import Generating, gpu_name, serve


class Vllm(Generating):
    def __init__(self, options):
        import vllm

        self.vllm = vllm
        self.version = f"vllm {vllm.__version__}"
        self.device = gpu_name(options)
        self.llm = vllm.LLM(
            model=options.model,
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_model_len=options.context,
            max_num_seqs=1,
            enable_prefix_caching=False,
            gpu_memory_utilization=0.4,
        )

    def generate(self, prompt, tokens):
        sampling = self.vllm.SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        (result,) = self.llm.generate([{"prompt_token_ids": prompt}], sampling, use_tqdm=False)
        return result.outputs[0].token_ids


if __name__ == "__main__":
    serve(Vllm)
