"""The pure core: what a movement is and what it does to a level. No FastAPI, SQLAlchemy or HTTP client in here."""
