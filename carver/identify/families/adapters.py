"""Adapters: what is laid over a model (PEFT, kohya's scripts, LyCORIS, diffusers, llama.cpp), and over which one."""

from __future__ import annotations

from typing import Final

from carver.identify.families.rule import rule

ADAPTERS: Final = (
    rule("DoRA adapter (PEFT)", "lora_A", "lora_B", "lora_magnitude_vector", part=True),
    rule("LoRA adapter (PEFT)", "lora_A", "lora_B", part=True),
    rule("LoRA adapter (PEFT)", "lora_embedding_A", "lora_embedding_B", part=True),
    rule("VeRA adapter (PEFT)", "vera_lambda_b", part=True),
    rule("LoRA adapter (kohya)", "lora_down", "lora_up", part=True),
    rule("LoRA adapter (diffusers)", "lora.down", "lora.up", part=True),
    rule("LoRA adapter (diffusers)", "to_q_lora.down", "to_q_lora.up", part=True),
    rule("LoRA adapter (llama.cpp)", "weight.lora_a", "weight.lora_b", part=True),
    rule("LoHa adapter", "hada_w#_a", "hada_w#_b", part=True),
    rule("LoKr adapter", "lokr_w#", part=True),
    rule("LoKr adapter", "lokr_w#_a", "lokr_w#_b", part=True),
    rule("IA3 adapter", "ia#_l", part=True),
    rule("OFT adapter", "oft_R", part=True),
    rule("OFT adapter", "oft_blocks", part=True),
    rule("Soft prompt (PEFT)", "^prompt_embeddings"),
    rule("IP-Adapter", "^image_proj", "^ip_adapter.#.to_k_ip"),
    rule("Textual inversion", "^string_to_param"),
    rule("Textual inversion", "^emb_params"),
)

ADAPTED: Final = (  # text in the names of what is adapted, the numbers "#"; the first that is there
    ("lora_unet_double_blocks_", "Flux"),
    ("lora_unet_single_blocks_", "Flux"),
    ("single_transformer_blocks.#.", "Flux"),
    ("lora_unet_joint_blocks_", "Stable Diffusion 3"),
    ("lora_te#_", "Stable Diffusion XL"),  # it has two text encoders
    ("unet_", "Stable Diffusion UNet"),
    ("unet.", "Stable Diffusion UNet"),
    ("down_blocks.#.attentions.#.", "Stable Diffusion UNet"),
    ("lora_te_text_model_", "CLIP text encoder"),
    ("text_encoder.", "CLIP text encoder"),
    ("vision_model.encoder.layers.#.", "CLIP"),
    (".encoder_attn.q_proj", "BART-like or Whisper"),
    ("decoder.layers.#.self_attn.", "OPT"),
    ("layers.#.self_attn.qkv_proj", "Phi-3"),
    ("layers.#.mlp.gate_up_proj", "Phi-3 or GLM-4"),
    ("layers.#.self_attn.kv_a_proj_with_mqa", "DeepSeek (multi-head latent attention)"),
    ("layers.#.block_sparse_moe.", "Mixtral"),
    ("layers.#.self_attn.q_proj", "Llama-like"),
    ("layers.#.self_attn.k_proj", "Llama-like"),
    ("layers.#.self_attn.v_proj", "Llama-like"),
    ("layers.#.mlp.gate_proj", "Llama-like"),
    ("layers.#.self_attention.query_key_value", "ChatGLM"),
    ("layers.#.attention.query_key_value", "GPT-NeoX"),
    ("h.#.self_attention.query_key_value", "Falcon or BLOOM"),
    ("h.#.attn.c_attn", "GPT-2"),
    ("h.#.attn.q_proj", "GPT-J"),
    ("blocks.#.attn.Wqkv", "MPT"),
    ("layers.#.mixer.", "Mamba"),
    (".attention.attention.query", "ViT"),
    (".attention.self.query", "BERT"),
    (".attention.q_lin", "DistilBERT"),
    (".SelfAttention.q", "T5"),
)
