"""What mipOS sends us: verified, read, applied in groups, answered."""
