"""Which tasks are taken, and what is to be done for each: the loop that finds, claims, delivers and settles.

discover.py   gossip: hearing of tasks, and saying that we are here
recall.py     telling again where an old result is
policy.py     what this operator takes
intake.py     what must be there, and true, before a claim can be kept
spare.py      whether a training of ours can make way for a seat
reconcile.py  the loop that drives every task
"""
