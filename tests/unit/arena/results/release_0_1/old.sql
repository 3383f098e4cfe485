BEGIN TRANSACTION;
CREATE TABLE calls (            -- the journal: replies of episodes that have not ended or have failed
    episode TEXT NOT NULL,
    ply     INTEGER NOT NULL,
    seat    INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    request TEXT NOT NULL,      -- JSON of ModelCall
    reply   TEXT NOT NULL,      -- JSON of ModelReply
    PRIMARY KEY (episode, ply, seat, attempt)
) WITHOUT ROWID;
INSERT INTO "calls" VALUES('kuhn_poker/0/hf_a,hf_b',2,0,0,'{"choices":["Pass","Bet"],"continuations":null,"messages":[["user","Game: Kuhn poker with 2 players.\nRules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.\nActions: Pass or Bet.\nReturns: the chips a player wins or loses overall, including the chips put in.\nYour goal: get the highest return you can.\n\nReply with one of the legal actions, exactly as listed, and nothing else.\n\nYou are player 0.\nYour card: Jack\nBetting so far: none\nPot: 2 chips\nLegal actions: Pass (Check), Bet\n\nYour action:"]],"model":"hf_a","sampling":{"temperature":0.5}}','{"completion_tokens":2,"cost_usd":0.01,"finish_reason":"stop","latency_ms":86.57142857142857,"logprobs":null,"model":"hf_a","prompt_tokens":10,"reasoning":"","reasoning_tokens":0,"text":"Bet"}');
INSERT INTO "calls" VALUES('kuhn_poker/0/hf_b,hf_a',2,0,0,'{"choices":["Pass","Bet"],"continuations":null,"messages":[["user","Game: Kuhn poker with 2 players.\nRules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.\nActions: Pass or Bet.\nReturns: the chips a player wins or loses overall, including the chips put in.\nYour goal: get the highest return you can.\n\nReply with one of the legal actions, exactly as listed, and nothing else.\n\nYou are player 0.\nYour card: Jack\nBetting so far: none\nPot: 2 chips\nLegal actions: Pass (Check), Bet\n\nYour action:"]],"model":"hf_b","sampling":{"temperature":0.5}}','{"completion_tokens":2,"cost_usd":0.01,"finish_reason":"stop","latency_ms":55.0,"logprobs":null,"model":"hf_b","prompt_tokens":10,"reasoning":"","reasoning_tokens":0,"text":"Pass"}');
CREATE TABLE episodes (
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
INSERT INTO "episodes" VALUES('kuhn_poker/0/hf_a,hf_b','kuhn_poker',0,'["hf_a","hf_b"]',5044458376204708083,'failed','seat 1: UNAVAILABLE UNAVAILABLE: down',NULL,NULL,3);
INSERT INTO "episodes" VALUES('kuhn_poker/0/hf_b,hf_a','kuhn_poker',0,'["hf_b","hf_a"]',5044458376204708083,'failed','seat 1: UNAVAILABLE UNAVAILABLE: down',NULL,NULL,3);
INSERT INTO "episodes" VALUES('matrix_rps/0/hf_a,hf_b','matrix_rps',0,'["hf_a","hf_b"]',4324907074271224066,'finished',NULL,NULL,'[0.0,0.0]',1);
CREATE TABLE experiments (
    name        TEXT PRIMARY KEY,
    config      TEXT NOT NULL,  -- the whole configuration, as canonical JSON
    fingerprint TEXT NOT NULL   -- SHA-256 of the settings that decide the games
) WITHOUT ROWID;
INSERT INTO "experiments" VALUES('old','{"games":["kuhn_poker","matrix_rps"],"models":["hf_a","hf_b"],"name":"old","reply":"choices","temperature":0.5}','4860c8804f66abd284c3093b5fc8178bc5f088f6e5a3c7144cac70f7905e0926');
CREATE TABLE models (           -- every participant, model or not
    agent  TEXT PRIMARY KEY,    -- its name in the experiment
    type   TEXT NOT NULL,       -- llm, random, human, mcts, minimax
    model  TEXT,                -- llm: the full prefixed name
    config TEXT NOT NULL        -- its settings, as canonical JSON
) WITHOUT ROWID;
INSERT INTO "models" VALUES('hf_a','llm','hf_a','{"model":"hf_a","on_illegal":"forfeit","reply":"choices","score_pick":"argmax","send_seed":false,"system":"","temperature":0.5,"type":"llm"}');
INSERT INTO "models" VALUES('hf_b','llm','hf_b','{"model":"hf_b","on_illegal":"forfeit","reply":"choices","score_pick":"argmax","send_seed":false,"system":"","temperature":0.5,"type":"llm"}');
CREATE TABLE moves (            -- one row for each answer and each chance event
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
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    reasoning_tokens  INTEGER,
    cost_usd          REAL,
    PRIMARY KEY (episode, ply, seat, attempt)
) WITHOUT ROWID;
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_a,hf_b',0,-1,0,NULL,'ok',NULL,NULL,0,'Deal:0',NULL,'player 0: no card yet
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_a,hf_b',1,-1,0,NULL,'ok',NULL,NULL,1,'Deal:1',NULL,'player 0: Jack
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_a,hf_b',2,0,0,'hf_a','ok',NULL,NULL,1,'Bet','[[0,"Pass"],[1,"Bet"]]','player 0: Jack
player 1: Queen
Betting so far: none
Pot: 2 chips','Game: Kuhn poker with 2 players.
Rules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0.
Your card: Jack
Betting so far: none
Pot: 2 chips
Legal actions: Pass (Check), Bet

Your action:','Bet',NULL,'hf_a',8.65714285714285694019e+01,10,2,0,0.01);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_a,hf_b',3,1,0,'hf_b','error','UNAVAILABLE UNAVAILABLE: down',NULL,NULL,NULL,'[[0,"Pass"],[1,"Bet"]]','player 0: Jack
player 1: Queen
Betting so far: player 0: Bet
Pot: 3 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_b,hf_a',0,-1,0,NULL,'ok',NULL,NULL,0,'Deal:0',NULL,'player 0: no card yet
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_b,hf_a',1,-1,0,NULL,'ok',NULL,NULL,1,'Deal:1',NULL,'player 0: Jack
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_b,hf_a',2,0,0,'hf_b','ok',NULL,NULL,0,'Pass','[[0,"Pass"],[1,"Bet"]]','player 0: Jack
player 1: Queen
Betting so far: none
Pot: 2 chips','Game: Kuhn poker with 2 players.
Rules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0.
Your card: Jack
Betting so far: none
Pot: 2 chips
Legal actions: Pass (Check), Bet

Your action:','Pass',NULL,'hf_b',55.0,10,2,0,0.01);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_b,hf_a',3,1,0,'hf_a','error','UNAVAILABLE UNAVAILABLE: down',NULL,NULL,NULL,'[[0,"Pass"],[1,"Bet"]]','player 0: Jack
player 1: Queen
Betting so far: player 0: Pass (Check)
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('matrix_rps/0/hf_a,hf_b',0,0,0,'hf_a','ok',NULL,NULL,2,'Scissors','[[0,"Rock"],[1,"Paper"],[2,"Scissors"]]','No round has been played yet.','Game: Rock, Paper, Scissors.
Rules: two players choose one action each, at the same time, without knowing what the other player chooses. The game has one round. The payoffs of a round are:
- player 0: Rock, player 1: Rock -> player 0 gets 0, player 1 gets 0
- player 0: Rock, player 1: Paper -> player 0 gets -1, player 1 gets 1
- player 0: Rock, player 1: Scissors -> player 0 gets 1, player 1 gets -1
- player 0: Paper, player 1: Rock -> player 0 gets 1, player 1 gets -1
- player 0: Paper, player 1: Paper -> player 0 gets 0, player 1 gets 0
- player 0: Paper, player 1: Scissors -> player 0 gets -1, player 1 gets 1
- player 0: Scissors, player 1: Rock -> player 0 gets -1, player 1 gets 1
- player 0: Scissors, player 1: Paper -> player 0 gets 1, player 1 gets -1
- player 0: Scissors, player 1: Scissors -> player 0 gets 0, player 1 gets 0
Actions: Rock, Paper, Scissors.
Returns: the payoff.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0.
Both players choose now.
Legal actions: Rock, Paper, Scissors

Your action:','Scissors',NULL,'hf_a',2.41428571428571423504e+01,10,2,0,0.01);
INSERT INTO "moves" VALUES('matrix_rps/0/hf_a,hf_b',0,1,0,'hf_b','ok',NULL,NULL,2,'Scissors','[[0,"Rock"],[1,"Paper"],[2,"Scissors"]]','No round has been played yet.','Game: Rock, Paper, Scissors.
Rules: two players choose one action each, at the same time, without knowing what the other player chooses. The game has one round. The payoffs of a round are:
- player 0: Rock, player 1: Rock -> player 0 gets 0, player 1 gets 0
- player 0: Rock, player 1: Paper -> player 0 gets -1, player 1 gets 1
- player 0: Rock, player 1: Scissors -> player 0 gets 1, player 1 gets -1
- player 0: Paper, player 1: Rock -> player 0 gets 1, player 1 gets -1
- player 0: Paper, player 1: Paper -> player 0 gets 0, player 1 gets 0
- player 0: Paper, player 1: Scissors -> player 0 gets -1, player 1 gets 1
- player 0: Scissors, player 1: Rock -> player 0 gets -1, player 1 gets 1
- player 0: Scissors, player 1: Paper -> player 0 gets 1, player 1 gets -1
- player 0: Scissors, player 1: Scissors -> player 0 gets 0, player 1 gets 0
Actions: Rock, Paper, Scissors.
Returns: the payoff.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1.
Both players choose now.
Legal actions: Rock, Paper, Scissors

Your action:','Scissors',NULL,'hf_b',121.0,10,2,0,0.01);
COMMIT;
PRAGMA application_id = 1632783437;
PRAGMA user_version = 2;
