"""What every backend shares that speaks for a provider on the network.

backend      the way of a request, whole or streamed: the base class
assembly     a completion out of what providers send
config       what stands in its configuration; which models may be asked for
statuses     HTTP status -> error, Retry-After
redaction    no key leaves the process
limits       how many calls at once; a model that answers 429 rests
attempts     one upstream call: its place, its tries, its deadline
constraints  choices and JSON schema: asked for, checked on return
rules        what a constrained reply must be
http         one session for all calls
bounds       how much of an answer is read
"""
