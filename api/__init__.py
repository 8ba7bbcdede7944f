"""The REST service of FastEWQ: `fastewq serve`, or any ASGI server on `fastewq.api.app:create_app`.

settings.py   every setting, its default and its environment variable
app.py        the application: routes, documentation, life cycle
envelope.py   around every request: id, headers, metrics, log line, errors
guard.py      what a request must pass before a route sees it: concurrency, key, rate; and the time limit
access.py     bearer keys and rate limits
routes.py     one handler per route
reading.py    body -> bytes -> JSON -> a request model
planner.py    request models -> plans, one or many, cached
shortcut.py   straight to the handlers that take nothing but the request
answers.py    documents -> responses with an entity tag
schemas.py    requests and answers as pydantic models: what OpenAPI documents
errors.py     errors of the service and the one table error -> HTTP status
lookup.py     a model's name -> its config, from the Hub where allowed
service.py    what a worker holds: settings, predictor, readiness
threads.py    long work in threads, and what goes on beside the requests
server.py     uvicorn, draining;  protocol.py: HTTP and bounds on connections;  metrics.py, logs.py
"""
