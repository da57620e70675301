"""What a node knows: of the chain's tasks, of the other nodes, and of itself. Read from the chain, written to disk.

journal.py    SQLite: one row a task, one transaction a write
book.py       every task in hand: the chain's word and the journal's word on it
observe.py    the chain's events, which keep the book true
passes.py     when it is worth while to look again
rivals.py     the other nodes, and from when one of them may claim
pace.py       how fast this machine draws, trains and downloads
"""
