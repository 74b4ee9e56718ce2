"""The POS's own side: it records sales, counts and receipts, and reads its stock."""
