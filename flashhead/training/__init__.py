"""Training of FlashHead's networks: data, the VAE, the paper's two stages (DESIGN §1.8).

`python -m flashhead.training` runs it. `import flashhead` imports nothing of it.
"""
