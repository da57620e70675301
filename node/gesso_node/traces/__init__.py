"""Proof of what was done: kept while anybody may ask for it, and opened to those who may.

kept.py        traces on disk: until nobody may ask any more, then within a budget
handed.py      blobs that leave with the trace they were made for
backup.py      an encrypted copy of a picture's trace in the blob stores
run_backup.py  the same of a training's, piece by piece
opened.py      a trace of our own, ready to be opened
opened_run.py  the same for a training
at_hand.py     what was opened lately, and costs a look-up
rights.py      who may see which leaves, and when
turns.py       who is answered when
lent.py        models of our committed tasks, for whoever judges them
openings.py    the answers
"""
