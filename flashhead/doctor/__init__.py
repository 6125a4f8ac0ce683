"""What `doctor` finds out about a machine and a checkpoint, for a page in a bug report.

Facts are read in `machine` and `files`, the networks are tried in `self_test`, and `examine` puts
them together. Nothing here raises over what it finds: it becomes a line.
"""
