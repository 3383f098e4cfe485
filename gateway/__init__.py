"""The gateway: translates OpenAI's HTTP API into calls of the client, and back.

__main__     `python -m gateway [--config FILE]`
config       gateway.yaml
process      the life of the process: listen, serve, read the configuration again, stop
connection   uvicorn's protocol with bounds for slow callers
app          the routes
exchange     one HTTP request: its body, its answer, a caller that leaves
schema/      what requests and answers hold, as pydantic models
messages     OpenAI's messages and tools into ours
options      OpenAI's parameters into the options of our client
chat, completions, models   the endpoints
logprobs     our tokens in OpenAI's two forms
sse          streams of events
errors       the table from our errors to OpenAI's
openapi      the document at /openapi.json
"""
