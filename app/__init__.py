"""The POS side of mipOS inventory synchronisation: signed stock movements in, exactly once."""
