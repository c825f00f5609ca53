"""The console: what a person sees of the desk, and decides, in a browser (docs/console.md).

sessions    who is there: a link that is used once, then a sealed cookie
guard       every answer in JSON but the login's asks for that session
login       the link for the session, and the way out
pages       the shell and its modules, as they lie in `static/`
app         the table of areas, and all of it as one ASGI application
"""
