"""The table of architectures that a stand-in can take, by the names of transformers' classes."""

from __future__ import annotations

from azft.training.stand_in_encoders import EncoderArchitecture
from azft.training.stand_in_weights import Architecture, T5Architecture

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture(name="Phi3ForCausalLM", model_type="phi3", fused=True, tied=True),
        Architecture(name="LlamaForCausalLM", model_type="llama", tied=True),
        Architecture(name="MistralForCausalLM", model_type="mistral", extra={"sliding_window": None}),
        Architecture(name="Qwen2ForCausalLM", model_type="qwen2", qkv_bias=True, tied=True),
        Architecture(name="Gemma2ForCausalLM", model_type="gemma2", four_norms=True, tied=True),
        T5Architecture(
            name="T5ForConditionalGeneration", model_type="t5", tied=True, reads_and_writes=True, closes=True
        ),
        EncoderArchitecture(name="BertForMaskedLM", model_type="bert", prefix="bert"),
        EncoderArchitecture(name="BertModel", model_type="bert", prefix="bert"),
        EncoderArchitecture(
            name="RobertaForMaskedLM",
            model_type="roberta",
            prefix="roberta",
            text_types=1,
            pooler=False,
            first_position=1,
        ),
        Architecture(name="StableDiffusionPipeline", model_type="", paints=True, writes=False),
    )
}
"""The architectures that a stand-in can take."""
