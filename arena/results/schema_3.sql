-- One file per experiment. A replay of recorded replies gives the same rows, except for the
-- latencies of the replies.

CREATE TABLE IF NOT EXISTS experiments (
    name        TEXT PRIMARY KEY,
    config      TEXT NOT NULL,  -- the whole configuration, as canonical JSON
    fingerprint TEXT NOT NULL   -- SHA-256 of the settings that decide the games
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS models (           -- every participant, model or not
    agent  TEXT PRIMARY KEY,    -- its name in the experiment
    type   TEXT NOT NULL,       -- llm, random, human, mcts, minimax
    model  TEXT,                -- llm: the full prefixed name
    config TEXT NOT NULL        -- its settings, as canonical JSON
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS episodes (
    episode TEXT PRIMARY KEY,   -- game/number/agents in seat order
    game    TEXT NOT NULL,      -- OpenSpiel's string, with parameters
    number  INTEGER NOT NULL,   -- counts from 0 within game and line-up
    agents  TEXT NOT NULL,      -- JSON list, in seat order
    seed    INTEGER NOT NULL,   -- of chance: the same for all line-ups of game and number
    status  TEXT NOT NULL CHECK (status IN ('finished', 'truncated', 'forfeited', 'failed')),
    reason  TEXT,               -- failed: the error; truncated, forfeited: the reason
    loser   INTEGER,            -- forfeited: the seat; NULL: several seats in the same ply, so nobody won
    returns TEXT,               -- finished, truncated: OpenSpiel's returns, JSON list in seat order
    plies   INTEGER NOT NULL    -- steps of the game, including chance events
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS moves (            -- one row for each answer and each chance event
    episode           TEXT NOT NULL REFERENCES episodes,
    ply               INTEGER NOT NULL,
    seat              INTEGER NOT NULL,  -- -1: chance
    attempt           INTEGER NOT NULL,  -- 0, and one more after each illegal answer in the same turn
    agent             TEXT,              -- NULL: chance
    status            TEXT NOT NULL CHECK (status IN ('ok', 'illegal', 'unparseable', 'error')),
    problem           TEXT,              -- not ok: the reason; error: code, reason and message
    policy            TEXT,              -- not ok: what was done about it: retry, forfeit, random
    action            INTEGER,           -- the played action (policy random: the drawn one)
    action_text       TEXT,              -- OpenSpiel's name of the action
    legal_actions     TEXT,              -- JSON list of [action, name]
    board             TEXT,              -- before the move, as a spectator sees it
    prompt            TEXT,
    reply             TEXT,
    reasoning         TEXT,
    model             TEXT,              -- the model that answered
    latency_ms        REAL,
    finish_reason     TEXT,              -- why the reply ended: stop, length, refusal, ...
    prompt_tokens     INTEGER,           -- NULL in this and the next columns: not reported
    completion_tokens INTEGER,
    reasoning_tokens  INTEGER,           -- part of completion_tokens
    cost_picousd      INTEGER,           -- 10^-12 US dollars, all attempts together
    cost_basis        TEXT,              -- billed, price_list or free
    attempts          INTEGER,           -- requests to the provider of a hosted model
    failed_attempts_picousd INTEGER,     -- cost of those that failed, part of cost_picousd
    request_id        TEXT,              -- also in the logs of router and services
    replayed          INTEGER,           -- 1: the reply to an earlier call with this request_id, which was lost; it is paid once
    enforcement       TEXT,              -- how the choices were enforced: decoding, provider or prompt
    provider          TEXT,              -- who answered, behind a gateway, and how
    region            TEXT,
    precision         TEXT,              -- of the weights, such as bf16
    model_revision    TEXT,
    system_fingerprint TEXT,
    engine            TEXT,
    replica           TEXT,              -- address of the service process
    service_version   TEXT,
    tokens            TEXT,              -- JSON of the message TokenTrace, with store_tokens: true
    PRIMARY KEY (episode, ply, seat, attempt)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS calls (            -- the journal: replies of episodes that have not ended or have failed
    episode TEXT NOT NULL,
    ply     INTEGER NOT NULL,
    seat    INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    request TEXT NOT NULL,      -- JSON of ModelCall
    reply   TEXT NOT NULL,      -- JSON of ModelReply
    PRIMARY KEY (episode, ply, seat, attempt)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS failed_calls (     -- calls that failed although they took something; other runs may repeat them
    episode           TEXT NOT NULL,
    ply               INTEGER NOT NULL,
    seat              INTEGER NOT NULL,
    attempt           INTEGER NOT NULL,
    number            INTEGER NOT NULL,  -- counts from 0: the same call can fail several times
    reason            TEXT NOT NULL,     -- code and reason of the error
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    cost_picousd      INTEGER,
    PRIMARY KEY (episode, ply, seat, attempt, number)
) WITHOUT ROWID;
