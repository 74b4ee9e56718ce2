"""The engine: deliveries are applied in groups, one statement for each group, and each gets its own answer."""
