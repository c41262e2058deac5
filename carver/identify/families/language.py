"""Language: models of text. transformers, Meta's and Mistral's own files, TensorFlow checkpoints of BERT and T5.

transformers 5 calls tensors otherwise in memory than in the files that it writes itself; `torch.save(state_dict)`,
accelerate and distributed checkpoints have the names in memory, so both stand here.

TensorFlow's `layer_0` and transformers' `layer_._0` are read as `layer.0` (`carver.identify.names`).
"""

from __future__ import annotations

from typing import Final

from carver.identify.families.rule import rule

BART_DECODER: Final = "decoder.layers.#.encoder_attn.q_proj"
BERT_QUERY: Final = "encoder.layer.#.attention.self.query"
LLAMA_QUERY: Final = "layers.#.self_attn.q_proj"
LLAMA_GATE: Final = "layers.#.mlp.gate_proj"
LLAMA_NORM: Final = "layers.#.input_layernorm"
BLOOM_ATTENTION: Final = "h.#.self_attention.query_key_value"
FUSED_EXPERTS: Final = "layers.#.mlp.experts.gate_up_proj"  # transformers 5 in memory
LAYER_NORM: Final = "layers.#.self_attn_layer_norm"  # fairseq's
TWO_STACKS: Final = ("encoder.layers.#.self_attn.q_proj", "decoder.layers.#.self_attn.q_proj", "conv#")
ENCODER_DECODERS: Final = (
    rule("LongT5", "encoder.block.#.layer.#.LocalSelfAttention.q", "decoder.block.#.layer.#.EncDecAttention.q"),
    rule("LongT5", "encoder.block.#.layer.#.TransientGlobalSelfAttention.q"),
    rule("NLLB-MoE", "encoder.layers.#.ffn.experts.expert_#", "decoder.layers.#.cross_attention.q_proj"),
    rule("ProphetNet", "decoder.ngram_embeddings", "decoder.layers.#.self_attn.query_proj"),
    rule("Pix2Struct", "encoder.embeddings.row_embedder", "encoder.encoder.layer.#.attention.query"),
    rule("T5", "encoder.block.#.layer.#.SelfAttention.q", "decoder.block.#.layer.#.EncDecAttention.q"),
    rule("T5 encoder", "encoder.block.#.layer.#.SelfAttention.q"),
    rule("LED", "encoder.layers.#.self_attn.longformer_self_attn"),
    rule("Donut", "encoder.encoder.layers.#.blocks.#.attention.self", "decoder.model.decoder.layers.#"),
    rule("TrOCR-like", "encoder.encoder.layer.#.attention.attention.query", "decoder.model.decoder.layers.#"),
    rule("TrOCR-like", "encoder.layers.#.attention.q_proj", "decoder.model.decoder.layers.#"),
    rule("DETR", "class_labels_classifier", "bbox_predictor", BART_DECODER),
    rule("BART-like", "encoder.layers.#.self_attn.q_proj", BART_DECODER),
    rule("BART-like decoder", BART_DECODER),
)

ENCODERS: Final = (
    rule("DistilBERT", "transformer.layer.#.attention.q_lin"),
    rule("DistilBERT", "layer.#.attention.q_lin"),
    rule("XLM", "attentions.#.q_lin", "ffns.#.lin#"),
    rule("XLNet", "layer.#.rel_attn.q"),
    rule("Funnel Transformer", "blocks.#.#.attention.r_kernel"),
    rule("ALBERT", "albert_layer_groups.#"),
    rule("ALBERT", "encoder.transformer.group.#.inner_group.#"),
    rule("DeBERTa", "encoder.rel_embeddings"),
    rule("MPNet", "encoder.layer.#.attention.attn.q", "encoder.relative_attention_bias"),
    rule("LayoutLMv3", "embeddings.x_position_embeddings", "encoder.rel_pos_x_bias"),
    rule("LayoutLM", "embeddings.x_position_embeddings"),
    rule("ModernBERT", "layers.#.attn.Wqkv", "layers.#.mlp.Wi"),
    rule("Nomic BERT", "encoder.layers.#.attn.Wqkv", "encoder.layers.#.mlp.fc##"),
    rule("Longformer", "encoder.layer.#.attention.self.query_global"),
    rule("RoBERTa", f"roberta.{BERT_QUERY}"),
    rule("ELECTRA", f"electra.{BERT_QUERY}"),
    rule("ELECTRA", BERT_QUERY, "embeddings_project"),
    rule("ESM", f"esm.{BERT_QUERY}"),
    rule("ESM", BERT_QUERY, "encoder.emb_layer_norm_after"),
    rule("FNet", "encoder.layer.#.fourier.output"),
    rule("SqueezeBERT", "encoder.layers.#.attention.query", "encoder.layers.#.post_attention.conv#d"),
    rule("Nomic BERT or GTE", LLAMA_QUERY, "layers.#.post_mlp_layernorm", "embeddings.token_type_embeddings"),
    rule("BigBird", BERT_QUERY, "pooler.weight"),
    rule("BERT", BERT_QUERY, "embeddings.token_type_embeddings"),
    rule("BERT-like", BERT_QUERY),
)

