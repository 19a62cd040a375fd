"""Runs a graph of command steps on this machine: order, placeholders, ranks, logs, reuse.

Knows neither the Azure SDK nor HTTP nor azft's recipe: whoever has a graph in some form fills `graph.Graph` and calls
`runner.run_graph`. One machine, one step after another; anything larger is Azure ML's business.
"""
