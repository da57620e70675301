"""Which tasks are taken, and what is to be done for each: the loop that finds, claims, delivers and settles.

discover.py    gossip: hearing of tasks, and saying that we are here
recall.py      telling again where an old result is
policy.py      what this operator takes
intake.py      what must be there, and true, before a claim can be kept
judging.py     saying yes or no to a task, by the two
spare.py       whether a training of ours can make way for a seat
reconcile.py   the loop that drives every task
background.py  what runs beside the loop
sending.py     transactions of a task, and what a refusal means
delivery.py    its result to the requester, and to every store
settlement.py  settling what is due, many at once
parts.py       all of it put together from a node's own
"""
