"""The demo: a real pretrained sentence encoder with its matrices projected to Monarch.

``structmat demo`` on the command line; :func:`structmat.demo.run.run` from Python. Needs the extra
``demo``; nothing here is imported by ``import structmat``.
"""
