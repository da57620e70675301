"""The other side of the wire: where nodes are, links to a few of them, and what a requester is told.

addresses.py   where other nodes can be reached
neighbours.py  a few links of our own, so that the network outlives its bootstrap peers
progress.py    progress, and the signed handover, to the requester
"""
