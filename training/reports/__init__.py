"""Model card, contact sheets and previews."""
