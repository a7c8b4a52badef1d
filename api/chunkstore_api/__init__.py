"""The HTTP API: datasets and their files over HTTP, on top of the library.

`app.create_app` makes the application, `server.serve` runs it; `chunkstore serve` is the verb. The
package needs the extra `api`; neither the library nor the command line imports it before that verb.
"""
