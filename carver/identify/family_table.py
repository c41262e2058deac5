"""Family table: which tensor names tell which family of models. The one place to add a family.

A rule's words are dotted runs of whole parts of a tensor's name in which every number is "#": `layers.#.attn` fits
`model.layers.11.attn.weight`, whatever stands before and behind. All of `has` must be somewhere in a file, none of
`lacks`. The first rule that fits counts, so the special stands before the general. Where several families write the
same names, the rule says so ("Llama-like"). Source: the state dicts of the libraries named at each block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One family by its names.

    Attributes:
        family: for people.
        has: runs of name parts that must all be there.
        lacks: runs of which none may be there.
    """

    family: str
    has: tuple[str, ...]
    lacks: tuple[str, ...] = ()


def _rule(family: str, *has: str, lacks: tuple[str, ...] = ()) -> Rule:
    return Rule(family=family, has=has, lacks=lacks)


ADAPTERS: Final = (
    _rule("LoRA adapter (PEFT)", "lora_A", "lora_B"),
    _rule("LoRA adapter (PEFT)", "lora_embedding_A", "lora_embedding_B"),
    _rule("LoRA adapter (kohya)", "lora_down", "lora_up"),
    _rule("LoRA adapter (diffusers)", "lora.down", "lora.up"),
)

DIFFUSION: Final = (  # CompVis and Stability, Black Forest Labs, diffusers
    _rule("Stable Diffusion XL, whole checkpoint", "model.diffusion_model.input_blocks.#", "conditioner.embedders.#"),
    _rule("Stable Diffusion, whole checkpoint", "model.diffusion_model.input_blocks.#", "cond_stage_model"),
    _rule("Stable Diffusion 3", "joint_blocks.#.x_block"),
    _rule("Flux", "double_blocks.#.img_attn", "single_blocks.#"),
    _rule("Flux", "single_transformer_blocks.#", "transformer_blocks.#"),
    _rule("ControlNet", "controlnet_cond_embedding"),
    _rule("ControlNet", "zero_convs.#", "input_blocks.#"),
    _rule("Stable Diffusion UNet", "diffusion_model.input_blocks.#"),
    _rule("Stable Diffusion UNet", "down_blocks.#.attentions.#.transformer_blocks.#.attn#", "time_embedding.linear_#"),
    _rule("Diffusion UNet", "down_blocks.#.resnets.#", "mid_block", "time_embedding.linear_#"),
    _rule("Diffusion VAE", "encoder.down_blocks.#.resnets.#", "decoder.up_blocks.#.resnets.#"),
    _rule("Diffusion VAE", "encoder.down.#.block.#", "decoder.up.#.block.#"),
)

SPEECH: Final = (  # transformers, openai/whisper
    _rule("Whisper", "encoder.conv#", "encoder.layers.#.self_attn.q_proj", "decoder.layers.#.encoder_attn.q_proj"),
    _rule("Whisper", "encoder.blocks.#.attn.query", "decoder.blocks.#.cross_attn.query"),
    _rule("wav2vec 2.0-like", "feature_extractor.conv_layers.#", "encoder.pos_conv_embed"),
    _rule("HiFi-GAN", "ups.#", "resblocks.#.convs#.#"),
)

IMAGE_AND_TEXT: Final = (  # transformers, openai/CLIP
    _rule("Gemma 3", "vision_tower", "layers.#.pre_feedforward_layernorm", "layers.#.self_attn.q_norm"),
    _rule("LLaVA-like", "vision_tower", "language_model"),
    _rule("SigLIP", "vision_model.encoder.layers.#", "vision_model.head.probe"),
    _rule("CLIP", "text_model.encoder.layers.#", "vision_model.encoder.layers.#"),
    _rule("CLIP", "visual.transformer.resblocks.#", "transformer.resblocks.#", "token_embedding"),
    _rule("CLIP text encoder", "text_model.encoder.layers.#.self_attn.q_proj"),
    _rule("CLIP text encoder", "transformer.resblocks.#.attn", "token_embedding"),
    _rule("CLIP image encoder", "vision_model.encoder.layers.#.self_attn.q_proj"),
)

ENCODER_DECODERS: Final = (  # transformers
    _rule("T5", "encoder.block.#.layer.#.SelfAttention.q", "decoder.block.#.layer.#.EncDecAttention.q"),
    _rule("T5 encoder", "encoder.block.#.layer.#.SelfAttention.q"),
    _rule("BART-like", "encoder.layers.#.self_attn.q_proj", "decoder.layers.#.encoder_attn.q_proj"),
    _rule("DETR", "class_labels_classifier", "bbox_predictor"),
)

