"""What each Azure target offers and refuses: which of its parameters a recipe's key becomes, or why it becomes none.

Pure rules over a recipe and the dated catalog. Every key of the recipe has a row for every target, so that none is
silently dropped; a test holds the tables to that.
"""
