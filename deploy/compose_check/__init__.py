"""`deploy/verify-compose`: the Compose file and the image, tried with a Docker engine of its own and no registry.

Standard library only: a part of it runs where nothing else is installed.
"""
