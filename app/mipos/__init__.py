"""What we call at mipOS: the token, the registration of our webhook, and what we send."""
