"""Alembic's revisions, packaged with the service so that `pos-sync migrate` finds them."""
