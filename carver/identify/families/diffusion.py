"""Diffusion: models that make pictures and films, by the names of their first authors and of diffusers."""

from __future__ import annotations

from typing import Final

from carver.identify.families.rule import rule

LDM: Final = "diffusion_model.input_blocks.#"
CROSS_ATTENTION: Final = "down_blocks.#.attentions.#.transformer_blocks.#.attn#"

DIFFUSION: Final = (
    rule("Stable Diffusion XL, whole checkpoint", LDM, "conditioner.embedders.#"),
    rule("Stable Diffusion 2, whole checkpoint", LDM, "cond_stage_model.model.transformer.resblocks.#"),
    rule("Stable Diffusion, whole checkpoint", LDM, "cond_stage_model"),
    rule("Stable Diffusion 3", "joint_blocks.#.x_block"),
    rule("Stable Diffusion 3 or Flux ControlNet", "transformer_blocks.#.attn.add_q_proj", "controlnet_blocks.#"),
    rule(
        "Stable Diffusion 3", "transformer_blocks.#.norm#_context.linear", "^pos_embed.pos_embed", "^context_embedder"
    ),
    rule("AuraFlow", "joint_transformer_blocks.#", "single_transformer_blocks.#"),
    rule("HunyuanVideo", "single_transformer_blocks.#", "context_embedder.token_refiner.refiner_blocks.#"),
    rule("HunyuanVideo", "context_embedder.token_refiner.refiner_blocks.#", "context_embedder_#.linear_#"),
    rule("HunyuanVideo", "double_blocks.#.img_attn_qkv", "single_blocks.#"),
    rule("Chroma", "single_transformer_blocks.#", "distilled_guidance_layer"),
    rule("Chroma", "double_blocks.#.img_attn", "distilled_guidance_layer"),
    rule("Flux 3", "mode_blocks.image.#.attn.to_q"),
    rule("Flux 2", "single_transformer_blocks.#.attn.to_qkv_mlp_proj", "transformer_blocks.#"),
    rule("Flux", "double_blocks.#.img_attn", "single_blocks.#"),
    rule("Flux", "single_transformer_blocks.#", "transformer_blocks.#"),
    rule("Qwen-Image", "transformer_blocks.#.img_mod.#", "transformer_blocks.#.txt_mod.#"),
    rule("Qwen-Image", "transformer_blocks.#.img_mlp.gate_layer", "txt_in.text_norm"),
    rule("Krea 2", "text_fusion.layerwise_blocks.#"),
    rule("Kandinsky 5", "visual_transformer_blocks.#.self_attention", "text_transformer_blocks.#.self_attention"),
    rule("Cosmos", "transformer_blocks.#.norm#.linear_#", "^time_embed.t_embedder.linear_#"),
    rule("GLM-Image", "transformer_blocks.#.attn#.to_q", "^glyph_projector.net.#"),
    rule(
        "CogView",
        "transformer_blocks.#.norm#.linear",
        "^time_condition_embed.condition_embedder",
        "^patch_embed.text_proj",
    ),
    rule("Stable Audio", "transformer_blocks.#.attn#.to_q", "^cross_attention_proj.#", "^global_proj.#"),
    rule("Mochi", "transformer_blocks.#.attn#.add_q_proj", "^pos_frequencies"),
    rule("CogVideoX", "transformer_blocks.#.attn#.norm_q", "^patch_embed.text_proj"),
    rule("LTX-Video", "transformer_blocks.#.scale_shift_table", "^time_embed", "^proj_in"),
    rule("Sana", "transformer_blocks.#.ff.conv_inverted"),
    rule("PixArt", "transformer_blocks.#.scale_shift_table", "^adaln_single"),
    rule("Z-Image", "noise_refiner.#", "all_x_embedder.#-#"),
    rule("Lumina", "noise_refiner.#", "context_refiner.#"),
    rule("Wan", "blocks.#.scale_shift_table", "^condition_embedder"),
    rule("Wan", "blocks.#.cross_attn.q", "blocks.#.modulation", "^time_projection.#"),
    rule("DiT", "transformer_blocks.#.norm#.emb.class_embedder"),
    rule("DiT", "blocks.#.adaLN_modulation.#", "^x_embedder.proj", "^y_embedder"),
    rule("unCLIP prior", "transformer_blocks.#.attn#", "^prd_embedding"),
    rule("Stable Cascade", "clip_txt_pooled_mapper", "down_blocks.#.#.channelwise.#"),
    rule("ControlNet", "controlnet_cond_embedding"),
    rule("ControlNet", "zero_convs.#", "input_blocks.#"),
    rule("T2I-Adapter", "adapter.body.#.resnets.#.block#"),
    rule("Stable Video Diffusion UNet", "down_blocks.#.attentions.#.temporal_transformer_blocks.#"),
    rule("AnimateDiff UNet", "down_blocks.#.motion_modules.#", "down_blocks.#.resnets.#"),
    rule("AnimateDiff motion module", "down_blocks.#.motion_modules.#"),
    rule("Stable Diffusion UNet", LDM),
    rule("Stable Diffusion UNet", "^input_blocks.#", "^middle_block.#", "^output_blocks.#", "^time_embed.#"),
    rule("Stable Diffusion UNet", CROSS_ATTENTION, "time_embedding.linear_#"),
    rule("Diffusion UNet", "down_blocks.#.resnets.#", "mid_block", "time_embedding.linear_#"),
    rule("VQ-VAE", "quantize.embedding", "decoder.up_blocks.#.resnets.#"),
    rule("VQ-VAE", "quantize.embedding", "decoder.up.#.block.#"),
    rule("Diffusion VAE", "encoder.down_blocks.#.resnets.#", "decoder.up_blocks.#.resnets.#"),
    rule("Diffusion VAE", "encoder.down_blocks.#.resample.#", "decoder.up_blocks.#.resnets.#"),  # Wan, Qwen-Image
    rule("Diffusion VAE", "encoder.down_blocks.#.#.conv#", "decoder.up_blocks.#.#.conv#"),  # Sana's
    rule(
        *("Stable Audio VAE", "encoder.block.#.res_unit#.snake#", "decoder.block.#.conv_t#"),
        lacks=("quantizer.quantizers.#",),
    ),
    rule("Diffusion VAE", "encoder.down.#.block.#", "decoder.up.#.block.#"),
)