ENCODERS: Final = (  # transformers
    _rule("DistilBERT", "transformer.layer.#.attention.q_lin"),
    _rule("DistilBERT", "layer.#.attention.q_lin"),
    _rule("ALBERT", "albert_layer_groups.#"),
    _rule("DeBERTa", "encoder.rel_embeddings"),
    _rule("MPNet", "encoder.layer.#.attention.attn.q", "encoder.relative_attention_bias"),
    _rule("LayoutLM", "embeddings.x_position_embeddings"),
    _rule("RoBERTa", "roberta.encoder.layer.#.attention.self.query"),
    _rule("ELECTRA", "electra.encoder.layer.#.attention.self.query"),
    _rule("BERT", "encoder.layer.#.attention.self.query", "embeddings.token_type_embeddings"),
    _rule("BERT-like", "encoder.layer.#.attention.self.query"),
    _rule("DINOv2", "encoder.layer.#.attention.attention.query", "encoder.layer.#.layer_scale#.lambda#"),
    _rule("ViT", "encoder.layer.#.attention.attention.query"),
)

DECODERS: Final = (  # transformers; Meta's and Mistral's own files
    _rule("DeepSeek (multi-head latent attention)", "layers.#.self_attn.kv_a_proj_with_mqa"),
    _rule("Mixtral", "layers.#.block_sparse_moe.experts.#"),
    _rule("Qwen-MoE", "layers.#.mlp.shared_expert"),
    _rule("Mixture of experts, Qwen-like", "layers.#.mlp.experts.#.gate_proj"),
    _rule("Gemma 3", "layers.#.pre_feedforward_layernorm", "layers.#.self_attn.q_norm"),
    _rule("Gemma 2", "layers.#.pre_feedforward_layernorm"),
    _rule("Phi-3", "layers.#.self_attn.qkv_proj", "layers.#.mlp.gate_up_proj"),
    _rule("Phi-2", "layers.#.self_attn.dense", "layers.#.mlp.fc#"),
    _rule("Qwen3", "layers.#.self_attn.q_norm", "layers.#.mlp.gate_proj"),
    _rule(
        "Qwen2",
        "layers.#.self_attn.q_proj.bias",
        "layers.#.mlp.gate_proj",
        lacks=("layers.#.self_attn.o_proj.bias",),
    ),
    _rule("Llama-like", "layers.#.self_attn.q_proj", "layers.#.mlp.gate_proj", "layers.#.input_layernorm"),
    _rule("Llama-like", "layers.#.attention.wq", "layers.#.feed_forward.w#"),
    _rule("OPT", "decoder.layers.#.self_attn.q_proj", "decoder.embed_positions"),
    _rule("GPT-NeoX", "gpt_neox.layers.#.attention.query_key_value"),
    _rule("ChatGLM", "encoder.layers.#.self_attention.query_key_value"),
    _rule("BLOOM", "h.#.self_attention.query_key_value", "word_embeddings_layernorm"),
    _rule("Falcon", "h.#.self_attention.query_key_value"),
    _rule("MPT", "blocks.#.attn.Wqkv", "blocks.#.ffn.up_proj"),
    _rule("GPT-Neo", "h.#.attn.attention.q_proj"),
    _rule("GPT-J", "h.#.attn.q_proj", "h.#.mlp.fc_in"),
    _rule("GPT-2", "h.#.attn.c_attn"),
    _rule("Mamba", "layers.#.mixer.A_log"),
    _rule("RWKV", "blocks.#.att.time_decay"),
    _rule("llama.cpp model", "blk.#.attn_q"),
    _rule("llama.cpp model", "blk.#.attn_qkv"),
)

