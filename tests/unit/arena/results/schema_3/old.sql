PRAGMA application_id = 1632783437;
PRAGMA user_version = 3;
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
INSERT INTO "calls" VALUES('kuhn_poker/9/hf_a,hf_b',2,0,0,'{}','{"completion_tokens":2,"latency_ms":1.0,"model":"hf_a","prompt_tokens":10,"text":"Pass"}');
INSERT INTO "calls" VALUES('tic_tac_toe/1/hf_b,hf_a',0,0,0,'{"choices":["x(0,0)","x(0,1)","x(0,2)","x(1,0)","x(1,1)","x(1,2)","x(2,0)","x(2,1)","x(2,2)"],"continuations":null,"messages":[["user","Game: tic-tac-toe.\nRules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.\nActions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.\nReturns: 1 for a win, 0 for a draw, -1 for a loss.\nYour goal: get the highest return you can.\n\nReply with one of the legal actions, exactly as listed, and nothing else.\n\nYou are player 0. Your marks are x.\nThe board (. is a free cell):\n  0 1 2\n0 . . .\n1 . . .\n2 . . .\nLegal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(1,2), x(2,0), x(2,1), x(2,2)\n\nYour action:"]],"model":"hf_b","sampling":{}}','{"completion_tokens":2,"cost_picousd":10000000000,"finish_reason":"stop","latency_ms":87.57142857142857,"model":"hf_b","prompt_tokens":10,"reasoning":"thought about it","reasoning_tokens":0,"text":"x(1,2)"}');
INSERT INTO "calls" VALUES('tic_tac_toe/1/hf_b,hf_a',1,1,0,'{"choices":["o(0,0)","o(0,1)","o(0,2)","o(1,0)","o(1,1)","o(2,0)","o(2,1)","o(2,2)"],"continuations":null,"messages":[["user","Game: tic-tac-toe.\nRules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.\nActions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.\nReturns: 1 for a win, 0 for a draw, -1 for a loss.\nYour goal: get the highest return you can.\n\nReply with one of the legal actions, exactly as listed, and nothing else.\n\nYou are player 1. Your marks are o.\nThe board (. is a free cell):\n  0 1 2\n0 . . .\n1 . . x\n2 . . .\nLegal actions: o(0,0), o(0,1), o(0,2), o(1,0), o(1,1), o(2,0), o(2,1), o(2,2)\n\nYour action:"]],"model":"hf_a","sampling":{}}','{"completion_tokens":2,"cost_picousd":10000000000,"finish_reason":"stop","latency_ms":26.0,"model":"hf_a","prompt_tokens":10,"reasoning":"thought about it","reasoning_tokens":0,"text":"o(2,2)"}');
INSERT INTO "calls" VALUES('tic_tac_toe/1/hf_b,hf_a',2,0,0,'{"choices":["x(0,0)","x(0,1)","x(0,2)","x(1,0)","x(1,1)","x(2,0)","x(2,1)"],"continuations":null,"messages":[["user","Game: tic-tac-toe.\nRules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.\nActions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.\nReturns: 1 for a win, 0 for a draw, -1 for a loss.\nYour goal: get the highest return you can.\n\nReply with one of the legal actions, exactly as listed, and nothing else.\n\nYou are player 0. Your marks are x.\nThe board (. is a free cell):\n  0 1 2\n0 . . .\n1 . . x\n2 . . o\nLegal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(2,0), x(2,1)\n\nYour action:"]],"model":"hf_b","sampling":{}}','{"completion_tokens":2,"cost_picousd":10000000000,"finish_reason":"stop","latency_ms":47.857142857142854,"model":"hf_b","prompt_tokens":10,"reasoning":"thought about it","reasoning_tokens":0,"text":"z9"}');
INSERT INTO "calls" VALUES('tic_tac_toe/1/hf_b,hf_a',2,0,1,'{"choices":["x(0,0)","x(0,1)","x(0,2)","x(1,0)","x(1,1)","x(2,0)","x(2,1)"],"continuations":null,"messages":[["user","Game: tic-tac-toe.\nRules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.\nActions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.\nReturns: 1 for a win, 0 for a draw, -1 for a loss.\nYour goal: get the highest return you can.\n\nReply with one of the legal actions, exactly as listed, and nothing else.\n\nYou are player 0. Your marks are x.\nThe board (. is a free cell):\n  0 1 2\n0 . . .\n1 . . x\n2 . . o\nLegal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(2,0), x(2,1)\n\nYour action:"],["assistant","z9"],["user","Not accepted: \"z9\" is not a legal action. Try again.\nReply with one of the legal actions, exactly as listed, and nothing else.\n\nYour action:"]],"model":"hf_b","sampling":{}}','{"completion_tokens":2,"cost_picousd":10000000000,"finish_reason":"stop","latency_ms":140.28571428571428,"model":"hf_b","prompt_tokens":10,"reasoning":"thought about it","reasoning_tokens":0,"text":"x(2,1)"}');
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
INSERT INTO "episodes" VALUES('kuhn_poker/0/hf_a,hf_b','kuhn_poker',0,'["hf_a","hf_b"]',3298023069903815188,'forfeited','seat 0: illegal: "nonsense" is not a legal action',0,NULL,2);
INSERT INTO "episodes" VALUES('kuhn_poker/0/hf_b,hf_a','kuhn_poker',0,'["hf_b","hf_a"]',3298023069903815188,'finished',NULL,NULL,'[-1.0,1.0]',4);
INSERT INTO "episodes" VALUES('kuhn_poker/1/hf_a,hf_b','kuhn_poker',1,'["hf_a","hf_b"]',3438491400211785475,'finished',NULL,NULL,'[1.0,-1.0]',4);
INSERT INTO "episodes" VALUES('kuhn_poker/1/hf_b,hf_a','kuhn_poker',1,'["hf_b","hf_a"]',3438491400211785475,'finished',NULL,NULL,'[2.0,-2.0]',4);
INSERT INTO "episodes" VALUES('tic_tac_toe/0/hf_a,hf_b','tic_tac_toe',0,'["hf_a","hf_b"]',6427835782173800880,'finished',NULL,NULL,'[1.0,-1.0]',7);
INSERT INTO "episodes" VALUES('tic_tac_toe/0/hf_b,hf_a','tic_tac_toe',0,'["hf_b","hf_a"]',6427835782173800880,'finished',NULL,NULL,'[1.0,-1.0]',7);
INSERT INTO "episodes" VALUES('tic_tac_toe/1/hf_a,hf_b','tic_tac_toe',1,'["hf_a","hf_b"]',5431343104697558286,'finished',NULL,NULL,'[0.0,0.0]',9);
INSERT INTO "episodes" VALUES('tic_tac_toe/1/hf_b,hf_a','tic_tac_toe',1,'["hf_b","hf_a"]',5431343104697558286,'failed','seat 1: UNAVAILABLE BACKEND_UNREACHABLE: the model is down',NULL,NULL,3);
CREATE TABLE experiments (
    name        TEXT PRIMARY KEY,
    config      TEXT NOT NULL,  -- the whole configuration, as canonical JSON
    fingerprint TEXT NOT NULL   -- SHA-256 of the settings that decide the games
) WITHOUT ROWID;
INSERT INTO "experiments" VALUES('small','{"episodes":2,"games":["tic_tac_toe","kuhn_poker"],"models":["hf_a","hf_b"],"name":"small","on_illegal":"retry 1","reply":"choices"}','6dc458f25fc9b2b79f199f968da4936fa5211ce489b2b75fb26b9e720c74e637');
CREATE TABLE failed_calls (     -- calls that failed although they took something; other runs may repeat them
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
CREATE TABLE models (           -- every participant, model or not
    agent  TEXT PRIMARY KEY,    -- its name in the experiment
    type   TEXT NOT NULL,       -- llm, random, human, mcts, minimax
    model  TEXT,                -- llm: the full prefixed name
    config TEXT NOT NULL        -- its settings, as canonical JSON
) WITHOUT ROWID;
INSERT INTO "models" VALUES('hf_a','llm','hf_a','{"model":"hf_a","on_illegal":"retry 1","reply":"choices","score_pick":"argmax","send_seed":false,"system":"","type":"llm"}');
INSERT INTO "models" VALUES('hf_b','llm','hf_b','{"model":"hf_b","on_illegal":"retry 1","reply":"choices","score_pick":"argmax","send_seed":false,"system":"","type":"llm"}');
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
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_a,hf_b',0,-1,0,NULL,'ok',NULL,NULL,1,'Deal:1',NULL,'player 0: no card yet
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_a,hf_b',1,-1,0,NULL,'ok',NULL,NULL,2,'Deal:2',NULL,'player 0: Queen
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_a,hf_b',2,0,0,'hf_a','illegal','"nonsense" is not a legal action','retry',NULL,NULL,'[[0,"Pass"],[1,"Bet"]]','player 0: Queen
player 1: King
Betting so far: none
Pot: 2 chips','Game: Kuhn poker with 2 players.
Rules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0.
Your card: Queen
Betting so far: none
Pot: 2 chips
Legal actions: Pass (Check), Bet

Your action:','nonsense','thought about it','hf_a',8.65714285714285694019e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_a,hf_b',2,0,1,'hf_a','illegal','"nonsense" is not a legal action','forfeit',NULL,NULL,'[[0,"Pass"],[1,"Bet"]]','player 0: Queen
player 1: King
Betting so far: none
Pot: 2 chips','[user]
Game: Kuhn poker with 2 players.
Rules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0.
Your card: Queen
Betting so far: none
Pot: 2 chips
Legal actions: Pass (Check), Bet

Your action:

[assistant]
nonsense

[user]
Not accepted: "nonsense" is not a legal action. Try again.
Reply with one of the legal actions, exactly as listed, and nothing else.

Your action:','nonsense','thought about it','hf_a',6.38571428571428540994e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_b,hf_a',0,-1,0,NULL,'ok',NULL,NULL,1,'Deal:1',NULL,'player 0: no card yet
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_b,hf_a',1,-1,0,NULL,'ok',NULL,NULL,2,'Deal:2',NULL,'player 0: Queen
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_b,hf_a',2,0,0,'hf_b','ok',NULL,NULL,0,'Pass','[[0,"Pass"],[1,"Bet"]]','player 0: Queen
player 1: King
Betting so far: none
Pot: 2 chips','Game: Kuhn poker with 2 players.
Rules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0.
Your card: Queen
Betting so far: none
Pot: 2 chips
Legal actions: Pass (Check), Bet

Your action:','Pass','thought about it','hf_b',55.0,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/0/hf_b,hf_a',3,1,0,'hf_a','ok',NULL,NULL,0,'Pass','[[0,"Pass"],[1,"Bet"]]','player 0: Queen
player 1: King
Betting so far: player 0: Pass (Check)
Pot: 2 chips','Game: Kuhn poker with 2 players.
Rules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1.
Your card: King
Betting so far: player 0: Pass (Check)
Pot: 2 chips
Legal actions: Pass (Check), Bet

Your action:','Pass','thought about it','hf_a',1.15571428571428569398e+02,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/1/hf_a,hf_b',0,-1,0,NULL,'ok',NULL,NULL,2,'Deal:2',NULL,'player 0: no card yet
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/1/hf_a,hf_b',1,-1,0,NULL,'ok',NULL,NULL,1,'Deal:1',NULL,'player 0: King
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/1/hf_a,hf_b',2,0,0,'hf_a','ok',NULL,NULL,1,'Bet','[[0,"Pass"],[1,"Bet"]]','player 0: King
player 1: Queen
Betting so far: none
Pot: 2 chips','Game: Kuhn poker with 2 players.
Rules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0.
Your card: King
Betting so far: none
Pot: 2 chips
Legal actions: Pass (Check), Bet

Your action:','Bet','thought about it','hf_a',1.05142857142857138797e+02,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/1/hf_a,hf_b',3,1,0,'hf_b','ok',NULL,NULL,0,'Pass','[[0,"Pass"],[1,"Bet"]]','player 0: King
player 1: Queen
Betting so far: player 0: Bet
Pot: 3 chips','Game: Kuhn poker with 2 players.
Rules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1.
Your card: Queen
Betting so far: player 0: Bet
Pot: 3 chips
Legal actions: Pass (Fold), Bet (Call)

Your action:','Pass','thought about it','hf_b',2.55714285714285729502e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/1/hf_b,hf_a',0,-1,0,NULL,'ok',NULL,NULL,2,'Deal:2',NULL,'player 0: no card yet
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/1/hf_b,hf_a',1,-1,0,NULL,'ok',NULL,NULL,1,'Deal:1',NULL,'player 0: King
player 1: no card yet
Betting so far: none
Pot: 2 chips',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/1/hf_b,hf_a',2,0,0,'hf_b','ok',NULL,NULL,1,'Bet','[[0,"Pass"],[1,"Bet"]]','player 0: King
player 1: Queen
Betting so far: none
Pot: 2 chips','Game: Kuhn poker with 2 players.
Rules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0.
Your card: King
Betting so far: none
Pot: 2 chips
Legal actions: Pass (Check), Bet

Your action:','Bet','thought about it','hf_b',130.0,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('kuhn_poker/1/hf_b,hf_a',3,1,0,'hf_a','ok',NULL,NULL,1,'Bet','[[0,"Pass"],[1,"Bet"]]','player 0: King
player 1: Queen
Betting so far: player 0: Bet
Pot: 3 chips','Game: Kuhn poker with 2 players.
Rules: the deck has 3 cards: Jack, Queen, King, from the lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or when all other players have answered the bet. Among the players still in, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1.
Your card: Queen
Betting so far: player 0: Bet
Pot: 3 chips
Legal actions: Pass (Fold), Bet (Call)

Your action:','Bet','thought about it','hf_a',9.65714285714285694019e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_a,hf_b',0,0,0,'hf_a','ok',NULL,NULL,6,'x(2,0)','[[0,"x(0,0)"],[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[4,"x(1,1)"],[5,"x(1,2)"],[6,"x(2,0)"],[7,"x(2,1)"],[8,"x(2,2)"]]','  0 1 2
0 . . .
1 . . .
2 . . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . .
2 . . .
Legal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(1,2), x(2,0), x(2,1), x(2,2)

Your action:','x(2,0)','thought about it','hf_a',1.2928571428571427759e+02,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_a,hf_b',1,1,0,'hf_b','ok',NULL,NULL,5,'o(1,2)','[[0,"o(0,0)"],[1,"o(0,1)"],[2,"o(0,2)"],[3,"o(1,0)"],[4,"o(1,1)"],[5,"o(1,2)"],[7,"o(2,1)"],[8,"o(2,2)"]]','  0 1 2
0 . . .
1 . . .
2 x . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . .
2 x . .
Legal actions: o(0,0), o(0,1), o(0,2), o(1,0), o(1,1), o(1,2), o(2,1), o(2,2)

Your action:','o(1,2)','thought about it','hf_b',9.42857142857142918081e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_a,hf_b',2,0,0,'hf_a','illegal','"z9" is not a legal action','retry',NULL,NULL,'[[0,"x(0,0)"],[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[4,"x(1,1)"],[7,"x(2,1)"],[8,"x(2,2)"]]','  0 1 2
0 . . .
1 . . o
2 x . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . o
2 x . .
Legal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(2,1), x(2,2)

Your action:','z9','thought about it','hf_a',5.75714285714285693967e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_a,hf_b',2,0,1,'hf_a','ok',NULL,NULL,4,'x(1,1)','[[0,"x(0,0)"],[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[4,"x(1,1)"],[7,"x(2,1)"],[8,"x(2,2)"]]','  0 1 2
0 . . .
1 . . o
2 x . .','[user]
Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . o
2 x . .
Legal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(2,1), x(2,2)

Your action:

[assistant]
z9

[user]
Not accepted: "z9" is not a legal action. Try again.
Reply with one of the legal actions, exactly as listed, and nothing else.

Your action:','x(1,1)','thought about it','hf_a',9.14285714285714305998e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_a,hf_b',3,1,0,'hf_b','ok',NULL,NULL,0,'o(0,0)','[[0,"o(0,0)"],[1,"o(0,1)"],[2,"o(0,2)"],[3,"o(1,0)"],[7,"o(2,1)"],[8,"o(2,2)"]]','  0 1 2
0 . . .
1 . x o
2 x . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 . . .
1 . x o
2 x . .
Legal actions: o(0,0), o(0,1), o(0,2), o(1,0), o(2,1), o(2,2)

Your action:','o(0,0)','thought about it','hf_b',7.98571428571428612022e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_a,hf_b',4,0,0,'hf_a','ok',NULL,NULL,1,'x(0,1)','[[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[7,"x(2,1)"],[8,"x(2,2)"]]','  0 1 2
0 o . .
1 . x o
2 x . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 o . .
1 . x o
2 x . .
Legal actions: x(0,1), x(0,2), x(1,0), x(2,1), x(2,2)

Your action:','x(0,1)','thought about it','hf_a',3.74285714285714306011e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_a,hf_b',5,1,0,'hf_b','ok',NULL,NULL,8,'o(2,2)','[[2,"o(0,2)"],[3,"o(1,0)"],[7,"o(2,1)"],[8,"o(2,2)"]]','  0 1 2
0 o x .
1 . x o
2 x . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 o x .
1 . x o
2 x . .
Legal actions: o(0,2), o(1,0), o(2,1), o(2,2)

Your action:','o(2,2)','thought about it','hf_b',1.21428571428571430601e+02,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_a,hf_b',6,0,0,'hf_a','ok',NULL,NULL,2,'x(0,2)','[[2,"x(0,2)"],[3,"x(1,0)"],[7,"x(2,1)"]]','  0 1 2
0 o x .
1 . x o
2 x . o','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 o x .
1 . x o
2 x . o
Legal actions: x(0,2), x(1,0), x(2,1)

Your action:','x(0,2)','thought about it','hf_a',5.58571428571428540976e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_b,hf_a',0,0,0,'hf_b','ok',NULL,NULL,5,'x(1,2)','[[0,"x(0,0)"],[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[4,"x(1,1)"],[5,"x(1,2)"],[6,"x(2,0)"],[7,"x(2,1)"],[8,"x(2,2)"]]','  0 1 2
0 . . .
1 . . .
2 . . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . .
2 . . .
Legal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(1,2), x(2,0), x(2,1), x(2,2)

Your action:','x(1,2)','thought about it','hf_b',85.0,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_b,hf_a',1,1,0,'hf_a','ok',NULL,NULL,4,'o(1,1)','[[0,"o(0,0)"],[1,"o(0,1)"],[2,"o(0,2)"],[3,"o(1,0)"],[4,"o(1,1)"],[6,"o(2,0)"],[7,"o(2,1)"],[8,"o(2,2)"]]','  0 1 2
0 . . .
1 . . x
2 . . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . x
2 . . .
Legal actions: o(0,0), o(0,1), o(0,2), o(1,0), o(1,1), o(2,0), o(2,1), o(2,2)

Your action:','o(1,1)','thought about it','hf_a',3.92857142857142847e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_b,hf_a',2,0,0,'hf_b','illegal','"z9" is not a legal action','retry',NULL,NULL,'[[0,"x(0,0)"],[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[6,"x(2,0)"],[7,"x(2,1)"],[8,"x(2,2)"]]','  0 1 2
0 . . .
1 . o x
2 . . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . . .
1 . o x
2 . . .
Legal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(2,0), x(2,1), x(2,2)

Your action:','z9','thought about it','hf_b',3.27142857142857153003e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_b,hf_a',2,0,1,'hf_b','ok',NULL,NULL,1,'x(0,1)','[[0,"x(0,0)"],[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[6,"x(2,0)"],[7,"x(2,1)"],[8,"x(2,2)"]]','  0 1 2
0 . . .
1 . o x
2 . . .','[user]
Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . . .
1 . o x
2 . . .
Legal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(2,0), x(2,1), x(2,2)

Your action:

[assistant]
z9

[user]
Not accepted: "z9" is not a legal action. Try again.
Reply with one of the legal actions, exactly as listed, and nothing else.

Your action:','x(0,1)','thought about it','hf_b',133.0,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_b,hf_a',3,1,0,'hf_a','ok',NULL,NULL,7,'o(2,1)','[[0,"o(0,0)"],[2,"o(0,2)"],[3,"o(1,0)"],[6,"o(2,0)"],[7,"o(2,1)"],[8,"o(2,2)"]]','  0 1 2
0 . x .
1 . o x
2 . . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 . x .
1 . o x
2 . . .
Legal actions: o(0,0), o(0,2), o(1,0), o(2,0), o(2,1), o(2,2)

Your action:','o(2,1)','thought about it','hf_a',2.214285714285714235e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_b,hf_a',4,0,0,'hf_b','ok',NULL,NULL,2,'x(0,2)','[[0,"x(0,0)"],[2,"x(0,2)"],[3,"x(1,0)"],[6,"x(2,0)"],[8,"x(2,2)"]]','  0 1 2
0 . x .
1 . o x
2 . o .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . x .
1 . o x
2 . o .
Legal actions: x(0,0), x(0,2), x(1,0), x(2,0), x(2,2)

Your action:','x(0,2)','thought about it','hf_b',5.32857142857142847009e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_b,hf_a',5,1,0,'hf_a','ok',NULL,NULL,6,'o(2,0)','[[0,"o(0,0)"],[3,"o(1,0)"],[6,"o(2,0)"],[8,"o(2,2)"]]','  0 1 2
0 . x x
1 . o x
2 . o .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 . x x
1 . o x
2 . o .
Legal actions: o(0,0), o(1,0), o(2,0), o(2,2)

Your action:','o(2,0)','thought about it','hf_a',8.87142857142857081936e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/0/hf_b,hf_a',6,0,0,'hf_b','ok',NULL,NULL,8,'x(2,2)','[[0,"x(0,0)"],[3,"x(1,0)"],[8,"x(2,2)"]]','  0 1 2
0 . x x
1 . o x
2 o o .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . x x
1 . o x
2 o o .
Legal actions: x(0,0), x(1,0), x(2,2)

Your action:','x(2,2)','thought about it','hf_b',8.95714285714285693949e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_a,hf_b',0,0,0,'hf_a','ok',NULL,NULL,0,'x(0,0)','[[0,"x(0,0)"],[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[4,"x(1,1)"],[5,"x(1,2)"],[6,"x(2,0)"],[7,"x(2,1)"],[8,"x(2,2)"]]','  0 1 2
0 . . .
1 . . .
2 . . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . .
2 . . .
Legal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(1,2), x(2,0), x(2,1), x(2,2)

Your action:','x(0,0)','thought about it','hf_a',5.25714285714285693967e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_a,hf_b',1,1,0,'hf_b','ok',NULL,NULL,7,'o(2,1)','[[1,"o(0,1)"],[2,"o(0,2)"],[3,"o(1,0)"],[4,"o(1,1)"],[5,"o(1,2)"],[6,"o(2,0)"],[7,"o(2,1)"],[8,"o(2,2)"]]','  0 1 2
0 x . .
1 . . .
2 . . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 x . .
1 . . .
2 . . .
Legal actions: o(0,1), o(0,2), o(1,0), o(1,1), o(1,2), o(2,0), o(2,1), o(2,2)

Your action:','o(2,1)','thought about it','hf_b',1.34428571428571416387e+02,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_a,hf_b',2,0,0,'hf_a','illegal','"z9" is not a legal action','retry',NULL,NULL,'[[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[4,"x(1,1)"],[5,"x(1,2)"],[6,"x(2,0)"],[8,"x(2,2)"]]','  0 1 2
0 x . .
1 . . .
2 . o .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 x . .
1 . . .
2 . o .
Legal actions: x(0,1), x(0,2), x(1,0), x(1,1), x(1,2), x(2,0), x(2,2)

Your action:','z9','thought about it','hf_a',1.26428571428571430597e+02,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_a,hf_b',2,0,1,'hf_a','ok',NULL,NULL,5,'x(1,2)','[[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[4,"x(1,1)"],[5,"x(1,2)"],[6,"x(2,0)"],[8,"x(2,2)"]]','  0 1 2
0 x . .
1 . . .
2 . o .','[user]
Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 x . .
1 . . .
2 . o .
Legal actions: x(0,1), x(0,2), x(1,0), x(1,1), x(1,2), x(2,0), x(2,2)

Your action:

[assistant]
z9

[user]
Not accepted: "z9" is not a legal action. Try again.
Reply with one of the legal actions, exactly as listed, and nothing else.

Your action:','x(1,2)','thought about it','hf_a',117.0,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_a,hf_b',3,1,0,'hf_b','ok',NULL,NULL,2,'o(0,2)','[[1,"o(0,1)"],[2,"o(0,2)"],[3,"o(1,0)"],[4,"o(1,1)"],[6,"o(2,0)"],[8,"o(2,2)"]]','  0 1 2
0 x . .
1 . . x
2 . o .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 x . .
1 . . x
2 . o .
Legal actions: o(0,1), o(0,2), o(1,0), o(1,1), o(2,0), o(2,2)

Your action:','o(0,2)','thought about it','hf_b',1.12285714285714291807e+02,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_a,hf_b',4,0,0,'hf_a','ok',NULL,NULL,6,'x(2,0)','[[1,"x(0,1)"],[3,"x(1,0)"],[4,"x(1,1)"],[6,"x(2,0)"],[8,"x(2,2)"]]','  0 1 2
0 x . o
1 . . x
2 . o .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 x . o
1 . . x
2 . o .
Legal actions: x(0,1), x(1,0), x(1,1), x(2,0), x(2,2)

Your action:','x(2,0)','thought about it','hf_a',65.0,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_a,hf_b',5,1,0,'hf_b','ok',NULL,NULL,3,'o(1,0)','[[1,"o(0,1)"],[3,"o(1,0)"],[4,"o(1,1)"],[8,"o(2,2)"]]','  0 1 2
0 x . o
1 . . x
2 x o .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 x . o
1 . . x
2 x o .
Legal actions: o(0,1), o(1,0), o(1,1), o(2,2)

Your action:','o(1,0)','thought about it','hf_b',6.9714285714285708197e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_a,hf_b',6,0,0,'hf_a','ok',NULL,NULL,8,'x(2,2)','[[1,"x(0,1)"],[4,"x(1,1)"],[8,"x(2,2)"]]','  0 1 2
0 x . o
1 o . x
2 x o .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 x . o
1 o . x
2 x o .
Legal actions: x(0,1), x(1,1), x(2,2)

Your action:','x(2,2)','thought about it','hf_a',1.33714285714285722409e+02,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_a,hf_b',7,1,0,'hf_b','ok',NULL,NULL,4,'o(1,1)','[[1,"o(0,1)"],[4,"o(1,1)"]]','  0 1 2
0 x . o
1 o . x
2 x o x','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 x . o
1 o . x
2 x o x
Legal actions: o(0,1), o(1,1)

Your action:','o(1,1)','thought about it','hf_b',2.45714285714285729511e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_a,hf_b',8,0,0,'hf_a','ok',NULL,NULL,1,'x(0,1)','[[1,"x(0,1)"]]','  0 1 2
0 x . o
1 o o x
2 x o x','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 x . o
1 o o x
2 x o x
Legal actions: x(0,1)

Your action:','x(0,1)','thought about it','hf_a',92.0,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_b,hf_a',0,0,0,'hf_b','ok',NULL,NULL,5,'x(1,2)','[[0,"x(0,0)"],[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[4,"x(1,1)"],[5,"x(1,2)"],[6,"x(2,0)"],[7,"x(2,1)"],[8,"x(2,2)"]]','  0 1 2
0 . . .
1 . . .
2 . . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . .
2 . . .
Legal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(1,2), x(2,0), x(2,1), x(2,2)

Your action:','x(1,2)','thought about it','hf_b',8.75714285714285693967e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_b,hf_a',1,1,0,'hf_a','ok',NULL,NULL,8,'o(2,2)','[[0,"o(0,0)"],[1,"o(0,1)"],[2,"o(0,2)"],[3,"o(1,0)"],[4,"o(1,1)"],[6,"o(2,0)"],[7,"o(2,1)"],[8,"o(2,2)"]]','  0 1 2
0 . . .
1 . . x
2 . . .','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . x
2 . . .
Legal actions: o(0,0), o(0,1), o(0,2), o(1,0), o(1,1), o(2,0), o(2,1), o(2,2)

Your action:','o(2,2)','thought about it','hf_a',26.0,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_b,hf_a',2,0,0,'hf_b','illegal','"z9" is not a legal action','retry',NULL,NULL,'[[0,"x(0,0)"],[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[4,"x(1,1)"],[6,"x(2,0)"],[7,"x(2,1)"]]','  0 1 2
0 . . .
1 . . x
2 . . o','Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . x
2 . . o
Legal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(2,0), x(2,1)

Your action:','z9','thought about it','hf_b',4.78571428571428540959e+01,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_b,hf_a',2,0,1,'hf_b','ok',NULL,NULL,7,'x(2,1)','[[0,"x(0,0)"],[1,"x(0,1)"],[2,"x(0,2)"],[3,"x(1,0)"],[4,"x(1,1)"],[6,"x(2,0)"],[7,"x(2,1)"]]','  0 1 2
0 . . .
1 . . x
2 . . o','[user]
Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss.
Your goal: get the highest return you can.

Reply with one of the legal actions, exactly as listed, and nothing else.

You are player 0. Your marks are x.
The board (. is a free cell):
  0 1 2
0 . . .
1 . . x
2 . . o
Legal actions: x(0,0), x(0,1), x(0,2), x(1,0), x(1,1), x(2,0), x(2,1)

Your action:

[assistant]
z9

[user]
Not accepted: "z9" is not a legal action. Try again.
Reply with one of the legal actions, exactly as listed, and nothing else.

Your action:','x(2,1)','thought about it','hf_b',1.40285714285714277591e+02,'stop',10,2,0,10000000000,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "moves" VALUES('tic_tac_toe/1/hf_b,hf_a',3,1,0,'hf_a','error','UNAVAILABLE BACKEND_UNREACHABLE: the model is down',NULL,NULL,NULL,'[[0,"o(0,0)"],[1,"o(0,1)"],[2,"o(0,2)"],[3,"o(1,0)"],[4,"o(1,1)"],[6,"o(2,0)"]]','  0 1 2
0 . . .
1 . . x
2 . x o',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE run (id TEXT NOT NULL);
INSERT INTO "run" VALUES('2806a49f3d6be893');
COMMIT;
