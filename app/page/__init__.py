"""The operator page, /ui: the stock, what needs a person, and what a person can do about it."""
