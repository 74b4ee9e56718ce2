"""`make proof`: real processes and a real Postgres are hurt; then the ledger is compared with the sender's book."""
