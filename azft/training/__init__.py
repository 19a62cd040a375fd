"""What happens on a compute node once data are token ids: models, techniques, the loop, evaluation, packaging.

Imports only the vocabulary and `azft.data`, so that it runs where there is neither Azure's SDK nor a command line.
"""
