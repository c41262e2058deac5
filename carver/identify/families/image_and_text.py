"""Image and text: models that read both (transformers, openai/CLIP, open_clip), and their halves by themselves."""

from __future__ import annotations

from typing import Final

from carver.identify.families.rule import rule

CLIP_LAYER: Final = "encoder.layers.#.self_attn.q_proj"

IMAGE_AND_TEXT: Final = (
    rule("Florence-2", "vision_tower.blocks.#.#.spatial_block", "language_model"),
    rule("Gemma 3", "vision_tower", "layers.#.pre_feedforward_layernorm", "layers.#.self_attn.q_norm"),
    rule("LLaVA-like", "vision_tower", "language_model", "layers.#.self_attn"),
    rule("LLaVA-like", "vision_tower", "mm_projector"),
    rule("Audio and text model, LLaVA-like", "audio_tower", "language_model"),
    rule("InternVL", "vision_model.encoder.layers.#.attn.qkv", "language_model"),
    rule("BLIP-2", "qformer.encoder.layer.#", "vision_model.encoder.layers.#"),
    rule("BLIP-2", "Qformer.bert.encoder.layer.#"),
    rule("BLIP", "vision_model.encoder.layers.#.self_attn.qkv", "text_decoder.bert.encoder.layer.#"),
    rule("BLIP", "vision_model.encoder.layers.#.self_attn.qkv", "text_encoder.encoder.layer.#"),
    rule("BLIP", "visual_encoder.blocks.#.attn.qkv", "text_decoder.bert.encoder.layer.#"),
    rule("Image and text model, LLaVA-like", "vision_model", "language_model", "layers.#.self_attn"),
    rule("Idefics", "connector.modality_projection", "text_model.layers.#", "vision_model.encoder.layers.#"),
    rule("GLM-4V", "visual.merger.post_projection_norm", "visual.blocks.#.attn.qkv"),
    rule("Qwen-VL", "visual.merger.mlp.#", "visual.blocks.#.attn.qkv"),
    rule("Qwen-VL", "visual.merger.linear_fc#", "visual.blocks.#.attn.qkv"),
    rule("Phi-3 Vision", "vision_embed_tokens.img_processor"),
    rule("MiniCPM-V", "vpm.encoder.layers.#", "llm.model.layers.#"),
    rule("Grounding DINO", "encoder.layers.#.fusion_layer"),
    rule("Grounding DINO", "transformer.encoder.fusion_layers.#"),
    rule("SigLIP", "vision_model.encoder.layers.#", "vision_model.head.probe"),
    rule("OWL-ViT", "owlvit.text_model.encoder.layers.#"),
    rule("OWL-ViT", "vision_model.pre_layernorm", f"text_model.{CLIP_LAYER}"),
    rule("CLIP", "text_model.encoder.layers.#", "vision_model.encoder.layers.#"),
    rule("CLIP", "visual.transformer.resblocks.#", "transformer.resblocks.#", "token_embedding"),
    rule("CLIP", "visual.layer#.#.conv#", "transformer.resblocks.#", "token_embedding"),
    rule("SigLIP or CLIP (open_clip)", "visual.trunk.blocks.#", "text.transformer.resblocks.#"),
    rule("CLIP text encoder", f"text_model.{CLIP_LAYER}"),
    rule("CLIP text encoder", "transformer.resblocks.#.attn", "token_embedding"),
    rule("CLIP text encoder", "^embeddings.token_embedding", f"^{CLIP_LAYER}"),
    rule("SigLIP image encoder", "^head.probe", f"^{CLIP_LAYER}"),
    rule("CLIP image encoder", "^pre_layrnorm", f"^{CLIP_LAYER}"),
    rule("CLIP image encoder", f"vision_model.{CLIP_LAYER}"),
    rule("CLIP image encoder", "v.blk.#.attn_q", "v.patch_embd"),
)
