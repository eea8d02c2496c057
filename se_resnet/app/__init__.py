"""A local web page to try a run: ``python -m se_resnet.app``.

``serve``: starts it. ``server``: the page and its addresses. ``connections``: the HTTP server and
its limits. ``uploads``: the address that takes an image. ``run_facts``: what the page says of a
run. ``example_images``: images to try. Needs the extra ``app``.

A new part of the page goes to ``server`` and ``templates/``. Imports every package before it.
"""
