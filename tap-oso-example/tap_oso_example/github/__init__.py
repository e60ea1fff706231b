"""GitHub's REST API: https://docs.github.com/en/rest."""
