"""Rules of training: what may be asked for, what every step draws, what is committed, how a segment is judged."""
