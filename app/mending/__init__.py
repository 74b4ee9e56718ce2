"""What people mend: refused deliveries, suspected duplicates, drift. Use cases; each owns its transactions."""
