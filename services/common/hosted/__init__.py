"""The base of all backends that call a provider over the network.

backend      the base class: retries, limits and constraints around a provider's call
config       the configuration that all hosted services share
request      sampling parameters in OpenAI's format, and the fields that all services honour
messages     messages in OpenAI's format: texts, images, reasoning, tool calls and their results
tools        tools and the choice among them in OpenAI's format
state        opaque states of parts: made, read, refused if they are another model's
retry        attempts, pauses and deadlines
limits       concurrent calls, queues, and the pause of a model after HTTP 429
constraints  choices and JSON schemas: requested, and checked in the reply
schema       JSON schemas from callers, bounded and compiled
response     parses answers in OpenAI's format
parts        puts the parts of a message together from the pieces of an answer
tokens       log-probabilities
values       single values of a provider's JSON
completion   builds a completion from an answer
report       attempts and usage of a call, for its completion or its error
errors       errors that providers report
keys         API keys: read, checked, hidden in texts
http         HTTP session, limits on what is read, server-sent events
"""
