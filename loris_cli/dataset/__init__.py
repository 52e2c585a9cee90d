"""Many clips: their manifest, and how they are made."""
