"""A local web page to try a run: ``python -m se_resnet.app``.

``serve``: starts the server. ``server``: the page and its routes. ``connections``: the HTTP server
and its limits. ``uploads``: the route that receives an image. ``run_facts``: facts about the run
that the page shows. ``example_images``: images to try. Needs the extra ``app``.

A new part of the page goes to ``server`` and ``templates/``. Imports every package before it.
"""
