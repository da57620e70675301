"""Doing one task: models and inputs fetched, the executor run, its files published.

workbench.py    one task, from its model to an outcome in the journal
training.py     what is its own about a training
run_bench.py    inputs of a training or of parts of somebody's, by hash, and the executor
checkpoints.py  a training's checkpoints, kept where others find them
warming.py      wanted models loaded before a task needs them
results.py      files to blobs, a manifest that names them, its root
"""
