"""The base of all backends that call a provider over the network.

backend      the base class: retries, limits and constraints around a provider's call
config       the configuration that all hosted services share
request      messages and sampling parameters in OpenAI's format
retry        attempts, pauses and deadlines
limits       concurrent calls, queues, and the pause of a model after HTTP 429
constraints  choices and JSON schemas: requested, and checked in the reply
schema       JSON schemas from callers, bounded and compiled
response     parses answers in OpenAI's format
values       single values of a provider's JSON
completion   builds a completion from an answer
errors       errors that providers report
keys         API keys: read, checked, hidden in texts
http         HTTP session, limits on what is read, server-sent events
"""
