"""Family table: the rules of all subjects in the order in which they are asked, and other words that tell a family.

The first rule that fits counts, so the special stands before the general. A family is added in its subject's module.
"""

from __future__ import annotations

from typing import Final

from carver.identify.families.adapters import ADAPTED as ADAPTED
from carver.identify.families.adapters import ADAPTERS
from carver.identify.families.diffusion import DIFFUSION
from carver.identify.families.image_and_text import IMAGE_AND_TEXT
from carver.identify.families.language import DECODERS as DECODERS
from carver.identify.families.language import ENCODER_DECODERS, ENCODERS
from carver.identify.families.rule import Rule as Rule
from carver.identify.families.rule import rule
from carver.identify.families.speech import SPEECH
from carver.identify.families.vision import VISION

REST: Final = (
    rule("Transformer (PyTorch's own)", "layers.#.self_attn.in_proj_weight", "layers.#.linear#"),
    rule("optimizer state (Adam)", "exp_avg", "exp_avg_sq", alone=True),
)

RULES: Final = (
    *ADAPTERS, *DIFFUSION, *SPEECH, *IMAGE_AND_TEXT, *ENCODER_DECODERS, *ENCODERS, *DECODERS, *VISION, *REST,
)  # fmt: skip

GGUF_ARCHITECTURES: Final = {  # general.architecture, where it is no name by itself (llama.cpp, ComfyUI-GGUF)
    "llama": "Llama-like", "llama4": "Llama 4", "gpt2": "GPT-2", "gptneox": "GPT-NeoX", "gptj": "GPT-J",
    "bloom": "BLOOM", "gpt-oss": "GPT-OSS", "falcon": "Falcon", "mpt": "MPT", "starcoder": "GPT-BigCode",
    "starcoder2": "StarCoder2", "qwen": "Qwen", "qwen2": "Qwen2", "qwen2vl": "Qwen-VL", "qwen2moe": "Qwen-MoE",
    "qwen3": "Qwen3", "qwen3moe": "Mixture of experts, Qwen-like", "gemma": "Gemma", "gemma2": "Gemma 2",
    "gemma3": "Gemma 3", "phi2": "Phi-2", "phi3": "Phi-3", "phimoe": "Phi-3.5 MoE", "stablelm": "StableLM",
    "internlm2": "InternLM2", "baichuan": "Baichuan", "chatglm": "ChatGLM", "glm4": "GLM-4",
    "command-r": "Cohere Command R", "dbrx": "DBRX", "olmo": "OLMo", "olmo2": "OLMo 2", "nemotron": "Nemotron",
    "jamba": "Jamba-like", "mamba": "Mamba", "mamba2": "Mamba", "rwkv6": "RWKV", "rwkv7": "RWKV", "bert": "BERT",
    "nomic-bert": "Nomic BERT", "t5": "T5", "t5encoder": "T5 encoder",
    "deepseek2": "DeepSeek (multi-head latent attention)", "clip": "CLIP image encoder", "flux": "Flux",
    "sd1": "Stable Diffusion 1 UNet", "sdxl": "Stable Diffusion XL UNet", "sd3": "Stable Diffusion 3", "wan": "Wan",
    "deepseek": "DeepSeek", "qwen3vl": "Qwen-VL", "qwen3vlmoe": "Qwen-VL", "qwen3next": "Qwen-MoE",
    "gemma3n": "Gemma 3n", "gemma4": "Gemma 4", "arcee": "Arcee", "apertus": "Apertus", "granite": "Granite",
    "granitemoe": "Granite MoE", "lfm2": "LFM", "modern-bert": "ModernBERT", "nemotron_h": "Nemotron-H",
    "olmoe": "OLMoE", "mistral3": "Mistral 3", "smollm3": "SmolLM3", "minicpm3": "MiniCPM3",
    "cohere2": "Cohere Command R", "rwkv6qwen2": "RWKV", "arwkv7": "RWKV", "nomic-bert-moe": "Nomic BERT",
    "glm4moe": "GLM-4 MoE", "ernie4_5": "ERNIE 4.5", "ernie4_5-moe": "ERNIE 4.5 MoE",
    "hyvid": "HunyuanVideo", "ltxv": "LTX-Video", "aura": "AuraFlow", "lumina2": "Lumina", "qwen_image": "Qwen-Image",
}  # fmt: skip

WORDS: Final = (  # in a model's own name, where its tensors' names say nothing; the longer before those inside them
    ("efficientnet", "EfficientNet"), ("mobilenetv3", "MobileNetV3"), ("mobilenetv2", "MobileNetV2"),
    ("mobilenet", "MobileNet"), ("squeezenet", "SqueezeNet"), ("shufflenet", "ShuffleNet"), ("densenet", "DenseNet"),
    ("inception", "Inception"), ("googlenet", "Inception"), ("alexnet", "AlexNet"), ("convnext", "ConvNeXt"),
    ("mnasnet", "MnasNet"), ("nasnet", "NASNet"), ("resnet", "ResNet"), ("resnext", "ResNet"),
    ("xception", "Xception"), ("vgg", "VGG"), ("yolo", "YOLO"), ("distilbert", "DistilBERT"), ("roberta", "RoBERTa"),
    ("bert", "BERT"), ("whisper", "Whisper"), ("llama", "Llama-like"), ("gpt2", "GPT-2"),
)  # fmt: skip

MODEL_TYPES: Final = {  # config.json's model_type, where the names of several families are the same
    "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma": "Gemma", "gemma2": "Gemma 2",
    "phi3": "Phi-3", "stablelm": "StableLM", "yi": "Yi", "olmo2": "OLMo 2", "granite": "Granite",
    "smollm3": "SmolLM3", "roberta": "RoBERTa", "bert": "BERT", "xlm-roberta": "XLM-RoBERTa",
    "camembert": "CamemBERT", "electra": "ELECTRA", "bart": "BART", "mbart": "mBART", "marian": "Marian",
    "pegasus": "Pegasus", "m2m_100": "M2M-100 or NLLB", "blenderbot": "Blenderbot", "t5": "T5", "mt5": "mT5",
    "qwen3_moe": "Qwen3-MoE", "olmoe": "OLMoE", "deepseek_v2": "DeepSeek-V2", "deepseek_v3": "DeepSeek-V3",
    "llava": "LLaVA", "llava_next": "LLaVA-NeXT", "paligemma": "PaliGemma", "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL", "mamba": "Mamba", "mamba2": "Mamba 2", "falcon_mamba": "Falcon Mamba",
    "jamba": "Jamba", "glm": "GLM-4", "glm4": "GLM-4", "mixtral": "Mixtral", "glm4_moe": "GLM-4 MoE",
    "ernie4_5_moe": "ERNIE 4.5 MoE", "minimax": "MiniMax", "minimax_m2": "MiniMax-M2", "lfm2": "LFM2",
}  # fmt: skip
REFINED: Final = frozenset((  # the families that a config.json may tell closer
    *("Llama-like", "BERT", "BERT-like", "RoBERTa", "BART-like", "T5", "LLaVA-like", "Qwen-VL"),
    *("Mixture of experts", "Mixture of experts, Qwen-like", "DeepSeek (multi-head latent attention)"),
    *("LFM", "Mamba", "Jamba-like"),
))  # fmt: skip
