BEGIN TRANSACTION;
CREATE TABLE calls (            -- the journal: replies of episodes that have not ended or have failed
    episode TEXT NOT NULL,      -- key
    ply     INTEGER NOT NULL,
    seat    INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    request TEXT NOT NULL,      -- JSON of ModelCall
    reply   TEXT NOT NULL,      -- JSON of ModelReply
    PRIMARY KEY (episode, ply, seat, attempt)
) WITHOUT ROWID;
INSERT INTO "calls" VALUES('open',0,0,0,'{}','{"completion_tokens":1,"latency_ms":1.0,"model":"m","prompt_tokens":3,"text":"rock","unknown_attempts":1}');
CREATE TABLE episodes (
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
INSERT INTO "episodes" VALUES(1,'db710600177c204fbd7b675ef19364d3',1,'[1,2]',2072707392468119184,0,'finished',NULL,NULL,'[0.0,0.0]',1,2604698608986347625,1,1795944063);
INSERT INTO "episodes" VALUES(2,'17fc040d3910046ae991bf57ecc01bcb',1,'[1,2]',8437466242339054604,1,'finished',NULL,NULL,'[1.0,-1.0]',1,1774166781990091952,1,1795944063);
CREATE TABLE experiments (      -- who requested episodes; owns none of them
    name   TEXT PRIMARY KEY,
    config TEXT NOT NULL        -- its latest file, as canonical JSON
) WITHOUT ROWID;
INSERT INTO "experiments" VALUES('old','{"agents":{"player_0":{"model":"openrouter_a/b","reply":"choices","type":"llm"},"player_1":{"type":"random"}},"episodes":2,"games":["matrix_rps"],"name":"old"}');
CREATE TABLE failed_calls (     -- requests without a stored reply that cost something, or may have
    episode           TEXT NOT NULL,     -- key
    ply               INTEGER NOT NULL,
    seat              INTEGER NOT NULL,
    attempt           INTEGER NOT NULL,
    number            INTEGER NOT NULL,  -- counts from 0: the same call can fail several times
    reason            TEXT NOT NULL,     -- code and reason of the error; SENT: no answer yet; LOST: the answer never came
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    cost_picousd      INTEGER,           -- NULL: not known, but the provider may have billed something
    run               INTEGER REFERENCES runs,
    PRIMARY KEY (episode, ply, seat, attempt, number)
) WITHOUT ROWID;
INSERT INTO "failed_calls" VALUES('open',0,0,0,0,'UNKNOWN',NULL,NULL,NULL,2);
INSERT INTO "failed_calls" VALUES('open',1,0,0,0,'LOST',NULL,NULL,NULL,2);
CREATE TABLE games (
    id         INTEGER PRIMARY KEY,
    game       TEXT NOT NULL UNIQUE,  -- OpenSpiel's string, with parameters
    dictionary BLOB                   -- of zlib, for the game's transcripts
);
INSERT INTO "games" VALUES(1,'matrix_rps',X'7B22706C79223A5B302C305D2C2273656174223A5B302C315D2C22617474656D7074223A5B302C305D2C22737461747573223A5B226F6B222C226F6B225D2C22616374696F6E223A5B302C305D2C22616374696F6E5F74657874223A5B22526F636B222C22526F636B225D2C226C6567616C5F616374696F6E73223A5B5B5B302C22526F636B225D2C5B312C225061706572225D2C5B322C2253636973736F7273225D5D2C5B5B302C22526F636B225D2C5B312C225061706572225D2C5B322C2253636973736F7273225D5D5D2C22626F617264223A5B224E6F20726F756E6420686173206265656E20706C61796564207965742E222C224E6F20726F756E6420686173206265656E20706C61796564207965742E225D2C2270726F6D7074223A5B2247616D653A20526F636B2C2050617065722C2053636973736F72732E5C6E52756C65733A2074776F20706C61796572732063686F6F7365206F6E6520616374696F6E20656163682C206174207468652073616D652074696D652C20776974686F7574206B6E6F77696E67207768617420746865206F7468657220706C617965722063686F6F7365732E205468652067616D6520686173206F6E6520726F756E642E20546865207061796F666673206F66206120726F756E64206172653A5C6E2D20706C6179657220303A20526F636B2C20706C6179657220313A20526F636B202D3E20706C617965722030206765747320302C20706C617965722031206765747320305C6E2D20706C6179657220303A20526F636B2C20706C6179657220313A205061706572202D3E20706C6179657220302067657473202D312C20706C617965722031206765747320315C6E2D20706C6179657220303A20526F636B2C20706C6179657220313A2053636973736F7273202D3E20706C617965722030206765747320312C20706C6179657220312067657473202D315C6E2D20706C6179657220303A2050617065722C20706C6179657220313A20526F636B202D3E20706C617965722030206765747320312C20706C6179657220312067657473202D315C6E2D20706C6179657220303A2050617065722C20706C6179657220313A205061706572202D3E20706C617965722030206765747320302C20706C617965722031206765747320305C6E2D20706C6179657220303A2050617065722C20706C6179657220313A2053636973736F7273202D3E20706C6179657220302067657473202D312C20706C617965722031206765747320315C6E2D20706C6179657220303A2053636973736F72732C20706C6179657220313A20526F636B202D3E20706C6179657220302067657473202D312C20706C617965722031206765747320315C6E2D20706C6179657220303A2053636973736F72732C20706C6179657220313A205061706572202D3E20706C617965722030206765747320312C20706C6179657220312067657473202D315C6E2D20706C6179657220303A2053636973736F72732C20706C6179657220313A2053636973736F7273202D3E20706C617965722030206765747320302C20706C617965722031206765747320305C6E416374696F6E733A20526F636B2C2050617065722C2053636973736F72732E5C6E52657475726E733A20746865207061796F66662E5C6E596F757220676F616C3A206765742074686520686967686573742072657475726E20796F752063616E2E5C6E5C6E5265706C792077697468206F6E65206F6620746865206C6567616C20616374696F6E732C2065786163746C79206173206C69737465642C20616E64206E6F7468696E6720656C73652E5C6E5C6E596F752061726520706C6179657220302E5C6E426F746820706C61796572732063686F6F7365206E6F772E5C6E4C6567616C20616374696F6E732C206F6E6520706572206C696E653A5C6E526F636B5C6E50617065725C6E53636973736F72735C6E5C6E596F757220616374696F6E3A222C6E756C6C5D2C227265706C79223A5B22526F636B222C6E756C6C5D2C226D6F64656C223A5B226F70656E726F757465725F612F62222C6E756C6C5D2C226C6174656E63795F6D73223A5B33332E35373134323835373134323835372C6E756C6C5D2C2266696E6973685F726561736F6E223A5B2273746F70222C6E756C6C5D2C2270726F6D70745F746F6B656E73223A5B31302C6E756C6C5D2C22636F6D706C6574696F6E5F746F6B656E73223A5B322C6E756C6C5D2C22726561736F6E696E675F746F6B656E73223A5B302C6E756C6C5D2C22636F73745F7069636F757364223A5B31303030303030303030302C6E756C6C5D2C227265706C61796564223A5B302C6E756C6C5D2C2272656164696E67223A5B22737472696374222C6E756C6C5D7D');
CREATE TABLE meta (             -- one row
    open   INTEGER NOT NULL,    -- 1: a process writes to the file, or was killed
    run_id TEXT NOT NULL        -- prefix of the ids of all requests
);
INSERT INTO "meta" VALUES(0,'315e64501ebaceee');
CREATE TABLE names (            -- how experiments call the players
    id         INTEGER PRIMARY KEY,
    experiment TEXT NOT NULL,
    name       TEXT NOT NULL,
    player     INTEGER NOT NULL REFERENCES players,
    UNIQUE (experiment, name, player)
);
INSERT INTO "names" VALUES(1,'old','player_0',1);
INSERT INTO "names" VALUES(2,'old','player_1',2);
CREATE TABLE origins (          -- who answered for a model, and how
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
INSERT INTO "origins" VALUES(1,'openrouter_a/b','','','','','','');
CREATE TABLE players (          -- every participant, model or not
    id     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,  -- hash of the other columns
    type   TEXT NOT NULL,         -- llm, random, human, mcts, minimax, ...
    model  TEXT,                  -- llm: the full prefixed name
    config TEXT NOT NULL,         -- its settings, as canonical JSON
    copy   INTEGER NOT NULL       -- tells players of one experiment with equal settings apart
);
INSERT INTO "players" VALUES(1,'b09e10817a6ea3635afbee319941f1f2','llm','openrouter_a/b','{"model":"openrouter_a/b","on_illegal":"forfeit","reply":"choices","score_pick":"argmax","send_seed":false,"system":"","type":"llm"}',0);
INSERT INTO "players" VALUES(2,'c94471f4d792ce6035739da9fa6d5baa','random',NULL,'{"type":"random"}',0);
CREATE TABLE runs (             -- a process that played, and what it spent
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
    unpriced     INTEGER NOT NULL       -- replies with unknown cost
);
INSERT INTO "runs" VALUES(1,'ca0d2e14d05d206cf5f1baef8508e3e3','old',0,'0.1.0','0.1.0','2.0.2','3.11.7','0000000000000000',24,20000000000,0,0);
INSERT INTO "runs" VALUES(2,'b0b7a013a314d12380b72caa5b4d72c6','old',0,'0.1.0','0.1.0','2.0.2','3.11.7','0000000000000000',4,0,0,3);
CREATE TABLE seats (            -- what a player did in an episode, counted
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
INSERT INTO "seats" VALUES(1,0,1,'71b2dc0b.2',1,1,1,1,0,0,0,10,2,0,1,0,10000000000,0,3.3571428571428569398e+01,'[[1,1,0]]',NULL);
INSERT INTO "seats" VALUES(1,1,2,'',1,1,0,1,0,0,0,0,0,0,0,0,0,0,0.0,NULL,NULL);
INSERT INTO "seats" VALUES(2,0,1,'71b2dc0b.2',1,1,1,1,0,0,0,10,2,0,1,0,10000000000,0,1.61428571428571423496e+01,'[[1,1,0]]',NULL);
INSERT INTO "seats" VALUES(2,1,2,'',1,1,0,1,0,0,0,0,0,0,0,0,0,0,0.0,NULL,NULL);
CREATE TABLE transcripts (      -- all moves of an episode, compressed (transcript.py)
    episode INTEGER PRIMARY KEY REFERENCES episodes,
    moves   BLOB NOT NULL
);
INSERT INTO "transcripts" VALUES(1,X'78BB5BA0413AAB1EADC246ABB0D12A6CB40A1BADC246ABB0A1598501005BA0413A');
INSERT INTO "transcripts" VALUES(2,X'78BB5BA0413AABA65E156684B30A435433A3D5D86835365A8D8D5663A3D5D880546386667AC89518901C2EF518006B984332');
CREATE INDEX outcomes ON episodes (
    game, lineup, deal, status, loser, returns, trajectory
);
COMMIT;
PRAGMA application_id = 1632783437;
PRAGMA user_version = 4;