VISION: Final = (  # torchvision, timm, transformers, Keras applications, ultralytics, Meta
    _rule("SAM", "image_encoder.blocks.#", "mask_decoder"),
    _rule("Swin Transformer", "layers.#.blocks.#.attn.relative_position_bias_table"),
    _rule("Swin Transformer", "features.#.#.attn.relative_position_bias_table"),
    _rule("Swin Transformer", "blocks.#.attention.self.relative_position_bias_table"),
    _rule("BEiT", "blocks.#.attn.relative_position_bias_table"),
    _rule("DINOv2", "blocks.#.attn.qkv", "blocks.#.ls#.gamma"),
    _rule("ViT", "patch_embed.proj", "blocks.#.attn.qkv"),
    _rule("ViT", "encoder.layers.encoder_layer_#.self_attention"),
    _rule("Faster R-CNN", "backbone.body.layer#.#.conv#", "rpn.head"),
    _rule("YOLO", "model.#.cv#.conv", "model.#.m.#.cv#.conv"),
    _rule("U-Net", "inc.double_conv.#"),
    _rule("ConvNeXt", "stages.#.blocks.#.conv_dw"),
    _rule("ConvNeXt", "features.#.#.layer_scale"),
    _rule("DenseNet", "denseblock#.denselayer#.conv#"),
    _rule("SqueezeNet", "features.#.squeeze"),
    _rule("Inception v3", "Mixed_#b.branch#x#"),
    _rule("Inception", "inception#a.branch#"),
    _rule("EfficientNet", "_blocks.#._depthwise_conv"),
    _rule("EfficientNet", "features.#.#.block.#.#"),
    _rule("EfficientNet", "block#a_dwconv"),
    _rule("EfficientNet-like", "conv_stem", "blocks.#.#.conv_pw"),
    _rule("MobileNetV3", "features.#.block.#.#", "classifier.#"),
    _rule("MobileNetV2", "features.#.conv.#.#", "features.#.#"),
    _rule("MobileNetV2", "block_#_depthwise", "Conv_#"),
    _rule("MobileNet", "conv_dw_#", "conv_pw_#"),
    _rule("ResNet", "layer#.#.conv#", "layer#.#.bn#"),
    _rule("ResNet", "resnet.encoder.stages.#.layers.#"),
    _rule("ResNet", "conv#_block#_#_conv", "conv#_block#_#_bn", lacks=("pool#_conv",)),
    _rule("DenseNet", "conv#_block#_#_conv", "pool#_conv"),
    _rule("VGG", "block#_conv#"),
    _rule("VGG or AlexNet", "features.#.weight", "classifier.#.weight", lacks=("features.#.#",)),
)

REST: Final = (_rule("optimizer state (Adam)", "exp_avg", "exp_avg_sq"),)

RULES: Final = (
    *ADAPTERS, *DIFFUSION, *SPEECH, *IMAGE_AND_TEXT, *ENCODER_DECODERS, *ENCODERS, *DECODERS, *VISION, *REST,
)  # fmt: skip

GGUF_ARCHITECTURES: Final = {  # general.architecture, where it is not a name by itself; llama.cpp, llama-arch
    "llama": "Llama-like",
    "gpt2": "GPT-2",
    "gptneox": "GPT-NeoX",
    "gptj": "GPT-J",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma2": "Gemma 2",
    "gemma3": "Gemma 3",
    "phi2": "Phi-2",
    "phi3": "Phi-3",
    "bert": "BERT",
    "nomic-bert": "BERT",
    "t5": "T5",
    "clip": "CLIP image encoder",
    "deepseek2": "DeepSeek (multi-head latent attention)",
}

WORDS: Final = (  # in a model's own name, where its tensors' names say nothing; the longer before those inside them
    ("efficientnet", "EfficientNet"), ("mobilenetv3", "MobileNetV3"), ("mobilenetv2", "MobileNetV2"),
    ("mobilenet", "MobileNet"), ("squeezenet", "SqueezeNet"), ("shufflenet", "ShuffleNet"), ("densenet", "DenseNet"),
    ("inception", "Inception"), ("googlenet", "Inception"), ("alexnet", "VGG or AlexNet"), ("resnet", "ResNet"),
    ("resnext", "ResNet"), ("xception", "Xception"), ("vgg", "VGG"), ("yolo", "YOLO"), ("distilbert", "DistilBERT"),
    ("roberta", "RoBERTa"), ("bert", "BERT"), ("whisper", "Whisper"), ("llama", "Llama-like"), ("gpt2", "GPT-2"),
)  # fmt: skip

MODEL_TYPES: Final = {  # config.json's model_type, where the names of several families are the same
    "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma": "Gemma", "gemma2": "Gemma 2",
    "phi3": "Phi-3", "stablelm": "StableLM", "yi": "Yi", "olmo2": "OLMo 2", "roberta": "RoBERTa", "bert": "BERT",
    "xlm-roberta": "XLM-RoBERTa", "camembert": "CamemBERT",
}  # fmt: skip
