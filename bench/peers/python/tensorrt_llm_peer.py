"""TensorRT-LLM through its LLM API, without reuse of blocks, which would skip a prompt that it has seen."""
from peer import Generating, gpu_name, serve


class TensorRtLlm(Generating):
    def __init__(self, options):
        import tensorrt_llm
        from tensorrt_llm import LLM, SamplingParams
        from tensorrt_llm.llmapi import KvCacheConfig

        self.sampling = SamplingParams
        self.version = f"tensorrt_llm {tensorrt_llm.__version__}"
        self.device = gpu_name(options)
        self.llm = LLM(
            model=options.model,
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_batch_size=1,
            max_seq_len=options.context,
            kv_cache_config=KvCacheConfig(enable_block_reuse=False, free_gpu_memory_fraction=0.4),
        )

    def generate(self, prompt, tokens):
        sampling = self.sampling(max_tokens=tokens, top_k=1, ignore_eos=True, end_id=-1, pad_id=0, detokenize=False)
        return self.llm.generate({"prompt_token_ids": prompt}, sampling).outputs[0].token_ids


if __name__ == "__main__":
    serve(TensorRtLlm)
