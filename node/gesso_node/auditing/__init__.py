"""The node as auditor and juror: it watches for tasks to audit, runs their steps again, and says what it found.

watch.py       which committed tasks there are, and what became of them
case.py        one of them: the chain's word, and the journal's on our part
assignment.py  what is known of it before the work is looked at
ask.py         openings from a node, from the public evidence, or from a backup
silence.py     whether a node had its time to open
work.py        a task of any kind as the two roles see it
works.py       which work a case is
pictures.py    picture tasks: steps again
inspect.py     opened tensors and re-run steps to a verdict
trainings.py   trainings: segments again
run_opened.py  a training's openings, from its node or from public evidence
run_compared.py  what its files say beside ours
run_results.py  what it handed over
nothing.py     trainings of which nothing came
run_files.py   checkpoints and adapters that a node opened, as verified files
run_samples.py  a training's samples, drawn again
stranger.py    a stranger's picture, decoded with care
run_checks.py  what is exact about a training
shelf.py       the disk that others' states and our evidence may take
auditor.py     one audit: seal, commit, judge, reveal
juror.py       one dispute: review, vote, reveal, appeal
sending.py     transactions, and what a refusal means
reveals.py     several reveals in one transaction
record.py      what the journal keeps of both
rests.py       models whose audits this machine could not judge: no seats for them
kept.py        and brings back to a case, whatever the chain took back
report.py      what came of it, for whoever looks
loop.py        the loop that drives them
parts.py       all of it put together from a node's own
cheats.py      ways to audit without auditing, for tests
recheck.py     the same checks for a requester, outside a node
"""
