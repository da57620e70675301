"""Rules of audits: what is checked, by whom, and what follows. Modules that compute on tensors need numpy."""
