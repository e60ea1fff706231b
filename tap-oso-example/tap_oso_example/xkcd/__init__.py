"""XKCD, the web comic: https://xkcd.com/json.html."""
