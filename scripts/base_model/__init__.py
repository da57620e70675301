"""The stages that train gesso-tiny, one file each; ``scripts/train_base_model.py`` runs them in order."""
