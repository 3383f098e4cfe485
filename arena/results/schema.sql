-- A store of episodes that only grows: an episode that has ended is not changed any more. Keys
-- mean the same in every file, ids only inside one file.

CREATE TABLE IF NOT EXISTS meta (             -- one row
    open   INTEGER NOT NULL,    -- 1: a process writes to the file, or was killed
    run_id TEXT NOT NULL        -- prefix of the ids of all requests
);

CREATE TABLE IF NOT EXISTS experiments (      -- who requested episodes; owns none of them
    name   TEXT PRIMARY KEY,
    config TEXT NOT NULL        -- its latest file, as canonical JSON
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS runs (             -- a process that played, and what it spent
    id           INTEGER PRIMARY KEY,
    key          TEXT NOT NULL UNIQUE,  -- random
    experiment   TEXT NOT NULL,         -- its name
    started      INTEGER NOT NULL,      -- seconds since 1970
    arena        TEXT NOT NULL,         -- version of the arena
    client       TEXT NOT NULL,         -- version of arena-llm, which has the contract
    open_spiel   TEXT NOT NULL,
    python       TEXT NOT NULL,
    host         TEXT NOT NULL,         -- hash of the machine's name
    tokens       INTEGER NOT NULL,      -- prompt and completion
    cost_picousd INTEGER NOT NULL,      -- 10^-12 US dollars
    uncounted    INTEGER NOT NULL,      -- replies with unknown tokens
    unpriced     INTEGER NOT NULL,      -- requests with unknown cost
    bounded      INTEGER NOT NULL,      -- those of them whose highest cost is known
    unpriced_picousd INTEGER NOT NULL   -- the most that these can have cost
);

CREATE TABLE IF NOT EXISTS players (          -- every participant, model or not
    id     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,  -- hash of the other columns
    type   TEXT NOT NULL,         -- llm, random, human, mcts, minimax, ...
    model  TEXT,                  -- llm: the full prefixed name
    config TEXT NOT NULL,         -- its settings, as canonical JSON
    copy   INTEGER NOT NULL       -- tells players of one experiment with equal settings apart
);

CREATE TABLE IF NOT EXISTS names (            -- how experiments call the players
    id         INTEGER PRIMARY KEY,
    experiment TEXT NOT NULL,
    name       TEXT NOT NULL,
    player     INTEGER NOT NULL REFERENCES players,
    UNIQUE (experiment, name, player)
);

CREATE TABLE IF NOT EXISTS games (
    id         INTEGER PRIMARY KEY,
    game       TEXT NOT NULL UNIQUE,  -- OpenSpiel's string, with parameters
    dictionary BLOB                   -- of zlib, for the game's transcripts
);

CREATE TABLE IF NOT EXISTS origins (          -- who answered for a model, and how
    id             INTEGER PRIMARY KEY,
    model          TEXT NOT NULL,
    provider       TEXT NOT NULL,
    region         TEXT NOT NULL,
    precision      TEXT NOT NULL,
    model_revision TEXT NOT NULL,
    engine         TEXT NOT NULL,
    enforcement    TEXT NOT NULL,
    UNIQUE (model, provider, region, precision, model_revision, engine, enforcement)
);

CREATE TABLE IF NOT EXISTS episodes (
    id         INTEGER PRIMARY KEY,
    key        TEXT NOT NULL UNIQUE,  -- hash of everything that decides the episode (keys.py)
    game       INTEGER NOT NULL REFERENCES games,
    lineup     TEXT NOT NULL,         -- JSON list of players, in seat order
    deal       INTEGER NOT NULL,      -- seed of chance: the same for all line-ups of game and number
    number     INTEGER NOT NULL,      -- of the deal, in the experiment that played the episode
    status     TEXT NOT NULL CHECK (status IN ('finished', 'truncated', 'forfeited', 'failed')),
    reason     TEXT,                  -- failed: the error; truncated, forfeited: the reason
    loser      INTEGER,               -- forfeited: the seat; NULL: several seats in the same ply, so nobody won
    returns    TEXT,                  -- finished, truncated: OpenSpiel's returns, JSON list in seat order
    plies      INTEGER NOT NULL,      -- steps of the game, including chance events
    trajectory INTEGER NOT NULL,      -- hash of all actions, chance events included
    run        INTEGER REFERENCES runs,
    ended      INTEGER NOT NULL       -- seconds since 1970; 0: not known
);

-- Everything that outcomes and ratings need, so that a report reads no other page.
CREATE INDEX IF NOT EXISTS outcomes ON episodes (
    game, lineup, deal, status, loser, returns, trajectory
);

CREATE TABLE IF NOT EXISTS seats (            -- what a player did in an episode, counted
    episode           INTEGER NOT NULL REFERENCES episodes,
    seat              INTEGER NOT NULL,
    player            INTEGER NOT NULL REFERENCES players,
    version           TEXT NOT NULL,     -- of the agent's prompts and reader; empty: it has none
    turns             INTEGER NOT NULL,
    first_legal       INTEGER NOT NULL,  -- turns whose first answer was legal
    calls             INTEGER NOT NULL,  -- answers of models
    ok                INTEGER NOT NULL,  -- answers by status
    illegal           INTEGER NOT NULL,
    unparseable       INTEGER NOT NULL,
    errors            INTEGER NOT NULL,  -- calls that failed
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    reasoning_tokens  INTEGER NOT NULL,
    reasoned          INTEGER NOT NULL,  -- calls with known reasoning tokens
    uncounted         INTEGER NOT NULL,  -- calls with unknown tokens
    cost_picousd      INTEGER NOT NULL,
    unpriced          INTEGER NOT NULL,  -- calls with unknown cost
    latency_ms        REAL NOT NULL,     -- of all calls together
    origins           TEXT,              -- JSON list of [origin, answers, illegal answers]
    details           TEXT,              -- JSON of counts that are rarely needed
    PRIMARY KEY (episode, seat)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS transcripts (      -- all moves of an episode, compressed (transcript.py)
    episode INTEGER PRIMARY KEY REFERENCES episodes,
    moves   BLOB NOT NULL
);

CREATE TABLE IF NOT EXISTS calls (            -- the journal: replies of episodes that have not ended or have failed
    episode TEXT NOT NULL,      -- key
    ply     INTEGER NOT NULL,
    seat    INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    request TEXT NOT NULL,      -- JSON of ModelCall
    reply   TEXT NOT NULL,      -- JSON of ModelReply
    PRIMARY KEY (episode, ply, seat, attempt)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS failed_calls (     -- requests without a stored reply that cost something, or may have
    episode           TEXT NOT NULL,     -- key
    ply               INTEGER NOT NULL,
    seat              INTEGER NOT NULL,
    attempt           INTEGER NOT NULL,
    number            INTEGER NOT NULL,  -- counts from 0: the same call can fail several times
    reason            TEXT NOT NULL,     -- code and reason of the error; SENT: no answer yet; LOST: the answer never came
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    cost_picousd      INTEGER,           -- NULL: not known, but the provider may have billed something
    max_cost_picousd  INTEGER,           -- the most that this can be; NULL: not known, or cost_picousd is
    run               INTEGER REFERENCES runs,
    PRIMARY KEY (episode, ply, seat, attempt, number)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS scores (           -- what a model would play, without an episode (`arena exploitability`)
    player   INTEGER NOT NULL REFERENCES players,
    game     INTEGER NOT NULL REFERENCES games,
    version  TEXT NOT NULL,     -- of the agent's prompts
    state    TEXT NOT NULL,     -- seat and information state
    logprobs TEXT NOT NULL,     -- JSON list of [action, log-probability] of the legal actions
    PRIMARY KEY (player, game, version, state)
) WITHOUT ROWID;
