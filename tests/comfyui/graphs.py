"""Prompts in ComfyUI's API format."""

from __future__ import annotations

from typing import Any

from .server import CHECKPOINT, PORTRAIT, SPEECH


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def lite(
    *,
    checkpoint: str = f"{CHECKPOINT}/Model_Lite",
    weight_dtype: str = "fp32",
    portrait: str = PORTRAIT,
    speech: str = SPEECH,
    width: int = 64,
    height: int = 64,
    mode: str = "stream",
    cache_seconds: float = 8.0,
    seed: int = 42,
    steps: int = 4,
    shift: float = 5.0,
    color_match: float = 1.0,
    guidance: float = 1.0,
    sampler: str = "FlashHeadSampler",
) -> dict[str, Any]:
    """Portrait and speech to saved images ("images") and a saved video ("video")."""
    return {
        "load": node("FlashHeadLoadCheckpoint", checkpoint=checkpoint, weight_dtype=weight_dtype),
        "picture": node("LoadImage", image=portrait),
        "speech": node("LoadAudio", audio=speech),
        "portrait": node(
            "FlashHeadPreparePortrait", image=["picture", 0], width=width, height=height
        ),
        "audio": node(
            "FlashHeadEncodeAudio",
            audio_encoder=["load", 2],
            audio=["speech", 0],
            mode=mode,
            cache_seconds=cache_seconds,
        ),
        "sampler": node(
            sampler,
            model=["load", 0],
            vae=["load", 1],
            audio=["audio", 0],
            portrait=["portrait", 0],
            seed=seed,
            steps=steps,
            shift=shift,
            color_match=color_match,
            guidance=guidance,
        ),
        "images": node("SaveImage", images=["sampler", 0], filename_prefix="frames"),
        "create": node("CreateVideo", images=["sampler", 0], fps=25.0, audio=["speech", 0]),
        "video": node(
            "SaveVideo", video=["create", 0], filename_prefix="talk", format="auto", codec="auto"
        ),
    }


def chunk_by_chunk(count: int, *, color_match: float = 1.0, **settings: Any) -> dict[str, Any]:
    """What `lite` does, with a node for each step of each of `count` chunks; the images of chunk i
    are saved by "images<i>", the last state is ["decode<count - 1>", 1]."""
    whole = lite(**settings)
    sampler = whole["sampler"]["inputs"]
    graph = {name: whole[name] for name in ("load", "picture", "speech", "portrait", "audio")}
    graph["start"] = node(
        "FlashHeadStartStream",
        vae=sampler["vae"],
        portrait=sampler["portrait"],
        seed=sampler["seed"],
    )
    state = ["start", 0]
    for chunk in range(count):
        graph[f"sample{chunk}"] = node(
            "FlashHeadSampleChunk",
            model=sampler["model"],
            audio=sampler["audio"],
            state=state,
            chunk=chunk,
            steps=sampler["steps"],
            shift=sampler["shift"],
            guidance=sampler["guidance"],
        )
        graph[f"decode{chunk}"] = node(
            "FlashHeadDecodeChunk",
            vae=sampler["vae"],
            latent=[f"sample{chunk}", 0],
            state=[f"sample{chunk}", 1],
            color_match=color_match,
        )
        graph[f"images{chunk}"] = node(
            "SaveImage", images=[f"decode{chunk}", 0], filename_prefix="chunk"
        )
        state = [f"decode{chunk}", 1]
    return graph


def in_a_ksampler() -> dict[str, Any]:
    """Our MODEL where it does not belong: "ksampler"."""
    return {
        "load": lite()["load"],
        "latent": node("EmptyLTXVLatentVideo", width=64, height=64, length=33, batch_size=1),
        "words": node("LotusConditioning"),  # the one core CONDITIONING that needs no text model
        "ksampler": node(
            "KSampler",
            model=["load", 0],
            positive=["words", 0],
            negative=["words", 0],
            latent_image=["latent", 0],
            seed=1,
            steps=2,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "save": node("SaveLatent", samples=["ksampler", 0], filename_prefix="x"),
    }
