"""Audits as a requester sees them: what was checked, what came of it, and checking it again on one's own machine.

facts.py        pure: the chain's audit events of one task to one document and one line
story.py        the arbiter's events in the requester's words
watch.py        what they amount to so far, and when nothing more can come
draw.py         whether the beacon picked a task, and at which steps
subject.py      what is known of a committed task before anybody looks at the work
openings.py     the public openings of a task, from the auditors' bundle or from the node
closeness.py    how close the node's work came to what the auditors computed
learnt.py       what a node learnt in the checked segments of a training
examine.py      a picture task again, from end to end
examine_run.py  a training again: its openings, what they prove alone, the drawn segments
recheck.py      the same checks as an auditor's, on this machine
"""
