"""The base of all backends that call a provider over the network.

backend        the base class: retries, limits and constraints around a provider's call
config         the configuration that all hosted services share
request        sampling parameters in OpenAI's format, and the fields that all services honour
messages       messages in OpenAI's format: texts, images, reasoning, tool calls and their results
tools          tools and the choice among them in OpenAI's format
state          opaque states of parts: made, read, refused if they are another model's
provider_call  one request to a provider, with its cost noted in the journal
retry          attempts, pauses and deadlines
limits         concurrent calls, and the queue of each model
pace           when the next call may be sent, learned from HTTP 429
in_flight      a provider's bound on calls in flight, learned from HTTP 429
breaker        refuses calls to a model whose provider keeps failing
journal        requests to providers on disk, so that a kill loses no costs
constraints    choices and JSON schemas: requested, and checked in the reply
schema         JSON schemas from callers, bounded and compiled
response       parses answers in OpenAI's format
parts          puts the parts of a message together from the pieces of an answer
thinking       reasoning between <think> and </think>
tokens         log-probabilities
usage          tokens and cost of an answer
values         single values of a provider's JSON
completion     builds a completion from an answer
report         attempts and usage of a call, for its completion or its error
most           the most that a request of unknown cost can have cost
errors         the errors for what providers report
failures       reads an error that a provider reports, in any shape
wording        recognises errors by their words
waits          how long a provider asks callers to wait
keys           API keys: read, checked, hidden in texts
http           HTTP session, proxies, limits on what is read
events         server-sent events
"""
