"""Packages of somebody else: their own tests run where they are installed (``test_thirdparty_package.py``)."""

collect_ignore_glob = ["*/tests/*"]