DECODERS: Final = (
    rule("DeepSeek (multi-head latent attention)", "layers.#.self_attn.kv_a_proj_with_mqa"),
    rule("GPT-OSS", "layers.#.self_attn.sinks", "layers.#.mlp.experts"),
    rule("GPT-OSS", "block.#.attn.sinks", "block.#.mlp.gate"),
    rule("Llama 4", "layers.#.feed_forward.experts", "layers.#.feed_forward.shared_expert"),
    rule("Phi-3.5 MoE", "layers.#.block_sparse_moe.experts.#", f"{LLAMA_NORM}.bias"),
    rule("Granite MoE", "layers.#.block_sparse_moe.experts.gate_up_proj"),
    rule("Granite MoE", "layers.#.block_sparse_moe.input_linear", "layers.#.block_sparse_moe.router.layer"),
    rule("JetMoE", "layers.#.self_attention.experts.input_linear"),
    rule("Mixtral", "layers.#.block_sparse_moe.experts.#"),
    rule("Mixtral", "layers.#.feed_forward.experts.#.w#", "layers.#.attention.wq"),
    rule("DBRX", "blocks.#.ffn.experts.mlp", "blocks.#.norm_attn_norm.attn.Wqkv"),
    rule("Jamba-like", "layers.#.mamba.A_log"),
    rule("Qwen-MoE", "layers.#.mlp.shared_expert"),
    rule("Mixture of experts, Qwen-like", "layers.#.mlp.experts.#.gate_proj"),
    rule("Phi-3.5 MoE", FUSED_EXPERTS, f"{LLAMA_NORM}.bias"),
    rule("Mixture of experts, Qwen-like", FUSED_EXPERTS, "layers.#.self_attn.q_norm", LLAMA_NORM),
    rule("Mixture of experts", FUSED_EXPERTS, LLAMA_NORM),
    rule("LFM", "layers.#.operator_norm", "layers.#.feed_forward.w#"),
    rule("Apertus", LLAMA_QUERY, "layers.#.attention_layernorm", "layers.#.feedforward_layernorm"),
    rule("ModernBERT decoder", "layers.#.attn.q_proj", "layers.#.mlp.Wi"),
    rule("RecurrentGemma", "layers.#.temporal_block.rg_lru"),
    rule("xLSTM", "blocks.#.mlstm_layer.igate_preact"),
    rule("Gemma 3", "layers.#.pre_feedforward_layernorm", "layers.#.self_attn.q_norm"),
    rule("Gemma 2", "layers.#.pre_feedforward_layernorm"),
    rule("Phi-3", "layers.#.self_attn.qkv_proj", "layers.#.mlp.gate_up_proj"),
    rule("GLM-4", LLAMA_QUERY, "layers.#.mlp.gate_up_proj"),
    rule("Phi-2", "layers.#.self_attn.dense", "layers.#.mlp.fc#"),
    rule("Persimmon", "layers.#.self_attn.query_key_value", "layers.#.self_attn.q_layernorm"),
    rule("StarCoder2", LLAMA_QUERY, "layers.#.mlp.c_fc"),
    rule("OLMo 2", LLAMA_GATE, "layers.#.self_attn.q_norm", "layers.#.post_feedforward_layernorm"),
    rule("Baichuan", "layers.#.self_attn.W_pack", LLAMA_GATE),
    rule("Qwen3", "layers.#.self_attn.q_norm", LLAMA_GATE, LLAMA_NORM),
    rule("StableLM", LLAMA_QUERY, LLAMA_GATE, f"{LLAMA_NORM}.bias"),
    rule("Qwen2", f"{LLAMA_QUERY}.bias", LLAMA_GATE, lacks=("layers.#.self_attn.o_proj.bias",)),
    rule("Cohere Command R", LLAMA_QUERY, LLAMA_GATE, LLAMA_NORM, lacks=("layers.#.post_attention_layernorm",)),
    rule("Llama-like", LLAMA_QUERY, LLAMA_GATE, LLAMA_NORM),
    rule("HRM", "H_module.layers.#.self_attn.q_proj", "L_module.layers.#.self_attn.q_proj"),
    rule("OLMo", LLAMA_QUERY, LLAMA_GATE, "embed_tokens", lacks=(LLAMA_NORM, "norm", "layers.#.self_attn.q_norm")),
    rule("OLMo", "transformer.blocks.#.att_proj", "transformer.blocks.#.ff_proj"),
    rule("Moshi", "layers.#.self_attn.q_proj.linear", "embed_tokens"),
    rule("Nemotron", LLAMA_QUERY, "layers.#.mlp.up_proj", f"{LLAMA_NORM}.bias", lacks=("layers.#.mlp.experts",)),
    rule("Arcee", LLAMA_QUERY, "layers.#.mlp.up_proj", LLAMA_NORM, lacks=("layers.#.mlp.experts", LLAMA_GATE)),
    rule("InternLM2", "layers.#.attention.wqkv", "layers.#.feed_forward.w#"),
    rule("Llama-like", "layers.#.attention.wq", "layers.#.feed_forward.w#"),
    rule("OPT", "decoder.layers.#.self_attn.q_proj", "decoder.embed_positions"),
    rule("Kosmos-2", "layers.#.self_attn.inner_attn_ln", LAYER_NORM, "vision_model"),
    rule("XGLM", LLAMA_QUERY, LAYER_NORM, "embed_tokens", lacks=("embed_positions", *TWO_STACKS)),
    rule("BioGPT", LLAMA_QUERY, LAYER_NORM, "embed_tokens", "embed_positions", lacks=TWO_STACKS),
    rule("BioGPT", "biogpt.layers.#.self_attn.q_proj"),
    rule("GPT-NeoX", "gpt_neox.layers.#.attention.query_key_value"),
    rule("GPT-NeoX", "embed_in", "layers.#.attention.query_key_value"),
    rule("Megatron GPT", "language_model.encoder.layers.#.self_attention.query_key_value"),
    rule("Megatron GPT", "decoder.layers.#.self_attention.linear_qkv"),
    rule("ChatGLM", "encoder.layers.#.self_attention.query_key_value"),
    rule("BLOOM", BLOOM_ATTENTION, "word_embeddings_layernorm"),
    rule("Falcon", BLOOM_ATTENTION),
    rule("MPT", "blocks.#.attn.Wqkv", "blocks.#.ffn.up_proj"),
    rule("GPT-Neo", "h.#.attn.attention.q_proj"),
    rule("CTRL", "h.#.multi_head_attention.Wq"),
    rule("GPT-J", "h.#.attn.q_proj", "h.#.mlp.fc_in"),
    rule("CodeGen", "h.#.attn.qkv_proj", "h.#.mlp.fc_in"),
    rule("Qwen", "h.#.attn.c_attn", "h.#.mlp.w#"),
    rule("GPT", "h.#.attn.c_attn", "tokens_embed"),
    rule("GPT-2", "h.#.attn.c_attn"),
    rule("GPT-2", "h#.attn.c_attn"),
    rule("Nemotron-H", "layers.#.mixer.A_log", "layers.#.mixer.q_proj"),
    rule("Mamba", "layers.#.mixer.A_log"),
    rule("RWKV", "blocks.#.att.time_decay"),
    rule("RWKV", "blocks.#.attention.time_decay"),
    rule("RWKV", "blocks.#.att.x_r", "blocks.#.att.k_k"),
    rule("llama.cpp model", "blk.#.attn_q"),
    rule("llama.cpp model", "blk.#.attn_qkv"),
)
