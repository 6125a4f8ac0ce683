"""Training a FlashHead: data, the VAE, the paper's two stages (DESIGN §1.8).

Nothing here is imported by `import flashhead`, and nothing here is needed to generate.
"""
