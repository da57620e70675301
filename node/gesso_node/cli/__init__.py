"""`gesso node …`: the commands, named in `gesso.cli.app` by string.

app.py         init, run, status, doctor
audits.py      audits, calibrate
chosen.py      which node it is, and asking it
membership.py  pause, resume, stake, leave, withdraw
"""
