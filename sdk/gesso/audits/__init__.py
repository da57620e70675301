"""Audits as a requester sees them: what was checked, what came of it, and checking it again on one's own machine.

facts.py      pure: the chain's audit events of one task to one document and one line
draw.py       whether the beacon picked a task, and at which steps
evidence.py   the public openings of a task, from the auditors' bundle or from the node
examine_run.py  a training again: its openings, what they prove alone, the drawn segments
recheck.py    the same checks as an auditor's, on this machine
"""
