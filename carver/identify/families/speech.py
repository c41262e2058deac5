"""Speech: recognition, synthesis and codecs (transformers, openai/whisper, fairseq, NeMo, Coqui, VITS, Tacotron 2)."""

from __future__ import annotations

from typing import Final

from carver.identify.families.rule import rule

CONVOLUTIONS: Final = "feature_extractor.conv_layers.#"

SPEECH: Final = (
    rule("MusicGen", "audio_encoder.quantizer.layers.#", "decoder.model.decoder.layers.#"),
    rule("Bark", "coarse_acoustics.layers.#", "codec_model"),
    rule("XTTS", "gpt.gpt.h.#", "hifigan_decoder"),
    rule("CLAP", "audio_model.audio_encoder", "text_model.encoder.layer.#"),
    rule("SpeechT5", "wrapped_decoder.layers.#", "speech_decoder_postnet"),
    rule("SpeechT5", "wrapped_encoder.layers.#"),
    rule("Speech2Text", "encoder.conv.conv_layers.#", "decoder.layers.#.encoder_attn.q_proj"),
    rule("Whisper", "encoder.conv#", "encoder.layers.#.self_attn.q_proj", "decoder.layers.#.encoder_attn.q_proj"),
    rule("Whisper", "encoder.blocks.#.attn.query", "decoder.blocks.#.cross_attn.query"),
    rule("WavLM", CONVOLUTIONS, "encoder.layers.#.attention.gru_rel_pos_linear"),
    rule("HuBERT", f"hubert.{CONVOLUTIONS}"),
    rule("wav2vec 2.0", f"wav#vec#.{CONVOLUTIONS}"),
    rule("wav2vec 2.0-like", CONVOLUTIONS, "encoder.pos_conv_embed"),
    rule("wav2vec 2.0-like", CONVOLUTIONS, "encoder.pos_conv.#"),
    rule("SeamlessM4T", "speech_encoder.encoder.layers.#", "t#u_model", "text_decoder"),
    rule("wav2vec2-BERT", "encoder.layers.#.conv_module.depthwise_conv", "feature_projection.projection"),
    rule(
        "Parakeet or Canary (FastConformer)",
        "encoder.subsampling.layers.#",
        "encoder.layers.#.self_attn.relative_k_proj",
    ),
    rule("FastSpeech 2", "encoder.conformer_layers.#.self_attn.linear_pos", "duration_predictor.conv_layers.#"),
    rule("Dia", "encoder.layers.#.pre_sa_norm", "decoder.layers.#.self_attention.q_proj"),
    rule("DAC", "quantizer.quantizers.#.codebook", "encoder.block.#.res_unit#.conv#"),
    rule("Conformer", "encoder.layers.#.conv.depthwise_conv", "encoder.layers.#.self_attn.linear_pos"),
    rule("RVC voice", "enc_p.emb_phone", "flow.flows.#"),
    rule("VITS", "enc_p.encoder.attn_layers.#", "flow.flows.#"),
    rule("VITS", "text_encoder.encoder.attn_layers.#", "posterior_encoder"),
    rule("VITS", "posterior_encoder.wavenet", "flow.flows.#"),
    rule("Tacotron 2", "decoder.attention_rnn", "postnet.convolutions.#"),
    rule("FastSpeech 2", "variance_adaptor.duration_predictor"),
    rule("HiFi-GAN", "^ups.#", "^resblocks.#.convs#.#"),
    rule("EnCodec", "^quantizer.layers.#.codebook", "^encoder.layers.#.conv"),
    rule("EnCodec", "^quantizer.vq.layers.#._codebook"),
    rule("Audio Spectrogram Transformer", "audio_spectrogram_transformer.encoder.layer.#"),
)
