"""What tests of every kind use: a Postgres of their own, a sender that signs real bytes, and looks into the tables."""
