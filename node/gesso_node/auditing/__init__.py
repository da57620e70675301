"""The node as auditor and juror: it watches for tasks to audit, runs their steps again, and says what it found.

watch.py      which committed tasks there are, and what became of them
ask.py        openings from a node, from the public evidence, or from a backup
work.py       a task of any kind as the two roles see it
works.py      which work a case is
pictures.py   picture tasks: steps again
inspect.py    opened tensors and re-run steps to a verdict
trainings.py  trainings: segments again
nothing.py    trainings of which nothing came
run_files.py  checkpoints and adapters that a node opened, as verified files
run_checks.py what is exact about a training
auditor.py    one audit: seal, commit, judge, reveal
juror.py      one dispute: review, vote, reveal, appeal
record.py     what the journal keeps of both
loop.py       the loop that drives them
recheck.py    the same checks for a requester, outside a node
"""
