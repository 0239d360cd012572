"""The page at `/`: plain HTML, CSS and JavaScript modules, and the routes that serve them."""
