"""Who is looked at, when, and what happened next."""
