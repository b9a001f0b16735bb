"""Example models, their server and the script that trains them; the gateway imports none of it."""
