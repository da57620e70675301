"""What the operator sees of a running node.

status.py       one read model, for the command line, the page and the metrics
overview.py     a running node's parts to that model
lines.py        tasks in few words
api.py          the status API, on loopback
doctor.py       checks that explain
calibration.py  how far this machine's arithmetic lies from the reference
"""
