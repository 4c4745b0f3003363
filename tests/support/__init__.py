"""Real servers, fault proxies, images and the command's runner for the black-box suite.

Nothing here imports the product's transfer code, which must not check itself.
"""
