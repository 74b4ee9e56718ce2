"""The processes: uvicorn as production runs it, its HTTP protocol, and the health check of a container."""
