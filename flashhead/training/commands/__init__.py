"""One module for each `python -m flashhead.training` command, with a `main(arguments)`."""
