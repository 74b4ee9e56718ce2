"""The use cases of an operator: each owns its transactions, and is called by its command."""
