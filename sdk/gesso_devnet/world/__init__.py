"""The picture world of the tiny base model: what can be drawn, how people say it, and how to tell.

``scene`` holds the vocabulary, ``draw`` renders a scene, ``caption`` words it, ``evaluate`` reads a
picture back, ``prompts`` draws held-out prompts. Only numpy is needed; nothing here imports torch.
"""
